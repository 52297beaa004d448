//! Runs of several lanes that are handed to a handler together: what comes back with what.

use std::time::Duration;

use keyway::{
    config::{Isolation, Limits, PluginUse},
    handler::{Delivery, Failure, Outcome, RunReports},
};

use crate::fixture::{Fixture, delivery, soon, using};

const REJECT: &str = r#"{"do": "reject", "reason": "no"}"#;
const TRAP: &str = r#"{"do": "trap"}"#;

/// Runs of one record each, with these values.
fn runs(values: &[&str]) -> Vec<Vec<Delivery>> {
    let run = |(value, offset): (&&str, u64)| vec![delivery(offset, value)];
    values.iter().zip(0..).map(run).collect()
}

/// The offsets of records, and how many of each run's have an outcome.
fn shape(reports: &RunReports) -> Vec<(u64, usize)> {
    let shape = reports.over.iter();
    shape.map(|it| (it.deliveries[0].record.offset, it.outcomes.len())).collect()
}

#[tokio::test]
async fn quick_runs_are_handled_one_after_another_and_come_back_in_order() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let mut together = 0;
    while together < 3 {
        let reports = soon(handler.handle_runs(runs(&["{}", REJECT, "{}"]))).await;
        assert!(reports.waiting.is_none());
        let begun = reports.over.iter().take_while(|it| !it.outcomes.is_empty()).count();
        assert!(begun >= 1 && begun == reports.quick, "the first is always attempted");
        let expected: Vec<_> = (0..3).map(|at| (at as u64, usize::from(at < begun))).collect();
        assert_eq!(shape(&reports), expected);
        if begun > 1 {
            let rejected = Outcome::Reject { reason: "no".into() };
            assert_eq!(reports.over[1].outcomes, [rejected], "and it holds up no other");
        }
        together = begun; // on a busy machine they may take too long to come back together
    }
}

#[tokio::test]
async fn a_run_that_waits_comes_back_by_itself_and_the_others_at_once() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let wait = r#"{"do": "sleep", "ms": 50}"#;
    for values in [[wait, "{}", "{}"], ["{}", wait, "{}"]] {
        let place = values.iter().position(|value| *value == wait).unwrap();
        let (waiting, reports) = loop {
            let mut reports = soon(handler.handle_runs(runs(&values))).await;
            if let Some(waiting) = reports.waiting.take() {
                break (waiting, reports);
            }
        };
        assert_eq!((waiting.0, reports.quick), (place, place));
        let others = (0..3).filter(|at| *at != place);
        let expected: Vec<_> = others.map(|at| (at as u64, usize::from(at < place))).collect();
        assert_eq!(shape(&reports), expected);
        let report = soon(waiting.1).await;
        assert_eq!(report.deliveries[0].record.offset, place as u64);
        assert_eq!(report.outcomes, [Outcome::Handled(vec![])]);
    }
}

#[tokio::test]
async fn a_failure_is_the_last_of_what_is_attempted_together() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let reports = soon(handler.handle_runs(runs(&[TRAP, "{}", "{}"]))).await;
    assert_eq!(shape(&reports), [(0, 1), (1, 0), (2, 0)]);
    assert!(matches!(reports.over[0].outcomes[..], [Outcome::Failed(Failure::Trap(_))]));
    let reports = soon(handler.handle_runs(runs(&["{}"]))).await;
    assert_eq!(shape(&reports), [(0, 1)]);
}

#[tokio::test]
async fn a_run_that_waits_and_that_nobody_waits_for_any_more_is_ended() {
    let fixture = Fixture::new().with(&["flaky"]);
    let limits = Limits { time: Duration::from_secs(3600), ..Limits::default() };
    let plugin = PluginUse { limits, ..using("flaky") };
    let handler = fixture.host.handler("group g", &plugin, None, Isolation::None, 1).await.unwrap();
    let wait = r#"{"do": "sleep", "ms": 3000000}"#;
    let reports = soon(handler.handle_runs(runs(&[wait, "{}"]))).await;
    drop(reports.waiting.expect("it waits"));
    let report = soon(handler.handle(vec![delivery(1, "{}")])).await;
    assert_eq!(report.outcomes, [Outcome::Handled(vec![])]);
}
