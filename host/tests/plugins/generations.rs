//! What is kept of a plugin's past: going back to it, and going on with it after a restart.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc, time::SystemTime};

use keyway::{
    handler::{Beginning, Generation, Handler},
    plugin::{By, Fate, GenerationError, Watch},
    record::TopicPartition,
};

use crate::{
    fixture::{Fixture, configured, delivery, run, until, using},
    hostile::{GOOD, variant},
};

/// A plugin `p` of which variant `count` serves, after all before it.
async fn generations(count: u8) -> (Fixture, Arc<dyn Handler>, Watch, Vec<Generation>) {
    let fixture = Fixture::new();
    fixture.put("p", &variant(&GOOD.component(), 1));
    let handler = fixture.handler(&using("p")).await.unwrap();
    let watch = fixture.host.watch().unwrap();
    let mut generations = vec![handler.generation()];
    for number in 2..=count {
        put(&fixture, number);
        fixture.generations("p", usize::from(number)).await;
        generations.push(handler.generation());
    }
    (fixture, handler, watch, generations)
}

fn put(fixture: &Fixture, number: u8) {
    fixture.put("p", &variant(&GOOD.component(), number));
}

/// The directory of what is kept of `p`.
fn kept(fixture: &Fixture) -> PathBuf {
    fixture.root().join("history/p")
}

/// Starts again over the same directories.
async fn restarted(fixture: &mut Fixture) -> (Arc<dyn Handler>, Watch) {
    fixture.restart();
    let handler = fixture.handler(&using("p")).await.unwrap();
    let watch = fixture.host.watch().unwrap();
    (handler, watch)
}

#[tokio::test]
async fn what_was_rolled_back_stays_so_over_a_restart_until_a_new_file_comes() {
    let (mut fixture, handler, watch, generations) = generations(3).await;
    fixture.host.roll_back("p", None).await.unwrap();
    assert_eq!(handler.generation(), generations[1]);
    assert_eq!(run(&handler, &["a"]).await.generation, generations[1]);
    drop((handler, watch));

    let (handler, _watch) = restarted(&mut fixture).await;
    assert_eq!(handler.generation(), generations[1]);
    let status = fixture.status("p");
    assert_eq!(status.rolled_back_from, [generations[2].clone()]);
    let fates: Vec<_> = status.generations.iter().map(|it| (it.by, it.fate)).collect();
    let expected = [
        (By::File, Fate::Replaced),
        (By::File, Fate::Replaced),
        (By::File, Fate::RolledBack),
        (By::Rollback, Fate::Serving),
    ];
    assert_eq!(fates, expected);

    put(&fixture, 3); // the same again, as a build would
    put(&fixture, 4);
    fixture.generations("p", 5).await;
    let status = fixture.status("p");
    assert_eq!(status.generation, Some(handler.generation()));
    assert!(status.rolled_back_from.is_empty() && !generations.contains(&handler.generation()));
    put(&fixture, 3);
    fixture.generations("p", 6).await;
    assert_eq!(handler.generation(), generations[2], "it came after another one");
}

#[tokio::test]
async fn a_file_that_was_rolled_back_from_is_not_taken_when_it_is_put_there_again() {
    let (fixture, handler, _watch, generations) = generations(2).await;
    fixture.host.roll_back("p", None).await.unwrap();
    put(&fixture, 2);
    fixture.put("q", &GOOD.component());
    let _q = fixture.handler(&using("q")).await.unwrap();
    fixture.put("q", &variant(&GOOD.component(), 1));
    fixture.generations("q", 2).await; // so the other file was seen, too
    assert_eq!(handler.generation(), generations[0]);
}

#[tokio::test]
async fn any_kept_generation_is_found_by_its_first_digits() {
    let (fixture, handler, _watch, generations) = generations(3).await;
    let to = generations[0].to_string();
    fixture.host.roll_back("p", Some(&to)).await.unwrap();
    assert_eq!(handler.generation(), generations[0]);
    fixture.host.roll_back("p", Some(&generations[2].long())).await.unwrap();
    assert_eq!(handler.generation(), generations[2], "forward is a way, too");

    let error = |name: &'static str, to: Option<&'static str>| {
        let host = fixture.host.clone();
        async move { host.roll_back(name, to).await.unwrap_err() }
    };
    assert_eq!(error("none", None).await, GenerationError::UnknownPlugin("none".into()));
    let unknown = error("p", Some("zz")).await;
    assert!(matches!(unknown, GenerationError::UnknownGeneration { .. }), "{unknown}");
    let serves = fixture.host.roll_back("p", Some(&generations[2].short())).await.unwrap_err();
    assert_eq!(serves, GenerationError::Serves(generations[2].to_string()));
    let ambiguous = error("p", Some("")).await;
    assert!(matches!(ambiguous, GenerationError::UnknownGeneration { .. }), "{ambiguous}");
}

#[tokio::test]
async fn the_first_generation_has_none_before_it() {
    let (fixture, ..) = generations(1).await;
    let error = fixture.host.roll_back("p", None).await.unwrap_err();
    assert_eq!(error, GenerationError::NoOlder("p".into()));
}

#[tokio::test]
async fn an_older_generation_that_does_not_suit_its_use_any_more_changes_nothing() {
    let fixture = Fixture::new().with(&["fixed-key"]);
    let old = fs::read(fixture.file("fixed-key")).unwrap();
    crate::examples::install("json-key", &fixture.directory, "fixed-key");
    let first = fixture.selector(&configured("fixed-key", "pointer", "/a")).await.unwrap();
    let serving = first.generation();
    fixture.put("fixed-key", &old);
    drop(first); // so the next generation has nobody that it does not suit
    let _watch = fixture.host.watch().unwrap();
    fixture.generations("fixed-key", 2).await;
    let selector = fixture.selector(&configured("fixed-key", "key", "k")).await.unwrap();
    let error = fixture.host.roll_back("fixed-key", None).await.unwrap_err();
    assert!(error.to_string().contains("`pointer` is missing"), "{error}");
    assert_ne!(selector.generation(), serving);
    assert!(fixture.status("fixed-key").rolled_back_from.is_empty());
}

#[tokio::test]
async fn a_restart_that_changes_nothing_writes_nothing() {
    let (mut fixture, handler, watch, generations) = generations(1).await;
    drop((handler, watch));
    let file = kept(&fixture).join("history.json");
    let inode = || fs::metadata(&file).unwrap().ino(); // one that is written is another file
    let written = inode();
    let (handler, _watch) = restarted(&mut fixture).await;
    assert_eq!(handler.generation(), generations[0]);
    fixture.host.remember().await;
    assert_eq!(inode(), written);
}

#[tokio::test]
async fn where_a_generation_began_is_known_over_a_restart() {
    let (mut fixture, handler, watch, generations) = generations(2).await;
    let beginning = |generation: &Generation, offset| Beginning {
        group: Some("g".into()),
        partition: TopicPartition::new("t", 0),
        offset,
        generation: generation.clone(),
        at: SystemTime::now(),
    };
    fixture.host.note([beginning(&generations[1], 17)]);
    fixture.host.remember().await;
    drop((handler, watch));
    let (_handler, _watch) = restarted(&mut fixture).await;
    fixture.host.note([beginning(&generations[1], 40)]);
    let status = fixture.status("p");
    assert!(status.generations[0].first_offsets.is_empty());
    assert_eq!(status.generations[1].first_offsets[0].offset, 17);
    assert_eq!(status.since, Some(status.generations[1].since), "it went on");
}

#[tokio::test]
async fn a_damaged_history_is_said_and_the_file_serves() {
    for damage in ["", "{", "[]", "{\"periods\": [{\"digest\": \"1\"}]}"] {
        let (mut fixture, handler, watch, generations) = generations(2).await;
        fixture.host.roll_back("p", None).await.unwrap();
        drop((handler, watch));
        fs::write(kept(&fixture).join("history.json"), damage).unwrap();
        let (handler, _watch) = restarted(&mut fixture).await;
        assert_eq!(handler.generation(), generations[1], "{damage:?}");
        let status = fixture.status("p");
        let error = status.history_error.expect("it is said");
        assert!(error.contains("history.json was damaged"), "{error}");
        assert_eq!(status.generations.len(), 1, "it begins anew");
    }
}

#[tokio::test]
async fn kept_bytes_that_are_damaged_or_gone_are_not_run_and_the_file_serves() {
    for remove in [true, false] {
        let (mut fixture, handler, watch, generations) = generations(2).await;
        fixture.host.roll_back("p", None).await.unwrap();
        drop((handler, watch));
        let file = kept(&fixture).join(format!("{}.wasm", generations[0].long()));
        match remove {
            true => fs::remove_file(file).unwrap(),
            false => fs::write(file, variant(&GOOD.component(), 9)).unwrap(),
        }
        let (handler, _watch) = restarted(&mut fixture).await;
        assert_eq!(handler.generation(), generations[1]);
        let error = fixture.host.roll_back("p", None).await.unwrap_err();
        let expected = if remove { "no generation" } else { "is damaged" };
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(handler.generation(), generations[1]);
    }
}

#[tokio::test]
async fn after_a_restart_what_served_before_a_refused_file_serves_on() {
    let (mut fixture, handler, watch, generations) = generations(2).await;
    fixture.put("p", b"not a component");
    fixture.refusal("p").await;
    until("it is remembered", || (fixture.status("p").refused.len() == 1).then_some(())).await;
    fixture.host.remember().await;
    drop((handler, watch));
    let (handler, _watch) = restarted(&mut fixture).await;
    assert_eq!(handler.generation(), generations[1]);
    assert!(fixture.status("p").last_error.expect("it is said").contains("it is text"));
    put(&fixture, 3);
    fixture.generations("p", 3).await;
    assert_eq!(fixture.status("p").last_error, None);
}

#[tokio::test]
async fn hosts_that_share_a_directory_follow_each_others_rollbacks() {
    let (mut fixture, handler, _watch, generations) = generations(2).await;
    let host = fixture.host.clone();
    let (other, _other_watch) = restarted(&mut fixture).await;
    host.roll_back("p", None).await.unwrap();
    until("the other one follows", || (other.generation() == generations[0]).then_some(())).await;
    assert_eq!(fixture.status("p").rolled_back_from, [generations[1].clone()]);
    fixture.host.roll_back("p", Some(&generations[1].short())).await.unwrap();
    until("and back", || (handler.generation() == generations[1]).then_some(())).await;
}

#[tokio::test]
async fn no_more_generations_are_kept_than_there_is_room_for() {
    let (fixture, handler, _watch, generations) = generations(20).await;
    let wasm = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|it| it == "wasm");
    let files = || fs::read_dir(kept(&fixture)).unwrap().flatten().filter(wasm).count();
    until("the oldest are given up", || (files() == 16).then_some(())).await;
    let error = fixture.host.roll_back("p", Some(&generations[3].short())).await.unwrap_err();
    assert!(matches!(error, GenerationError::UnknownGeneration { .. }), "{error}");
    fixture.host.roll_back("p", Some(&generations[4].short())).await.unwrap();
    assert_eq!(handler.generation(), generations[4]);
}

#[tokio::test]
async fn uses_of_one_plugin_are_told_apart() {
    let fixture = Fixture::new().with(&["flaky"]);
    let host = &fixture.host;
    let isolation = keyway::config::Isolation::None;
    let a = configured("flaky", "a", "1");
    let one = host.handler("group one", &a, None, isolation, 4).await.unwrap();
    let two = host.handler("group two", &using("flaky"), None, isolation, 4).await.unwrap();
    run(&one, &["{}", "{}", r#"{"do": "trap"}"#]).await;
    two.handle(vec![delivery(0, "{}")]).await;
    let status = until("what was called is counted", || {
        let status = fixture.status("flaky");
        (status.uses[0].calls == 3 && status.uses[1].calls == 1).then_some(status)
    })
    .await;
    let uses: Vec<_> = status
        .uses
        .iter()
        .map(|it| (it.owner.as_str(), it.config.join(","), it.calls, it.failures))
        .collect();
    assert_eq!(uses, [("group one", "a".into(), 3, 1), ("group two", String::new(), 1, 0)]);
}
