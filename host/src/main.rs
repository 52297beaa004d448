//! Keyway.
fn main() {}
