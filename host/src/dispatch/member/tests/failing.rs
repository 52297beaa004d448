//! What becomes of records whose handling fails, and of output that is not taken.

use super::*;

#[tokio::test]
async fn a_retry_holds_its_lane_and_no_other() {
    let mut rig = Rig::new(group(Ordering::Key, OnReject::DeadLetter), |delivery| {
        Box::pin(async move {
            match (delivery.record.offset, delivery.attempt) {
                (0, 1) => Outcome::Retry {
                    reason: "later".into(),
                    after: Some(Duration::from_millis(300)),
                },
                _ => Outcome::Handled(Vec::new()),
            }
        })
    });
    rig.assign(0, None).await;
    let keys = ["a", "a", "b", "b"];
    let records = keys.iter().zip(0..).map(|(key, offset)| record(0, offset, Some(key))).collect();
    rig.send(MemberEvent::Records(records)).await;
    rig.committed(4).await;
    let calls = rig.calls();
    let place = |call| calls.iter().position(|other| *other == call).unwrap();
    assert!(place((0, 1)) < place((0, 2)) && place((0, 2)) < place((1, 1)), "{calls:?}");
    assert!(place((2, 1)) < place((3, 1)) && place((3, 1)) < place((0, 2)), "{calls:?}");
}

#[tokio::test]
async fn a_record_out_of_attempts_becomes_a_dead_letter_before_its_offset_is_committed() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |delivery| {
        Box::pin(async move {
            match delivery.record.offset {
                1 => Outcome::Retry { reason: "no luck".into(), after: None },
                _ => Outcome::Handled(Vec::new()),
            }
        })
    });
    *rig.broker.trouble.lock().unwrap() = 1;
    rig.assign(0, None).await;
    rig.records(0, 0..3).await;
    rig.committed(3).await;
    assert_eq!(rig.calls(), [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]);
    let produced = rig.broker.produced.lock().unwrap().clone();
    let [letter] = &produced[..] else { panic!("one dead letter was expected, not {produced:?}") };
    assert_eq!((&*letter.topic, letter.partition), ("t.dead-letters", Some(0)));
    let header = |name: &str| {
        let header = letter.headers.iter().find(|header| header.key == name).unwrap();
        String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("keyway.source"), "t/0@1");
    assert_eq!(header("keyway.group"), "g");
    assert_eq!(header("keyway.attempts"), "3");
    assert_eq!(header("keyway.reason"), "no luck");
    assert_eq!(header("keyway.handler"), "scripted@010101010101");
    assert!(humantime::parse_rfc3339(&header("keyway.rejected-at")).is_ok());
}

#[tokio::test]
async fn a_record_whose_letter_is_refused_stops_its_partition_and_is_given_up_on_when_it_is_resumed()
 {
    for on_reject in [OnReject::DeadLetter, OnReject::Park] {
        let mut rig = Rig::new(group(Ordering::Key, on_reject), |delivery| {
            if delivery.record.offset == 1 { rejected() } else { handled() }
        });
        rig.assign(0, Some(0)).await;
        let large: bytes::Bytes = vec![0; 1 << 20].into();
        let value = |offset, size| Record {
            value: Some(large.slice(..size)),
            ..record(0, offset, Some("a"))
        };
        rig.send(MemberEvent::Records(vec![value(0, 1), value(1, 1 << 20), value(2, 1)])).await;
        rig.until(|status| {
            let stopped = status.partitions.first().and_then(|it| it.stopped.as_deref());
            stopped.is_some_and(|why| why.contains("offset 1") && why.contains("1048576"))
        })
        .await;
        // As if the topic took more now.
        rig.orders.send(Order::Restart(Scope::Group)).await.unwrap();
        let resumed = async {
            loop {
                match rig.driver.commands.recv().await.unwrap() {
                    Command::Commit { offsets, done } => {
                        assert_eq!(offsets[0].committed.offset, 1, "not past what is nowhere");
                        done.send(Ok(())).unwrap();
                    }
                    Command::Seek { offset, .. } => assert_eq!(offset, 1),
                    Command::Resume(_) => return,
                    _ => {}
                }
            }
        };
        timeout(SOON, resumed).await.unwrap();
        rig.send(MemberEvent::Sought { partition: at(0), offset: 1 }).await;
        rig.send(MemberEvent::Records(vec![value(1, 1), value(2, 1)])).await;
        rig.committed(3).await;
        let topic = if on_reject == OnReject::Park { "g.parked" } else { "t.dead-letters" };
        assert_eq!(rig.broker.kept(topic)[0].value, Some(large.slice(..1)));
    }
}

#[tokio::test]
async fn an_output_that_is_refused_fails_its_record_and_those_behind_wait_for_it() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::Drop), |delivery| {
        Box::pin(async move {
            let topic = if delivery.record.offset == 1 { "refused" } else { "out" };
            Outcome::Handled(vec![NewRecord::new(topic, "v")])
        })
    });
    rig.assign(0, None).await;
    rig.records(0, 0..3).await;
    rig.committed(3).await;
    assert_eq!(rig.calls().iter().filter(|(offset, _)| *offset == 1).count(), 3);
    assert_eq!(rig.calls().last(), Some(&(2, 1)), "the record behind is handled after it");
    assert_eq!(rig.shared.counters.dropped.get(), 1);
}

#[tokio::test]
async fn an_output_that_meets_trouble_is_written_once_it_passes() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::Drop), |_| {
        Box::pin(async { Outcome::Handled(vec![NewRecord::new("out", "v")]) })
    });
    *rig.broker.trouble.lock().unwrap() = 2;
    rig.assign(0, None).await;
    rig.records(0, 0..1).await;
    rig.committed(1).await;
    assert_eq!(rig.broker.produced.lock().unwrap().len(), 1);
    assert_eq!(rig.calls(), [(0, 1)]);
}

#[tokio::test]
async fn a_partition_that_stops_goes_on_from_that_record_when_it_is_resumed() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::Stop), |delivery| {
        if delivery.record.offset == 1 && delivery.attempt == 1 { rejected() } else { handled() }
    });
    rig.assign(0, None).await;
    rig.records(0, 0..3).await;
    assert!(matches!(rig.command().await, Command::Pause(partitions) if partitions == [at(0)]));
    rig.until(|status| status.partitions.iter().any(|partition| partition.stopped.is_some())).await;
    rig.committed(1).await;
    rig.orders.send(Order::Restart(Scope::Group)).await.unwrap();
    assert!(matches!(rig.command().await, Command::Seek { offset: 1, .. }));
    assert!(matches!(rig.command().await, Command::Resume(_)));
    rig.records(0, 3..5).await;
    rig.send(MemberEvent::Sought { partition: at(0), offset: 1 }).await;
    let calls = rig.calls().len();
    assert_eq!(calls, 2, "records from before the seek are not handled");
    rig.records(0, 2..4).await;
    rig.committed(4).await;
}
