//! What becomes of a handler that fails every call.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use keyway::{
    config::{Canary, Source, Terms},
    handler::{Handler, Outcome},
};

use crate::{
    fixture::{Fixture, delivery, handle, soon, until, using},
    hostile::{self, GOOD},
};

const TRAP: &str = r#"{"do": "trap", "reason": "boom"}"#;

fn traps() -> Vec<u8> {
    hostile::Handler { handle: "unreachable", ..GOOD }.component()
}

/// Has it fail until it says that it is in trouble.
async fn trip(handler: &Arc<dyn Handler>) -> String {
    for _ in 0..32 {
        assert_eq!(handler.trouble(), None);
        let outcome = soon(handle(handler, TRAP)).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
    until("the breaker is open", || handler.trouble()).await
}

#[tokio::test]
async fn a_handler_that_fails_every_call_is_tried_ever_more_rarely_until_one_ends_well() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let trouble = trip(&handler).await;
    assert!(trouble.contains("flaky@") && trouble.contains("32 calls in a row"), "{trouble}");
    assert!(trouble.contains("boom"), "{trouble}");
    let began = Instant::now();
    for pause in [90, 190] {
        let began = Instant::now();
        assert!(matches!(soon(handle(&handler, TRAP)).await, Outcome::Failed(_)));
        assert!(began.elapsed() >= Duration::from_millis(pause), "{:?}", began.elapsed());
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    let calls = fixture.status("flaky").uses[0].calls;
    drop(handler.handle(vec![delivery(0, TRAP)])); // nobody waits for it
    assert_eq!(soon(handle(&handler, "{}")).await, Outcome::Handled(vec![]));
    until("the breaker is closed", || handler.trouble().is_none().then_some(())).await;
    assert_eq!(fixture.status("flaky").uses[0].calls, calls + 1);
    let began = Instant::now();
    assert!(matches!(soon(handle(&handler, TRAP)).await, Outcome::Failed(_)));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(handler.trouble(), None);
}

#[tokio::test]
async fn poison_among_good_records_and_a_handlers_own_no_keep_nobody_waiting() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    for round in 0..8 {
        for _ in 0..31 {
            assert!(matches!(soon(handle(&handler, TRAP)).await, Outcome::Failed(_)));
        }
        let answer = ["{}", r#"{"do": "reject"}"#, r#"{"do": "retry"}"#][round % 3];
        soon(handle(&handler, answer)).await;
    }
    for _ in 0..40 {
        soon(handle(&handler, r#"{"do": "reject"}"#)).await;
    }
    assert_eq!(handler.trouble(), None);
}

#[tokio::test]
async fn records_that_wait_go_to_the_generation_that_comes() {
    let fixture = Fixture::new();
    fixture.put("p", &traps());
    let handler = fixture.handler(&using("p")).await.unwrap();
    let _watch = fixture.host.watch().unwrap();
    trip(&handler).await;
    // One is tried, the others wait behind it.
    let waiting: Vec<_> =
        (0..8).map(|offset| tokio::spawn(handler.handle(vec![delivery(offset, "")]))).collect();
    fixture.put("p", &GOOD.component());
    fixture.generations("p", 2).await;
    assert_eq!(handler.trouble(), None);
    let mut handled = 0;
    for run in waiting {
        let report = soon(run).await.unwrap();
        if report.outcomes == [Outcome::Handled(vec![])] {
            assert_eq!(report.generation, handler.generation());
            handled += 1;
        }
    }
    assert!(handled > 0, "all were tried on the old one");
}

#[tokio::test]
async fn a_canary_that_fails_every_call_is_ended_before_its_sample_is_full() {
    let fixture = Fixture::new();
    fixture.put("p", &GOOD.component());
    let handler = fixture.handler(&using("p")).await.unwrap();
    let file = fixture.root().join("candidate.wasm");
    fs::write(&file, traps()).unwrap();
    let terms = Terms { percent: 50, minimum_sample: 1_000_000, ..Terms::default() };
    let canary = Canary { source: Source::File(file), terms };
    fixture.host.begin_canary("p", None, &canary).await.unwrap();
    let ended = async {
        for key in 0_u32.. {
            let mut delivery = delivery(0, "");
            delivery.record.key = Some(key.to_string().into());
            handler.handle(vec![delivery]).await;
            if fixture.status("p").uses[0].canary.is_none() {
                break;
            }
        }
    };
    soon(ended).await;
    let reason = &fixture.status("p").aborted[0].reason;
    assert!(reason.contains("calls in a row"), "{reason}");
    assert_eq!(handler.trouble(), None);
}
