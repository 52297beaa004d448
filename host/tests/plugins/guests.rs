//! Guests that exist for these tests alone, each a source folder of `tests/guests`.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::examples;

/// The directory that holds them, built once a process.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| examples::build_all("tests/guests", "test-guests"))
}

/// Copies a guest into `directory` under its own name, atomically.
pub(crate) fn install(guest: &str, directory: &Path) {
    examples::copy(&built().join(format!("{guest}.wasm")), directory, guest);
}
