//! The loader, on a file of any bytes.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| keyway_fuzz::load(input));

/// Without the fuzzer: the files that are given, once each.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    keyway_fuzz::replay(keyway_fuzz::load)
}
