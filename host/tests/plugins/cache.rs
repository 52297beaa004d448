//! Compiled code on disk: it spares work, and nothing wrong with it matters.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use keyway::handler::Outcome;

use crate::{
    fixture::{Fixture, handle, using},
    hostile::{GOOD, variant},
};

fn cached(fixture: &Fixture) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(&fixture.cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Which files those are: one that is written again is another.
fn inodes(fixture: &Fixture) -> Vec<u64> {
    cached(fixture).iter().map(|file| fs::metadata(file).unwrap().ino()).collect()
}

async fn loads(fixture: &Fixture) {
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    assert_eq!(handle(&handler, "{}").await, Outcome::Handled(vec![]));
}

#[tokio::test]
async fn compiled_code_is_taken_from_the_cache() {
    let mut fixture = Fixture::new().with_own_cache().with(&["flaky"]);
    loads(&fixture).await;
    let written = inodes(&fixture);
    assert_eq!(written.len(), 1);
    fixture.restart();
    loads(&fixture).await;
    assert_eq!(inodes(&fixture), written, "it was not compiled again");
}

#[tokio::test]
async fn compiled_code_of_two_hundred_plugins_is_all_taken_from_the_cache() {
    let mut fixture = Fixture::new().with_own_cache();
    let names: Vec<_> = (0..200).map(|number| format!("plugin-{number}")).collect();
    for (name, number) in names.iter().zip(0..) {
        fixture.put(name, &variant(&GOOD.component(), number));
    }
    let load_all = async |fixture: &Fixture| {
        for name in &names {
            fixture.handler(&using(name)).await.unwrap();
        }
    };
    load_all(&fixture).await;
    let written = inodes(&fixture);
    assert_eq!(written.len(), names.len());
    fixture.restart();
    load_all(&fixture).await;
    assert_eq!(inodes(&fixture), written, "none was compiled again");
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
