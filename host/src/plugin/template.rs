//! New plugins: small projects that do something, as a place to begin.
//!
//! The files are in `host/templates/`, for `my-plugin`, which becomes the plugin's name. Every project has the interface
//! that it builds against in `wit/deps/`, so that it builds anywhere. Knows languages, and not how they are built.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::build::Language;

/// The name that the templates have.
const PLACEHOLDER: &str = "my-plugin";

/// What a new plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It handles records: greets every one.
    Handler,
    /// It decides keys: the header `tenant`.
    Selector,
}

/// A path below the project's folder, and what the file says.
type File = (&'static str, &'static str);

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../templates/", $path))
    };
}

/// The interfaces that a plugin may name, as `wit/deps/` has them.
const INTERFACES: [File; 3] = [
    ("wit/deps/keyway-plugin-0.1.0/keyway.wit", include_str!("../../../wit/keyway.wit")),
    (
        "wit/deps/wasi-config-0.2.0-rc.1/store.wit",
        include_str!("../../../wit/deps/wasi-config-0.2.0-rc.1/store.wit"),
    ),
    (
        "wit/deps/wasi-logging-0.1.0-draft/logging.wit",
        include_str!("../../../wit/deps/wasi-logging-0.1.0-draft/logging.wit"),
    ),
];

/// Where the code is that the author changes first, below the project's folder.
pub fn main_file(language: Language, kind: Kind) -> &'static str {
    source(language, kind).0
}

fn source(language: Language, kind: Kind) -> File {
    match (language, kind) {
        (Language::Rust, Kind::Handler) => ("src/lib.rs", template!("rust/src/handler.rs")),
        (Language::Rust, Kind::Selector) => ("src/lib.rs", template!("rust/src/selector.rs")),
        (Language::JavaScript, Kind::Handler) => {
            ("src/index.js", template!("javascript/src/handler.js"))
        }
        (Language::JavaScript, Kind::Selector) => {
            ("src/index.js", template!("javascript/src/selector.js"))
        }
        (Language::TypeScript, Kind::Handler) => {
            ("src/index.ts", template!("typescript/src/handler.ts"))
        }
        (Language::TypeScript, Kind::Selector) => {
            ("src/index.ts", template!("typescript/src/selector.ts"))
        }
        (Language::Python, Kind::Handler) => ("app.py", template!("python/handler.py")),
        (Language::Python, Kind::Selector) => ("app.py", template!("python/selector.py")),
        (Language::Go, Kind::Handler) => {
            ("export_keyway_plugin_handler/handler.go", template!("go/handler.go"))
        }
        (Language::Go, Kind::Selector) => {
            ("export_keyway_plugin_selector/selector.go", template!("go/selector.go"))
        }
        (Language::C, Kind::Handler) => ("handler.c", template!("c/handler.c")),
        (Language::C, Kind::Selector) => ("selector.c", template!("c/selector.c")),
    }
}

/// What there is beside the code, whatever it does.
fn beside(language: Language) -> &'static [File] {
    match language {
        Language::Rust => &[
            ("Cargo.toml", template!("rust/Cargo.toml")),
            (".gitignore", template!("rust/gitignore")),
        ],
        Language::JavaScript => &[
            ("package.json", template!("javascript/package.json")),
            (".gitignore", template!("javascript/gitignore")),
        ],
        Language::TypeScript => &[
            ("package.json", template!("typescript/package.json")),
            ("tsconfig.json", template!("typescript/tsconfig.json")),
            ("src/keyway.ts", template!("typescript/src/keyway.ts")),
            ("src/wasi.d.ts", template!("typescript/src/wasi.d.ts")),
            (".gitignore", template!("typescript/gitignore")),
        ],
        Language::Python => &[
            ("requirements.txt", template!("python/requirements.txt")),
            (".gitignore", template!("python/gitignore")),
        ],
        Language::Go => &[
            ("go.mod", template!("go/go.mod")),
            ("go.sum", template!("go/go.sum")),
            ("main.go", template!("go/main.go")),
            (".gitignore", template!("go/gitignore")),
        ],
        Language::C => &[
            ("compile_flags.txt", template!("c/compile_flags.txt")),
            (".gitignore", template!("c/gitignore")),
        ],
    }
}

fn world(kind: Kind) -> File {
    let world = match kind {
        Kind::Handler => template!("world/handler.wit"),
        Kind::Selector => template!("world/selector.wit"),
    };
    ("wit/world.wit", world)
}

/// What `keyway plugin test` tests it with: the same in every language.
fn tests(kind: Kind) -> &'static [File] {
    match kind {
        Kind::Handler => &[
            ("tests/keyway.toml", template!("tests/handler/keyway.toml")),
            ("tests/records.jsonl", template!("tests/handler/records.jsonl")),
            ("tests/expected.jsonl", template!("tests/handler/expected.jsonl")),
        ],
        Kind::Selector => &[
            ("tests/keyway.toml", template!("tests/selector/keyway.toml")),
            ("tests/records.jsonl", template!("tests/selector/records.jsonl")),
            ("tests/expected.jsonl", template!("tests/selector/expected.jsonl")),
        ],
    }
}

/// Writes the project `directory/NAME` and gives its folder. Whoever watches the directory sees all of it or nothing.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where there is something of that name; what else keeps files from being written.
pub fn write(language: Language, kind: Kind, name: &str, directory: &Path) -> io::Result<PathBuf> {
    let folder = directory.join(name);
    if folder.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let unfinished = directory.join(format!(".{name}.{}.new", std::process::id()));
    let files =
        [&[source(language, kind), world(kind)], beside(language), tests(kind), &INTERFACES]
            .concat();
    let written = write_files(&unfinished, &files, name)
        .and_then(|()| fs::rename(&unfinished, &folder))
        .inspect_err(|_| drop(fs::remove_dir_all(&unfinished)));
    written.map(|()| folder)
}

fn write_files(folder: &Path, files: &[File], name: &str) -> io::Result<()> {
    for (path, content) in files {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(file, content.replace(PLACEHOLDER, name))?;
    }
    Ok(())
}

/// Whether every language takes this for the name of a project: lower-case letters, digits and single dashes, a letter
/// first, 64 characters at most.
pub fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.split('-').all(|word| !word.is_empty())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANGUAGES: [Language; 6] = [
        Language::Rust,
        Language::JavaScript,
        Language::TypeScript,
        Language::Python,
        Language::Go,
        Language::C,
    ];

    #[test]
    fn a_project_has_its_name_everywhere_and_its_language_is_known_by_its_files() {
        for language in LANGUAGES {
            for kind in [Kind::Handler, Kind::Selector] {
                let directory = tempfile::tempdir().unwrap();
                let folder = write(language, kind, "tenants-2", directory.path()).unwrap();
                assert_eq!(folder, directory.path().join("tenants-2"));
                assert_eq!(Language::of(&folder), Some(language));
                let code = fs::read_to_string(folder.join(main_file(language, kind))).unwrap();
                assert!(code.contains("plugin = \"tenants-2\""), "{language}: {code}");
                assert!(!code.contains(PLACEHOLDER), "{language}: {code}");
                let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
                assert_eq!(left.len(), 1, "{left:?}");
            }
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("taken"), "mine").unwrap();
        let error = write(Language::C, Kind::Handler, "taken", directory.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(directory.path().join("taken")).unwrap(), b"mine");
    }

    #[test]
    fn a_name_is_one_that_every_language_takes() {
        for good in ["a", "geo-hash", "v2-x9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "A", "2x", "a_b", "a.b", "a/b", "ä", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
