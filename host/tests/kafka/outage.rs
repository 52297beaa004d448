//! A broker that is not there, and one that goes and comes back.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use keyway::{
    broker::{Broker, Health, MemberEvent, ProduceError, kafka::Kafka},
    record::NewRecord,
};

use crate::{
    PATIENCE, connect, eventually, spec,
    support::{Kind, Own},
    unique, until,
};

async fn own() -> Option<Arc<Own>> {
    tokio::task::spawn_blocking(|| Own::start(Kind::Kraft)).await.unwrap().map(Arc::new)
}

async fn kill(kafka: &Arc<Own>) {
    let kafka = kafka.clone();
    tokio::task::spawn_blocking(move || kafka.kill()).await.unwrap();
}

async fn restart(kafka: &Arc<Own>) {
    let kafka = kafka.clone();
    tokio::task::spawn_blocking(move || kafka.restart()).await.unwrap();
}

async fn until_ready(broker: &Kafka) {
    eventually("the broker is ready", async || (broker.health() == Health::Ready).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_at_start_is_told_of_and_used_once_it_is_up() {
    let Some(kafka) = own().await else { return };
    let broker = connect(&kafka.address);
    let topic = crate::topic(&broker, 1).await;
    broker.close(Duration::from_secs(5)).await;
    kill(&kafka).await;

    let broker = connect(&kafka.address);
    assert!(matches!(broker.health(), Health::Unavailable(_)));
    let early = broker.produce(NewRecord::new(topic.clone(), "early"));
    let refused = tokio::time::timeout(PATIENCE, early)
        .await
        .expect("it is answered while the broker is down");
    assert!(matches!(refused, Err(ProduceError::Unavailable { .. })), "{refused:?}");
    let mut member = broker.join(spec(&unique("group"), &topic)).unwrap();

    restart(&kafka).await;
    until_ready(&broker).await;
    // The broker answers before each of its partitions has a leader again.
    let late = NewRecord::new(topic, "late");
    eventually("the record is written", async || broker.produce(late.clone()).await.ok()).await;
    let records = until(&mut member, "the record comes", |event| match event {
        MemberEvent::Records(records) => Some(records),
        _ => None,
    })
    .await;
    assert_eq!(records[0].value.as_deref(), Some(b"late".as_slice()));
    member.commands.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_broker_is_killed_and_consumers_go_on() {
    let Some(kafka) = own().await else { return };
    let broker = connect(&kafka.address);
    let topic = crate::topic(&broker, 3).await;
    let mut member = broker.join(spec(&unique("group"), &topic)).unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (broker, topic, stop) = (broker.clone(), topic.clone(), stop.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    let id = format!("{writer}/{number}");
                    let record = NewRecord::new(topic.clone(), id.clone());
                    if broker.produce(record).await.is_ok() {
                        acknowledged.push(id);
                    }
                }
                acknowledged
            })
        })
        .collect();
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        collect(&mut member, &mut seen, Duration::from_secs(1)).await;
        kill(&kafka).await;
        collect(&mut member, &mut seen, Duration::from_secs(1)).await;
        restart(&kafka).await;
        until_ready(&broker).await;
    }
    stop.store(true, Relaxed);
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!(acknowledged.len() > 100, "only {}", acknowledged.len());
    let deadline = Instant::now() + PATIENCE;
    while !acknowledged.is_subset(&seen) {
        assert!(
            Instant::now() < deadline,
            "{} of {} acknowledged records never came",
            acknowledged.difference(&seen).count(),
            acknowledged.len(),
        );
        collect(&mut member, &mut seen, Duration::from_millis(100)).await;
    }
    member.commands.leave().await;
}

/// Takes the member's events for a while.
async fn collect(member: &mut keyway::broker::Member, seen: &mut BTreeSet<String>, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while let Ok(event) = tokio::time::timeout_at(end, member.events.recv()).await {
        match event.expect("the member goes on") {
            MemberEvent::Records(records) => seen.extend(records.into_iter().map(|record| {
                String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap()
            })),
            MemberEvent::Revoking(partitions) => member.commands.release(partitions).await,
            _ => {}
        }
    }
}
