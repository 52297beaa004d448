//! Running a generation behind the one that serves: what it sees, what is compared, and that nobody waits for it.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use keyway::{
    config::{Source, Terms},
    handler::{Handler, Outcome},
    plugin::{By, Comparisons, GenerationError, ShadowStatus},
};

use crate::{
    fixture::{Fixture, delivery, emitted, handle, run, soon, until, using},
    hostile::{self, GOOD, variant},
};

/// `uppercase` serves as `p`, and `candidate` is a file beside it.
async fn serving(candidate: &[u8]) -> (Fixture, Arc<dyn Handler>, PathBuf) {
    let fixture = Fixture::new();
    crate::examples::install("uppercase", &fixture.directory, "p");
    let handler = fixture.handler(&using("p")).await.unwrap();
    let file = fixture.root().join("candidate.wasm");
    fs::write(&file, candidate).unwrap();
    (fixture, handler, file)
}

fn uppercase() -> Vec<u8> {
    fs::read(crate::examples::built().join("uppercase.wasm")).unwrap()
}

async fn begin(fixture: &Fixture, file: PathBuf) {
    fixture.host.begin_shadow("p", Some("group g"), &Source::File(file)).await.unwrap();
}

fn shown(fixture: &Fixture) -> Option<ShadowStatus> {
    fixture.status("p").uses.remove(0).shadow
}

/// Waits until the shadow has dealt with so many records.
async fn compared(fixture: &Fixture, count: u64) -> ShadowStatus {
    until("they are compared", || {
        let shadow = shown(fixture)?;
        let Comparisons { equal, different, failed } = shadow.compared;
        (equal + different + failed + shadow.shed >= count).then_some(shadow)
    })
    .await
}

#[tokio::test]
async fn a_shadow_that_does_the_same_is_equal_and_its_output_is_thrown_away() {
    let (fixture, handler, file) = serving(&variant(&uppercase(), 1)).await;
    begin(&fixture, file).await;
    for _ in 0..10 {
        let report = run(&handler, &["a", "b"]).await;
        assert!(!report.on_trial && report.generation == handler.generation());
        assert_eq!(emitted(&report.outcomes[1]), ["B"], "once");
    }
    let shadow = compared(&fixture, 20).await;
    assert_eq!(shadow.compared, Comparisons { equal: 20, different: 0, failed: 0 });
    assert!(shadow.shed == 0 && shadow.differences.is_empty());
    assert_ne!(shadow.generation, handler.generation());
}

#[tokio::test]
async fn what_differs_is_counted_and_its_first_records_are_kept() {
    let (fixture, handler, file) = serving(&GOOD.component()).await;
    begin(&fixture, file).await;
    for _ in 0..20 {
        handle(&handler, "a").await;
    }
    let shadow = compared(&fixture, 20).await;
    assert_eq!(shadow.compared, Comparisons { equal: 0, different: 20, failed: 0 });
    assert_eq!(shadow.differences.len(), 16);
    let first = &shadow.differences[0];
    assert_eq!(first.place, delivery(0, "").record.place());
    assert_eq!(first.what, "1 emitted, 0 emitted");
    assert_eq!((emitted(&first.serving), &first.shadow), (vec!["A"], &Outcome::Handled(vec![])));
}

#[tokio::test]
async fn a_shadow_that_traps_fails_alone() {
    let traps = hostile::Handler { handle: "unreachable", ..GOOD }.component();
    let (fixture, handler, file) = serving(&traps).await;
    begin(&fixture, file).await;
    for _ in 0..5 {
        assert_eq!(emitted(&handle(&handler, "a").await), ["A"]);
    }
    let shadow = compared(&fixture, 5).await;
    assert_eq!(shadow.compared, Comparisons { equal: 0, different: 0, failed: 5 });
    assert!(matches!(&shadow.differences[0].shadow, Outcome::Failed(_)));
    let usage = fixture.status("p").uses.remove(0);
    assert_eq!((usage.calls, usage.failures), (5, 0), "those of what serves alone");
}

#[tokio::test]
async fn a_shadow_that_never_ends_holds_nobody_up_and_is_shed() {
    let loops = hostile::Handler { handle: hostile::LOOP, ..GOOD }.component();
    let (fixture, handler, file) = serving(&loops).await;
    begin(&fixture, file).await;
    let began = Instant::now();
    for _ in 0..100 {
        soon(run(&handler, &["a"; 64])).await;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "what serves takes as long as ever");
    let shadow = shown(&fixture).unwrap();
    assert!((100 * 64 - 1100..100 * 64).contains(&(shadow.shed as usize)), "{shadow:?}");
    soon(fixture.host.abort("p", None, "it never ends")).await.unwrap();
    assert_eq!(shown(&fixture), None);
    assert!(fixture.status("p").aborted.is_empty(), "it has done nothing");
    assert_eq!(emitted(&handle(&handler, "a").await), ["A"]);
}

#[tokio::test]
async fn large_records_are_shed_before_many_of_them_are_held() {
    let loops = hostile::Handler { handle: hostile::LOOP, ..GOOD }.component();
    let (fixture, handler, file) = serving(&loops).await;
    begin(&fixture, file).await;
    handle(&handler, "this one keeps it busy").await;
    let large = "a".repeat(3 << 20);
    for _ in 0..8 {
        assert!(matches!(handle(&handler, &large).await, Outcome::Handled(_)));
    }
    let shed = shown(&fixture).unwrap().shed;
    assert_eq!(shed, 3, "each is 6 MiB with its output, and 32 MiB may wait");
}

#[tokio::test]
async fn a_promoted_shadow_serves_and_is_compared_no_more() {
    let (fixture, handler, file) = serving(&variant(&uppercase(), 1)).await;
    begin(&fixture, file).await;
    let tried = shown(&fixture).unwrap().generation;
    fixture.host.promote("p", None).await.unwrap();
    assert_eq!((handler.generation(), shown(&fixture)), (tried, None));
    assert_eq!(fixture.status("p").generations[1].by, By::Canary);
}

#[tokio::test]
async fn a_canary_and_a_shadow_are_told_apart_by_their_digests() {
    let (fixture, handler, file) = serving(&variant(&uppercase(), 1)).await;
    begin(&fixture, file.clone()).await;
    fs::write(&file, variant(&uppercase(), 2)).unwrap();
    let canary = keyway::config::Canary {
        source: Source::File(file),
        terms: Terms { percent: 100, ..Terms::default() },
    };
    fixture.host.begin_canary("p", None, &canary).await.unwrap();
    assert!(run(&handler, &["a"]).await.on_trial);
    let many = fixture.host.promote("p", None).await.unwrap_err();
    assert!(matches!(many, GenerationError::ManyTried { .. }), "{many}");
    let shadow = shown(&fixture).unwrap();
    assert_eq!(
        shadow.compared,
        Comparisons::default(),
        "a canary's records are not the serving one's"
    );
    let digest = shadow.generation.short();
    fixture.host.abort("p", Some(&digest), "enough").await.unwrap();
    assert_eq!(shown(&fixture), None);
    fixture.host.promote("p", None).await.unwrap();
}
