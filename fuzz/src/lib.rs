//! What is fuzzed, as plain functions of the fuzzer's bytes: each panics where the loader of plugins breaks a promise.
//!
//! [`load`] gives it any file, [`guest`] a valid handler with any code in it, [`cache`] a good file whose compiled code on
//! disk is damaged. The targets of cargo-fuzz in `fuzz_targets` are one line each; the tests below run the same over
//! `corpus`, which is what has been of interest so far.

mod compiled;
#[path = "../../host/tests/plugins/hostile.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "of the tests, where it is used whole")]
mod hostile;
mod loader;

pub use compiled::cache;
pub use loader::{guest, load};

use std::{env, fs, io};

/// Runs a target once on each file that the command line names.
///
/// # Errors
/// A file cannot be read.
pub fn replay(target: fn(&[u8])) -> io::Result<()> {
    for file in env::args_os().skip(1) {
        target(&fs::read(file)?);
    }
    Ok(())
}

#[cfg(test)]
#[allow(
    clippy::print_stderr,
    reason = "shown with a failure, the last file is the one that failed"
)]
mod tests {
    use std::{fs, path::Path};

    fn corpus(target: fn(&[u8]), name: &str) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files = 0;
        for entry in fs::read_dir(directory).unwrap() {
            let file = entry.unwrap().path();
            eprintln!("{}", file.display());
            target(&fs::read(file).unwrap());
            files += 1;
        }
        assert!(files > 0);
    }

    #[test]
    fn any_file_is_loaded_or_refused_by_its_name() {
        corpus(super::load, "load");
    }

    #[test]
    fn any_code_in_a_handler_is_held_to_its_limits() {
        corpus(super::guest, "guest");
    }

    #[test]
    fn damaged_compiled_code_is_never_run() {
        corpus(super::cache, "cache");
    }
}
