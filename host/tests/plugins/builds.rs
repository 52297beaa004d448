//! Building plugins from their sources.

use std::{fs, path::Path};

use keyway::plugin::build::{BuildError, Built, build};

/// A package without dependencies, of which `code` is the library.
fn package(folder: &Path, library: &str, code: &str) {
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\n{library}\n[workspace]\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), code).unwrap();
}

const CDYLIB: &str = "crate-type = [\"cdylib\"]";

#[test]
fn a_package_builds_to_a_component_with_its_folders_name() {
    let root = tempfile::tempdir().unwrap();
    let (folder, plugins) = (root.path().join("my-plugin"), root.path().join("plugins"));
    package(&folder, CDYLIB, "");
    let component = plugins.join("my-plugin.wasm");
    let built =
        |changed| vec![Built { name: "my-plugin".into(), component: component.clone(), changed }];
    let build =
        || build(std::slice::from_ref(&folder), &root.path().join("target"), &plugins).unwrap();
    assert_eq!(build(), built(true));
    assert!(fs::read(&component).unwrap().starts_with(b"\0asm\x0d\0\x01\0"));
    assert_eq!(build(), built(false), "nothing has changed, so nothing is written");
}

#[test]
fn sources_that_do_not_build_are_reported_in_the_compilers_words_and_replace_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (folder, plugins) = (root.path().join("p"), root.path().join("plugins"));
    package(&folder, CDYLIB, "pub fn f() -> u32 { \"text\" }");
    fs::create_dir(&plugins).unwrap();
    fs::write(plugins.join("p.wasm"), "before").unwrap();
    let error = build(&[folder], &root.path().join("target"), &plugins).unwrap_err();
    assert!(matches!(error, BuildError::Compile { .. }));
    let error = error.to_string();
    assert!(error.contains("mismatched types") && error.contains("src/lib.rs:1:"), "{error}");
    assert_eq!(fs::read(plugins.join("p.wasm")).unwrap(), b"before");
}

#[test]
fn a_package_that_makes_no_component_is_told_what_it_needs() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("p");
    package(&folder, "", "");
    let error = build(&[folder], &root.path().join("target"), root.path()).unwrap_err();
    assert!(error.to_string().contains("crate-type = [\"cdylib\"]"), "{error}");
}
