//! Listing and redriving as functions, against letters that the test writes.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use keyway::{
    admin::{
        dead_letters::{Filter, Order, list, redrive},
        snapshot::{DeadLetters, RedriveLine},
    },
    broker::{Broker, TopicSpec, embedded::Embedded, kafka::Kafka},
    config::{Config, OnReject, Ordering, Retention},
    letter::{self, Entry, Letter, Mark, MarkKind},
    record::{Header, NewRecord, Place, Record, TopicPartition},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::kafka::{self, Kind};

const CONFIG: &str = r#"
[[topics]]
name = "t"
[[groups]]
id = "g"
topics = ["t"]
handler = { plugin = "h" }
[[groups]]
id = "p"
topics = ["t"]
handler = { plugin = "h" }
on-reject = "park"
"#;

/// A broker with topic `t` (two partitions), a group `g` that writes its dead letters to `t.dead-letters`, and a group
/// `p` that parks.
struct Setup {
    broker: Arc<dyn Broker>,
    config: Arc<Config>,
    _directory: TempDir,
}

async fn set_up(ordering: Ordering) -> Setup {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path()).await;
    let mut config = Config::parse(CONFIG, "keyway.toml", Path::new("."), []).unwrap();
    config.groups[1].ordering = ordering;
    Setup { broker, config: Arc::new(config), _directory: directory }
}

async fn open(directory: &Path) -> Arc<dyn Broker> {
    let forever = Retention { time: None, bytes: None };
    let broker = Embedded::open(directory, forever).unwrap();
    for topic in ["t", "t.dead-letters", "p.parked"] {
        let (name, keep_forever) = (topic.into(), false);
        let spec = TopicSpec { name, partitions: 2, replication_factor: None, keep_forever };
        broker.ensure_topic(&spec).await.unwrap();
    }
    Arc::new(broker)
}

impl Setup {
    /// Writes a letter about the record of `partition` at `offset`, with a key and a reason.
    async fn letter(&self, topic: &str, partition: u32, offset: u64, key: &str, reason: &str) {
        let letter = Letter {
            source: Place { partition: TopicPartition::new("t", partition), offset },
            group: if topic == "p.parked" { "p" } else { "g" }.into(),
            handler: format!("h{partition}@0a0a0a0a0a0a"),
            attempts: 1,
            reason: reason.into(),
            rejected_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + offset),
        };
        let own = Header { key: "own".into(), value: Some("header".into()) };
        let record = NewRecord {
            partition: Some(partition),
            key: (!key.is_empty()).then(|| key.to_owned().into()),
            headers: [vec![own], letter.headers()].concat(),
            ..NewRecord::new(topic, format!("value {offset}"))
        };
        self.broker.produce(record).await.unwrap();
    }

    async fn dead_letters(&self) {
        for (partition, offset, key, reason) in [
            (0, 4, "a", "no user"),
            (0, 5, "b", "timeout"),
            (1, 9, "a", "no user"),
            (1, 10, "", "x"),
        ] {
            self.letter("t.dead-letters", partition, offset, key, reason).await;
        }
    }

    async fn look(&self, filter: Filter, from: Option<&str>, limit: usize) -> DeadLetters {
        let from = from.map(|from| from.parse().unwrap());
        list(&*self.broker, &self.config, &filter, from.as_ref(), limit).await.unwrap()
    }

    /// The source offsets of what is listed.
    async fn listed(&self, filter: Filter) -> Vec<u64> {
        offsets(&self.look(filter, None, 100).await)
    }

    async fn redrive(&self, order: Order) -> Vec<RedriveLine> {
        let (lines, mut told) = mpsc::channel(1000);
        redrive(self.broker.clone(), self.config.clone(), order, lines).await;
        let mut all = Vec::new();
        while let Some(line) = told.recv().await {
            all.push(line);
        }
        all
    }

    async fn records(&self, topic: &str, partition: u32) -> Vec<Record> {
        self.broker.records(&TopicPartition::new(topic, partition), 0, 1000).await.unwrap()
    }
}

fn offsets(page: &DeadLetters) -> Vec<u64> {
    page.dead_letters.iter().map(|letter| letter.source.offset).collect()
}

fn end(records: u64) -> RedriveLine {
    RedriveLine::End { records, refused: 0, error: None }
}

fn parked() -> Filter {
    Filter { parked: Some(true), ..Filter::default() }
}

#[tokio::test]
async fn letters_are_found_by_topic_group_handler_reason_key_and_time() {
    let setup = set_up(Ordering::Key).await;
    setup.dead_letters().await;
    setup.letter("p.parked", 0, 20, "a", "no user").await;
    let text = |text: &str| Some(text.to_owned());
    let any = Filter::default;
    for (filter, expected) in [
        (any(), vec![20, 4, 5, 9, 10]),
        (Filter { topic: text("t.dead-letters"), ..any() }, vec![4, 5, 9, 10]),
        (Filter { topic: text("elsewhere"), ..any() }, vec![]),
        (Filter { group: text("p"), ..any() }, vec![20]),
        (Filter { handler: text("h1"), ..any() }, vec![9, 10]),
        (Filter { handler: text("h1@0a0a0a0a0a0a"), ..any() }, vec![9, 10]),
        (Filter { handler: text("h"), ..any() }, vec![]),
        (Filter { reason: text("user"), ..any() }, vec![20, 4, 9]),
        (Filter { key: text("a"), ..any() }, vec![20, 4, 9]),
        (Filter { since: Some("1970-01-01T00:16:49Z".parse().unwrap()), ..any() }, vec![20, 9, 10]),
        (Filter { parked: Some(false), reason: text("user"), ..any() }, vec![4, 9]),
        (parked(), vec![20]),
    ] {
        assert_eq!(setup.listed(filter.clone()).await, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn a_page_says_where_the_next_one_begins() {
    let setup = set_up(Ordering::Key).await;
    setup.dead_letters().await;
    let mut from: Option<String> = None;
    let mut seen = Vec::new();
    loop {
        let page = setup.look(Filter::default(), from.as_deref(), 1).await;
        assert!(page.dead_letters.len() <= 1);
        seen.extend(offsets(&page));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, [4, 5, 9, 10]);
}

#[tokio::test]
async fn a_redrive_writes_records_back_as_they_were_and_a_second_one_nothing() {
    let setup = set_up(Ordering::Key).await;
    setup.dead_letters().await;
    let only = Filter { reason: Some("user".into()), ..Filter::default() };
    let order = Order { filter: only.clone(), dry_run: true };
    let lines = setup.redrive(order.clone()).await;
    let would = RedriveLine::Redriven { letter: "t.dead-letters/0@0".into(), to: "t/0".into() };
    assert_eq!((&lines[0], &lines[2]), (&would, &end(2)));
    assert!(setup.records("t", 0).await.is_empty(), "a dry run writes nothing");

    let order = Order { dry_run: false, ..order };
    let lines = setup.redrive(order.clone()).await;
    let did = RedriveLine::Redriven { letter: "t.dead-letters/0@0".into(), to: "t/0@0".into() };
    assert_eq!((&lines[0], &lines[2]), (&did, &end(2)));
    for (partition, value) in [(0, "value 4"), (1, "value 9")] {
        let [record] = &setup.records("t", partition).await[..] else { panic!("one record") };
        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
        assert_eq!(record.key.as_deref(), Some(b"a".as_slice()));
        assert_eq!(record.headers.len(), 1, "its own header: {:?}", record.headers);
    }
    assert_eq!(setup.listed(Filter::default()).await, [5, 10]);
    assert_eq!(setup.redrive(order).await, [end(0)]);
    assert_eq!(setup.redrive(Order::default()).await.last(), Some(&end(2)));
    assert_eq!(setup.listed(Filter::default()).await, Vec::<u64>::new());
}

#[tokio::test]
async fn a_redrive_that_nobody_listens_to_any_more_ends_and_the_next_goes_on() {
    let setup = set_up(Ordering::Key).await;
    setup.dead_letters().await;
    let (lines, mut told) = mpsc::channel(1);
    let hangs_up = async move { told.recv().await };
    tokio::join!(
        redrive(setup.broker.clone(), setup.config.clone(), Order::default(), lines),
        hangs_up
    );
    assert_eq!(setup.listed(Filter::default()).await, [9, 10], "one transaction was written");
    assert_eq!(setup.redrive(Order::default()).await.last(), Some(&end(2)));
    assert_eq!((setup.records("t", 0).await.len(), setup.records("t", 1).await.len()), (2, 2));
}

#[tokio::test]
async fn a_redrive_ends_when_another_begins_and_neither_writes_what_the_other_did() {
    let setup = set_up(Ordering::Key).await;
    setup.dead_letters().await;
    let (lines, mut told) = mpsc::channel(1);
    let first = redrive(setup.broker.clone(), setup.config.clone(), Order::default(), lines);
    let second = async {
        let mut all = vec![told.recv().await.unwrap()];
        // The first has more to tell than it can, and has partition 1 before it.
        let only = Filter { reason: Some("user".into()), ..Filter::default() };
        let order = Order { filter: only, dry_run: false };
        assert_eq!(setup.redrive(order).await.last(), Some(&end(1)));
        while let Some(line) = told.recv().await {
            all.push(line);
        }
        all
    };
    let ((), told) = tokio::join!(first, second);
    let Some(RedriveLine::End { records: 2, error: Some(error), .. }) = told.last() else {
        panic!("{told:?}")
    };
    assert!(error.contains("another redrive of \"t.dead-letters\" has begun"), "{error}");
    assert_eq!(setup.listed(Filter::default()).await, [10]);
    assert_eq!((setup.records("t", 0).await.len(), setup.records("t", 1).await.len()), (2, 1));
}

#[tokio::test]
async fn many_letters_are_written_back_in_their_order() {
    let setup = set_up(Ordering::Key).await;
    for offset in 0..250 {
        setup.letter("t.dead-letters", 0, offset, "a", "r").await;
    }
    let lines = setup.redrive(Order::default()).await;
    assert_eq!(lines.last(), Some(&end(250)));
    for (offset, line) in (0..250).zip(&lines) {
        let (letter, to) = (format!("t.dead-letters/0@{offset}"), format!("t/0@{offset}"));
        assert_eq!(line, &RedriveLine::Redriven { letter, to });
    }
    let values: Vec<_> =
        setup.records("t", 0).await.into_iter().map(|record| record.value.unwrap()).collect();
    assert_eq!(values, (0..250).map(|offset| format!("value {offset}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_letter_whose_source_is_gone_is_refused_and_the_others_go_on() {
    let setup = set_up(Ordering::Key).await;
    let nowhere = Letter {
        source: "gone/0@1".parse().unwrap(),
        group: "g".into(),
        handler: "h@0".into(),
        attempts: 1,
        reason: "r".into(),
        rejected_at: SystemTime::UNIX_EPOCH,
    };
    let record = NewRecord { headers: nowhere.headers(), ..NewRecord::new("t.dead-letters", "v") };
    setup.broker.produce(NewRecord { partition: Some(0), ..record }).await.unwrap();
    setup.dead_letters().await;
    let lines = setup.redrive(Order::default()).await;
    assert!(
        matches!(&lines[0], RedriveLine::Refused { letter, reason }
            if letter == "t.dead-letters/0@0" && reason.contains("gone")),
        "{lines:?}"
    );
    assert_eq!(lines.last(), Some(&RedriveLine::End { records: 4, refused: 1, error: None }));
}

#[tokio::test]
async fn a_letter_that_kafka_refuses_holds_up_none_that_it_was_written_with() {
    let address = tokio::task::spawn_blocking(|| kafka::shared(Kind::Kraft)).await.unwrap();
    let Some(address) = address else { return };
    let topic = format!("small-{}-{:08x}", std::process::id(), fastrand::u32(..));
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
    let small =
        NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "600");
    let made = admin.create_topics([&small], &AdminOptions::new()).await.unwrap();
    assert!(made[0].is_ok(), "{made:?}");
    let broker: Arc<dyn Broker> = Arc::new(Kafka::connect(address, &BTreeMap::new()).unwrap());
    let name: Arc<str> = format!("{topic}.dead-letters").into();
    let spec = TopicSpec {
        name: name.clone(),
        partitions: 1,
        replication_factor: None,
        keep_forever: false,
    };
    broker.ensure_topic(&spec).await.unwrap();
    // Together they are too large, and one of them is on its own.
    for (offset, bytes) in [(0, 100), (1, 400), (2, 1000), (3, 400)] {
        let letter = Letter {
            source: Place { partition: TopicPartition::new(topic.as_str(), 0), offset },
            group: "g".into(),
            handler: "h@0".into(),
            attempts: 1,
            reason: "r".into(),
            rejected_at: SystemTime::UNIX_EPOCH,
        };
        let record = NewRecord {
            headers: letter.headers(),
            ..NewRecord::new(name.clone(), "v".repeat(bytes))
        };
        while broker.produce(record.clone()).await.is_err() {
            tokio::task::yield_now().await; // a new topic has no leader yet
        }
    }
    let config = CONFIG.replace("\"t\"", &format!("{topic:?}"));
    let config = Arc::new(Config::parse(&config, "keyway.toml", Path::new("."), []).unwrap());
    let setup = Setup { broker, config, _directory: tempfile::tempdir().unwrap() };
    let lines = setup.redrive(Order::default()).await;
    let end = RedriveLine::End { records: 3, refused: 1, error: None };
    assert_eq!(lines.last(), Some(&end), "{lines:?}");
    let refused = format!("{name}/0@2");
    assert!(
        lines
            .iter()
            .any(|line| matches!(line, RedriveLine::Refused { letter, .. } if *letter == refused)),
        "{lines:?}"
    );
    assert_eq!(setup.listed(Filter::default()).await, [2]);
    let sizes: Vec<_> = setup
        .records(&topic, 0)
        .await
        .iter()
        .map(|record| record.value.as_ref().unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 400, 400]);
}

#[tokio::test]
async fn parked_lanes_are_asked_for_once_each_by_the_order_that_their_group_keeps() {
    for (ordering, lanes) in [(Ordering::Partition, 1), (Ordering::Key, 2), (Ordering::None, 4)] {
        let setup = set_up(ordering).await;
        for (offset, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "a")] {
            setup.letter("p.parked", 0, offset, key, "r").await;
        }
        setup.letter("t.dead-letters", 0, 5, "a", "r").await;
        let lines = setup.redrive(Order { filter: parked(), dry_run: false }).await;
        assert_eq!(lines.len(), lanes + 1, "{ordering:?}: {lines:?}");
        assert_eq!(lines.last(), Some(&end(4)));
        let marks = setup.records("p.parked", 0).await.split_off(4);
        let released = |record: &Record| match letter::read(record) {
            Some(Entry::Mark(Mark { kind: MarkKind::Released, letter, .. })) => letter.offset,
            other => panic!("{other:?}"),
        };
        let mut released: Vec<_> = marks.iter().map(released).collect();
        released.sort_unstable();
        assert_eq!(released, [0, 1, 2, 3][..lanes], "{ordering:?}");
        assert!(setup.records("t", 0).await.is_empty(), "the member handles them");
    }
}

#[tokio::test]
async fn a_lane_that_holds_a_letter_that_is_meant_is_given_back_as_a_whole() {
    let setup = set_up(Ordering::Key).await;
    for (offset, key, reason) in [(1, "a", "bad"), (2, "a", "behind"), (3, "b", "bad")] {
        setup.letter("p.parked", 0, offset, key, reason).await;
    }
    let filter = Filter { reason: Some("behind".into()), ..parked() };
    let lines = setup.redrive(Order { filter, dry_run: false }).await;
    let lane = RedriveLine::Released { letter: "p.parked/0@0".into(), records: 2 };
    assert_eq!(lines, [lane, end(2)]);
}

#[tokio::test]
async fn a_group_that_parks_no_more_is_told_to_before_its_lanes_are_given_back() {
    let mut setup = set_up(Ordering::Key).await;
    setup.letter("p.parked", 0, 1, "a", "bad").await;
    let mut config = (*setup.config).clone();
    config.groups[1].on_reject = OnReject::Drop;
    setup.config = Arc::new(config);
    let lines = setup.redrive(Order { filter: parked(), dry_run: false }).await;
    let Some(RedriveLine::End { error: Some(error), .. }) = lines.last() else {
        panic!("{lines:?}")
    };
    assert!(error.contains("on-reject"), "{error}");
}
