//! Compiled code on disk: it spares work, and nothing wrong with it matters.

use std::{fs, path::PathBuf};

use keyway::handler::Outcome;

use crate::fixture::{Fixture, handle, using};

fn cached(fixture: &Fixture) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(&fixture.cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

async fn loads(fixture: &Fixture) {
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    assert_eq!(handle(&handler, "{}").await, Outcome::Handled(vec![]));
}

#[tokio::test]
async fn compiled_code_is_taken_from_the_cache() {
    let mut fixture = Fixture::new().with_own_cache().with(&["flaky"]);
    loads(&fixture).await;
    let [file] = &cached(&fixture)[..] else { panic!("not one file") };
    let written = fs::metadata(file).unwrap().modified().unwrap();
    fixture.restart();
    loads(&fixture).await;
    assert_eq!(
        fs::metadata(file).unwrap().modified().unwrap(),
        written,
        "it was not compiled again"
    );
}

#[tokio::test]
async fn a_torn_or_damaged_cache_file_is_replaced() {
    let mut fixture = Fixture::new().with_own_cache().with(&["flaky"]);
    loads(&fixture).await;
    let [file] = &cached(&fixture)[..] else { panic!("not one file") };
    let whole = fs::read(file).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    for broken in [&whole[..0], &whole[..20], &whole[..whole.len() / 2], &damaged] {
        fs::write(file, broken).unwrap();
        fixture.restart();
        loads(&fixture).await;
        assert_eq!(fs::read(file).unwrap().len(), whole.len());
        assert_ne!(fs::read(file).unwrap(), broken);
    }
}

#[tokio::test]
async fn code_of_another_plugin_under_this_ones_name_is_not_run() {
    let mut fixture = Fixture::new().with_own_cache().with(&["flaky", "print"]);
    loads(&fixture).await;
    let flaky = cached(&fixture);
    fixture.handler(&using("print")).await.unwrap();
    let print = cached(&fixture).into_iter().find(|file| !flaky.contains(file)).unwrap();
    fs::copy(print, &flaky[0]).unwrap();
    fixture.restart();
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let outcome = handle(&handler, r#"{"do": "reject", "reason": "told to"}"#).await;
    let rejected = Outcome::Reject { reason: "told to".into() };
    assert_eq!(outcome, rejected, "print handles whatever it is given");
}

#[tokio::test]
async fn without_a_cache_directory_plugins_are_compiled() {
    let mut fixture = Fixture::new().with_own_cache().with(&["flaky"]);
    fs::remove_dir_all(&fixture.cache).unwrap();
    fs::write(&fixture.cache, "a file").unwrap();
    fixture.restart();
    loads(&fixture).await;
}
