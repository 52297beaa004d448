//! Trying a generation with a share of the records: who gets it, how it ends, and what is remembered of that.

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc};

use keyway::{
    config::{Canary, Source, Terms},
    handler::{Delivery, Generation, Handler, Outcome, RunReport},
    plugin::{By, Fate, GenerationError, UseStatus, Watch},
};

use crate::{
    fixture::{Fixture, delivery, using},
    hostile::{self, GOOD, variant},
};

const OWNER: &str = "group g";

/// A plugin `p` that serves, and another component beside it.
async fn serving(candidate: &[u8]) -> (Fixture, Arc<dyn Handler>, PathBuf) {
    let fixture = Fixture::new();
    fixture.put("p", &GOOD.component());
    let handler = fixture.handler(&using("p")).await.unwrap();
    let file = fixture.root().join("candidate.wasm");
    fs::write(&file, candidate).unwrap();
    (fixture, handler, file)
}

fn traps() -> Vec<u8> {
    hostile::Handler { handle: "unreachable", ..GOOD }.component()
}

fn canary(file: PathBuf, percent: u8) -> Canary {
    let terms = Terms { percent, minimum_sample: 10, ..Terms::default() };
    Canary { source: Source::File(file), terms }
}

fn keyed(key: u32, offset: u64) -> Delivery {
    let mut delivery = delivery(offset, "");
    delivery.record.key = Some(key.to_string().into());
    delivery
}

async fn handle(handler: &Arc<dyn Handler>, key: u32) -> RunReport {
    handler.handle(vec![keyed(key, 0)]).await
}

/// What the use shows of itself.
fn usage(fixture: &Fixture) -> UseStatus {
    fixture.status("p").uses.remove(0)
}

#[tokio::test]
async fn a_key_stays_on_its_side_and_about_the_share_goes_to_the_canary() {
    let (fixture, handler, file) = serving(&variant(&GOOD.component(), 1)).await;
    fixture.host.begin_canary("p", Some(OWNER), &canary(file, 30)).await.unwrap();
    let mut sides: HashMap<u32, Generation> = HashMap::new();
    for round in 0..3 {
        for key in 0..200 {
            let report = handle(&handler, key).await;
            assert_eq!(report.on_trial, report.generation != handler.generation());
            let side = sides.entry(key).or_insert_with(|| report.generation.clone());
            assert_eq!(*side, report.generation, "key {key} in round {round}");
        }
    }
    let tried = sides.values().filter(|side| **side != handler.generation()).count();
    assert!((30..90).contains(&tried), "{tried} of 200 keys");
    let shown = usage(&fixture).canary.unwrap();
    assert_eq!(shown.canary.handled, 3 * tried as u64);
    assert_eq!(shown.serving.handled, 600 - 3 * tried as u64);
}

#[tokio::test]
async fn a_run_of_many_keys_is_handled_in_order_each_part_by_its_own_side() {
    let (fixture, handler, file) = serving(&variant(&GOOD.component(), 1)).await;
    fixture.host.begin_canary("p", None, &canary(file, 50)).await.unwrap();
    let mut left: Vec<_> = (0..60).map(|number| keyed(number, u64::from(number))).collect();
    let (mut offset, mut sides) = (0, Vec::new());
    while !left.is_empty() {
        let given = left.len();
        let RunReport { generation, mut deliveries, outcomes, .. } = handler.handle(left).await;
        assert_eq!(deliveries.len(), given, "none is kept back");
        assert!(!outcomes.is_empty() && outcomes.iter().all(|it| *it == Outcome::Handled(vec![])));
        left = deliveries.split_off(outcomes.len());
        for handled in deliveries {
            assert_eq!(handled.record.offset, offset);
            offset += 1;
        }
        sides.push(generation);
    }
    assert_eq!(offset, 60);
    sides.dedup();
    assert!(sides.len() > 10, "it changed sides");
}

#[tokio::test]
async fn a_canary_that_fails_is_ended_its_reason_kept_and_a_configuration_does_not_try_it_again() {
    let (mut fixture, handler, file) = serving(&traps()).await;
    let canary = canary(file, 50);
    fixture.host.configured_canary("p", OWNER, &canary).await.unwrap();
    let mut failed = 0;
    for key in 0.. {
        let report = handle(&handler, key).await;
        failed += usize::from(matches!(report.outcomes[0], Outcome::Failed(_)));
        if usage(&fixture).canary.is_none() {
            break;
        }
        assert!(key < 200, "it goes on and on");
    }
    assert_eq!(failed, 10, "no more than its sample");
    let after = handle(&handler, 1).await;
    assert_eq!((after.generation, after.on_trial), (handler.generation(), false));
    fixture.host.remember().await;
    drop(handler);

    fixture.restart();
    let handler = fixture.handler(&using("p")).await.unwrap();
    let aborted = fixture.status("p").aborted.remove(0);
    assert!(aborted.reason.starts_with("100.0 % of 10 attempts were not handled"), "{aborted:?}");
    fixture.host.configured_canary("p", OWNER, &canary).await.unwrap();
    assert_eq!(usage(&fixture).canary, None, "it was ended before");
    fixture.host.begin_canary("p", None, &canary).await.unwrap();
    assert!(usage(&fixture).canary.is_some(), "an operator may insist");
    drop(handler);
}

#[tokio::test]
async fn a_promoted_canary_serves_everybody_and_after_a_restart_in_place_of_the_file() {
    let (mut fixture, handler, file) = serving(&variant(&GOOD.component(), 1)).await;
    let old = handler.generation();
    let watch: Watch = fixture.host.watch().unwrap();
    fixture.host.begin_canary("p", None, &canary(file.clone(), 1)).await.unwrap();
    let tried = usage(&fixture).canary.unwrap().generation;
    fs::remove_file(file).unwrap(); // what was read is enough
    fixture.host.promote("p", None).await.unwrap();
    assert_eq!(handler.generation(), tried);
    assert!(usage(&fixture).canary.is_none());
    for key in 0..20 {
        assert_eq!(handle(&handler, key).await.generation, tried);
    }
    drop((handler, watch));

    fixture.restart();
    let handler = fixture.handler(&using("p")).await.unwrap();
    let _watch = fixture.host.watch().unwrap();
    assert_eq!(handler.generation(), tried, "the file holds the old one still");
    let status = fixture.status("p");
    let fates: Vec<_> = status.generations.iter().map(|it| (it.by, it.fate)).collect();
    assert_eq!(fates, [(By::File, Fate::Replaced), (By::Canary, Fate::Serving)]);
    fixture.host.roll_back("p", Some(&old.short())).await.unwrap();
    assert_eq!(handler.generation(), old, "and it can be taken back");
}

#[tokio::test]
async fn an_operator_ends_a_canary_with_a_reason() {
    let (fixture, handler, file) = serving(&variant(&GOOD.component(), 1)).await;
    fixture.host.begin_canary("p", None, &canary(file, 100)).await.unwrap();
    assert!(handle(&handler, 1).await.on_trial);
    fixture.host.abort("p", None, "it forgets the header").await.unwrap();
    assert!(!handle(&handler, 1).await.on_trial);
    assert_eq!(fixture.status("p").aborted[0].reason, "it forgets the header");
    let none = fixture.host.abort("p", None, "again").await.unwrap_err();
    assert_eq!(none, GenerationError::NotTried("p".into()));
    assert_eq!(fixture.host.promote("p", None).await.unwrap_err(), none);
}

#[tokio::test]
async fn what_cannot_be_tried_changes_nothing() {
    let (fixture, handler, file) = serving(b"not a component").await;
    let begin = |owner: Option<&'static str>, canary: Canary| {
        let host = fixture.host.clone();
        async move { host.begin_canary("p", owner, &canary).await.unwrap_err().to_string() }
    };
    let refused = begin(None, canary(file.clone(), 5)).await;
    assert!(refused.contains("candidate.wasm: ") && refused.contains("it is text"), "{refused}");
    let absent = begin(None, canary(file.with_extension("absent"), 5)).await;
    assert!(absent.contains("candidate.absent"), "{absent}");
    let unknown = Canary { source: Source::Generation("abcd".into()), terms: Terms::default() };
    assert!(begin(None, unknown).await.contains("begins with \"abcd\""));
    let serves = begin(None, canary(fixture.file("p"), 5)).await;
    assert!(serves.ends_with("serves already"), "{serves}");
    fs::write(&file, variant(&GOOD.component(), 1)).unwrap();
    let elsewhere = begin(Some("group h"), canary(file.clone(), 5)).await;
    assert!(elsewhere.contains("not the handler of group h"), "{elsewhere}");
    let init = hostile::Handler { init: "unreachable", ..GOOD }.component();
    fs::write(&file, init).unwrap();
    let broken = begin(None, canary(file, 5)).await;
    assert!(broken.contains("for group g: "), "{broken}");
    assert_eq!(usage(&fixture).canary, None);
    assert!(!handle(&handler, 1).await.on_trial);
}

#[tokio::test]
async fn a_canary_ends_when_its_file_is_put_in_the_plugins_place() {
    let candidate = variant(&GOOD.component(), 1);
    let (fixture, handler, file) = serving(&candidate).await;
    let _watch = fixture.host.watch().unwrap();
    fixture.host.begin_canary("p", None, &canary(file, 10)).await.unwrap();
    fixture.put("p", &candidate);
    fixture.generations("p", 2).await;
    assert_eq!(usage(&fixture).canary, None);
    assert!(fixture.status("p").aborted.is_empty(), "it was found good");
    assert!(!handle(&handler, 1).await.on_trial);
}
