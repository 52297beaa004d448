//! The example plugins, built for tests: once a process, and by one process at a time.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use keyway::plugin::build;

/// The directory that holds `print.wasm`, `uppercase.wasm`, `json-key.wasm`, `fixed-key.wasm` and `flaky.wasm`. Tests
/// share it, so they copy from it and change nothing in it.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target =
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
        let components = target.join("test-plugins");
        fs::create_dir_all(&components).expect("the target directory can be written to");
        let lock = File::create(components.join(".lock")).expect("the lock can be made");
        lock.lock().expect("the lock can be taken");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
        let built =
            build::build(&build::source_folders(&sources), &target.join("plugins"), &components);
        if let Err(error) = built {
            panic!("the example plugins do not build: {error}");
        }
        components
    })
}

/// Copies an example plugin into `directory` under `name`, atomically.
pub(crate) fn install(example: &str, directory: &Path, name: &str) {
    let temporary = directory.join(format!("{name}.tmp"));
    fs::copy(built().join(format!("{example}.wasm")), &temporary).expect("the example is there");
    fs::rename(temporary, directory.join(format!("{name}.wasm")))
        .expect("the directory can be written to");
}
