//! Lanes that are handed to the handler together, and that none of them waits for another.

use super::*;

/// A script by topic: `slow` and `out` emit a record to the topic of that name, `stuck` waits for `gate`, the rest is quick.
fn by_key(gate: Arc<Notify>) -> impl Fn(Delivery) -> BoxFuture<'static, Outcome> {
    move |delivery| {
        let gate = gate.clone();
        Box::pin(async move {
            match delivery.record.key.as_deref() {
                Some(b"stuck") => gate.notified().await,
                Some(b"slow") => return Outcome::Handled(vec![NewRecord::new("slow", "v")]),
                Some(b"out") => return Outcome::Handled(vec![NewRecord::new("out", "v")]),
                _ => {}
            }
            Outcome::Handled(Vec::new())
        })
    }
}

/// A member that hands many lanes over together: it has had quick calls only, of records `0..1000`.
async fn wide(gate: Arc<Notify>) -> Rig {
    let mut group = group(Ordering::Key, OnReject::DeadLetter);
    group.max_in_flight = 2;
    let mut rig = Rig::new(group, by_key(gate));
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..1000).await;
    rig.committed(1000).await;
    rig
}

impl Rig {
    /// Records from offset 1000 on, of which every third has the key that is named, and the others none.
    async fn every_third(&self, key: &'static str, count: u64) {
        let record = |number| record(0, 1000 + number, (number % 3 == 1).then_some(key));
        self.send(MemberEvent::Records((0..count).map(record).collect())).await;
    }

    /// Waits until so many records of partition 0 are left, in flight or waiting.
    async fn until_left(&mut self, left: usize) {
        self.until(|status| {
            let shown = &status.partitions[0];
            shown.in_flight + shown.waiting == left
        })
        .await;
    }
}

#[tokio::test]
async fn lanes_of_a_handler_that_is_quick_are_handed_over_together() {
    let rig = wide(Arc::default()).await;
    assert_eq!(rig.calls().len(), 1000);
    let widths = rig.widths.lock().unwrap().clone();
    assert_eq!(widths[0], 1, "nothing is known of it yet");
    assert_eq!(widths.iter().sum::<usize>(), 1000, "each was handed over once");
    assert!(widths.iter().any(|width| *width >= 32), "{widths:?}");
}

#[tokio::test]
async fn a_lane_whose_call_waits_holds_none_that_was_handed_over_with_it() {
    let gate = Arc::<Notify>::default();
    let mut rig = wide(gate.clone()).await;
    rig.every_third("stuck", 30).await;
    rig.until_left(10).await;
    for released in 0..10 {
        rig.eventually("the next is called", |rig| rig.calls().len() == 1021 + released).await;
        gate.notify_one();
    }
    rig.committed(1030).await;
    let calls = rig.calls();
    let stuck = calls.iter().filter(|(offset, _)| *offset >= 1000 && (offset - 1000) % 3 == 1);
    assert!(stuck.is_sorted(), "{calls:?}");
}

#[tokio::test]
async fn a_lane_whose_output_waits_holds_none_that_was_handed_over_with_it() {
    let mut rig = wide(Arc::default()).await;
    let keys = ["slow", "out", "quick"];
    let records = keys.iter().zip(1000..).map(|(key, offset)| record(0, offset, Some(key)));
    rig.send(MemberEvent::Records(records.collect())).await;
    rig.until_left(1).await;
    assert_eq!(rig.broker.kept("out").len(), 1);
    let (acknowledge, at) = rig.broker.slow.lock().unwrap().pop().unwrap();
    acknowledge.send(Ok(at));
    rig.committed(1003).await;
}

#[tokio::test]
async fn a_partition_that_is_lost_takes_those_with_it_that_wait_and_the_others_go_on() {
    let mut rig = wide(Arc::default()).await;
    rig.every_third("stuck", 30).await;
    rig.until_left(10).await;
    rig.assign(1, Some(0)).await;
    rig.send(MemberEvent::Lost(vec![at(0)])).await;
    rig.until(|status| status.partitions.len() == 1).await;
    rig.records(1, 0..50).await;
    loop {
        let commits = rig.commit(Ok(())).await;
        let commit = commits.iter().find(|commit| commit.partition == at(1));
        if commit.is_some_and(|commit| commit.committed.offset == 50) {
            return;
        }
    }
}
