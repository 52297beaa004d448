//! What is said of configuration files, word for word.
//!
//! A case is files of one name: `bad/CASE.toml` with what is said of it in `CASE.err`, `good/CASE.toml` with what it
//! comes to in `CASE.ok`; `CASE.env`, where it is there, is the environment, a NAME=VALUE a line.
//! `UPDATE_EXPECT=1 cargo test --test config` writes `.err` and `.ok` anew; look at the difference before you keep it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod mutations;
mod places;
mod tutorial;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use keyway::config::Config;

#[test]
fn bad_files_are_refused_with_everything_that_is_wrong() {
    for_each_case("bad", "err", |case| match read(case) {
        Err(errors) => format!("{errors}\n"),
        Ok(_) => panic!("{} was accepted", case.display()),
    });
}

#[test]
fn good_files_come_to_what_they_say() {
    for_each_case("good", "ok", |case| match read(case) {
        Ok(config) => format!("{config:#?}\n"),
        Err(errors) => panic!("{} was refused:\n{errors}", case.display()),
    });
}

fn read(case: &Path) -> Result<Config, keyway::config::ConfigErrors> {
    let text = fs::read_to_string(case).unwrap();
    Config::parse(&text, "keyway.toml", Path::new("etc"), environment_of(case))
}

fn environment_of(case: &Path) -> Vec<(OsString, OsString)> {
    let text = fs::read_to_string(case.with_extension("env")).unwrap_or_default();
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.into(), value.into()));
    text.lines().filter_map(pair).collect()
}

fn for_each_case(directory: &str, extension: &str, outcome: impl Fn(&Path) -> String) {
    let cases = cases(directory);
    assert!(!cases.is_empty(), "there are no cases in {directory}");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut differing = Vec::new();
    for case in cases {
        let actual = outcome(&case);
        let expectation = case.with_extension(extension);
        if update {
            fs::write(&expectation, &actual).unwrap();
        }
        let expected = fs::read_to_string(&expectation).unwrap_or_default();
        if actual != expected {
            differing.push(format!("{}\nexpected:\n{expected}\nactual:\n{actual}", case.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn cases(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(directory);
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    cases.sort();
    cases
}
