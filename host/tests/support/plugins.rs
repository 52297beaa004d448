//! The example plugins, built for tests: once a process, and by one process at a time.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use keyway::plugin::build::{self, Language};

/// The directory that holds the examples in Rust: `print.wasm`, `uppercase.wasm`, `json-key.wasm`, `fixed-key.wasm` and
/// `flaky.wasm`. Tests share it, so they copy from it and change nothing in it.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build_all("../plugins", "test-plugins"))
}

/// Builds every source folder in Rust in `sources` into a directory of that name in the target directory.
pub(crate) fn build_all(sources: &str, name: &str) -> PathBuf {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
    let components = target.join(name);
    fs::create_dir_all(&components).expect("the target directory can be written to");
    let lock = File::create(components.join(".lock")).expect("the lock can be made");
    lock.lock().expect("the lock can be taken");
    let mut folders = build::source_folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join(sources));
    // The others need more than every machine has that builds this: their own tests ask for them.
    folders.retain(|folder| Language::of(folder) == Some(Language::Rust));
    if let Err(error) = build::build(&folders, &target.join("plugins"), &components) {
        panic!("the plugins do not build: {error}");
    }
    components
}

/// The arguments of `keyway plugin test` for the tests that an example has of itself.
pub(crate) fn tests_of(example: &str) -> Vec<String> {
    let tests =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(example).join("tests");
    let files =
        [("-c", "keyway.toml"), ("--records", "records.jsonl"), ("--expect", "expected.jsonl")];
    files
        .into_iter()
        .flat_map(|(option, file)| [option.to_owned(), tests.join(file).display().to_string()])
        .collect()
}

/// Copies an example plugin into `directory` under `name`, atomically.
pub(crate) fn install(example: &str, directory: &Path, name: &str) {
    copy(&built().join(format!("{example}.wasm")), directory, name);
}

/// Copies a component into `directory` under `name`, atomically.
pub(crate) fn copy(component: &Path, directory: &Path, name: &str) {
    let temporary = directory.join(format!("{name}.tmp"));
    fs::copy(component, &temporary).expect("the component is there");
    fs::rename(temporary, directory.join(format!("{name}.wasm")))
        .expect("the directory can be written to");
}
