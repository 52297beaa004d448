//! 32 members on 200 partitions, in one process, on either broker.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use keyway::{
    broker::{Broker, TopicSpec, embedded::Embedded, kafka::Kafka},
    config::{self, Config, Retention},
    dispatch::{Group, Pauses},
    handler::{Delivery, Generation, Handler, Outcome, RunReport},
    produce::Producer,
    record::{NewRecord, TopicPartition},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    audit::{Audit, Number},
    kafka::{self, Kind},
    relay::Relay,
};

const MEMBERS: usize = 32;
const PARTITIONS: u32 = 200;
/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_on_the_embedded_broker() {
    let directory = tempfile::tempdir().unwrap();
    let forever = Retention { time: None, bytes: None };
    let broker = Arc::new(Embedded::open(directory.path(), forever).unwrap());
    come_and_go(broker, 120, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_on_kafka() {
    let address = tokio::task::spawn_blocking(|| kafka::shared(Kind::Kraft)).await.unwrap();
    let Some(address) = address else { return };
    // Kafka waits so long for one that goes while it joins.
    let session = BTreeMap::from([("session.timeout.ms".to_owned(), "10000".to_owned())]);
    let broker = Arc::new(Kafka::connect(address, &session).unwrap());
    come_and_go(broker, 40, 100).await;
}

/// A member's handler: waits a little, and tells of every record.
struct Tells {
    member: Number,
    audit: Arc<Audit>,
}

impl Handler for Tells {
    fn handle(&self, run: Vec<Delivery>) -> BoxFuture<'static, RunReport> {
        let (member, audit, generation) = (self.member, self.audit.clone(), self.generation());
        Box::pin(async move {
            for Delivery { record, .. } in &run {
                audit.begins(member, record);
                sleep(Duration::from_micros(fastrand::u64(0..1500))).await;
                audit.ends(member, record);
            }
            let outcomes = run.iter().map(|_| Outcome::Handled(Vec::new())).collect();
            RunReport { generation, deliveries: run, outcomes, on_trial: false }
        })
    }

    fn generation(&self) -> Generation {
        Generation { plugin: "tells".into(), digest: [1; 32] }
    }
}

struct Crowd {
    broker: Arc<dyn Broker>,
    group: Arc<config::Group>,
    audit: Arc<Audit>,
    members: HashMap<Number, (Group, Arc<Relay>)>,
    next: Number,
}

impl Crowd {
    fn join(&mut self) {
        let (member, audit) = (self.next, self.audit.clone());
        self.next += 1;
        let relay = Arc::new(Relay {
            broker: self.broker.clone(),
            audit: audit.clone(),
            member,
            lines: Mutex::default(),
        });
        let group = Group::start(
            self.group.clone(),
            relay.clone(),
            Producer::new(self.broker.clone(), HashMap::new()),
            Arc::new(Tells { member, audit }),
            Arc::new(Pauses::default()),
        );
        self.members.insert(member, (group, relay));
    }

    fn any(&mut self, random: &mut fastrand::Rng) -> Option<(Group, Arc<Relay>)> {
        let mut numbers: Vec<_> = self.members.keys().copied().collect();
        numbers.sort_unstable();
        let number = random.choice(numbers)?;
        self.members.remove(&number)
    }
}

/// Lets members come and go, so many `steps` of them with up to `pause` ms between two, while records are written.
async fn come_and_go(broker: Arc<dyn Broker>, steps: usize, pause: u64) {
    let topic: Arc<str> = format!("churn-{}-{:08x}", std::process::id(), fastrand::u32(..)).into();
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: PARTITIONS,
        replication_factor: None,
        keep_forever: false,
    };
    let made = async {
        while broker.ensure_topic(&spec).await.is_err() {
            sleep(Duration::from_millis(50)).await; // on Kafka it has no leader yet
        }
    };
    timeout(PATIENCE, made).await.expect("the topic is made");
    let mut crowd = Crowd {
        broker: broker.clone(),
        group: group(&topic),
        audit: Arc::new(Audit::default()),
        members: HashMap::new(),
        next: 0,
    };
    (0..MEMBERS).for_each(|_| crowd.join());
    let first = timeout(PATIENCE, write_first(&*broker, &topic));
    let first = first.await.expect("each partition takes a record");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(write(broker.clone(), first, stopped));
    let mut random = fastrand::Rng::with_seed(7);
    let mut leaving = Vec::new();
    for _ in 0..steps {
        match random.u32(0..4) {
            0 | 1 if crowd.members.len() < MEMBERS => crowd.join(),
            2 => drop(crowd.any(&mut random).inspect(|(_, relay)| relay.cut())),
            _ => leaving.extend(crowd.any(&mut random).map(|(group, _)| {
                tokio::spawn(async move { group.drain(Instant::now() + PATIENCE / 4).await })
            })),
        }
        sleep(Duration::from_millis(random.u64(0..=pause))).await;
    }
    (crowd.members.len()..MEMBERS).for_each(|_| crowd.join());
    stop.send(()).unwrap();
    let written = writing.await.unwrap();
    everything_is_committed(&crowd, &written).await;
    for left in leaving {
        left.await.unwrap();
    }
    let drained = crowd.members.values().map(|(group, _)| group.drain(Instant::now() + PATIENCE));
    join_all(drained).await;
    assert_eq!(crowd.audit.wrong(), Vec::<String>::new());
    let records: u64 = written.values().sum();
    assert!(records > u64::from(PARTITIONS), "only {records} were written: this shows little");
}

fn group(topic: &Arc<str>) -> Arc<config::Group> {
    let text = format!(
        "[[topics]]\nname = \"{topic}\"\n[[groups]]\nid = \"{topic}\"\ntopics = [\"{topic}\"]\nhandler = {{ plugin = \
         \"tells\" }}\n"
    );
    let mut config = Config::parse(&text, "keyway.toml", Path::new("."), []).unwrap();
    Arc::new(config.groups.remove(0))
}

/// How many records there are of each partition.
type Written = HashMap<TopicPartition, u64>;

/// Writes a record to each partition, as soon as it takes one.
async fn write_first(broker: &dyn Broker, topic: &Arc<str>) -> Written {
    let first = (0..PARTITIONS).map(|number| async move {
        let at = TopicPartition::new(topic.clone(), number);
        while write_one(broker, &at).await.is_none() {}
        (at, 1)
    });
    join_all(first).await.into_iter().collect()
}

async fn write_one(broker: &dyn Broker, at: &TopicPartition) -> Option<u64> {
    let partition = Some(at.partition);
    let record = NewRecord { partition, ..NewRecord::new(at.topic.clone(), "v") };
    broker.produce(record).await.ok().map(|produced| produced.offset + 1)
}

/// Writes records until it is told to stop.
async fn write(
    broker: Arc<dyn Broker>,
    mut written: Written,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> Written {
    let partitions: Vec<_> = written.keys().cloned().collect();
    while stop.try_recv().is_err() {
        let some: Vec<_> = (0..20).filter_map(|_| fastrand::choice(&partitions)).collect();
        let counts = join_all(some.iter().map(|at| write_one(&*broker, at))).await;
        for (at, count) in some.into_iter().zip(counts) {
            let known = written.get_mut(at).unwrap();
            *known = count.unwrap().max(*known);
        }
        sleep(Duration::from_millis(5)).await;
    }
    written
}

async fn everything_is_committed(crowd: &Crowd, written: &Written) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Kafka may not tell now, and has to in the end.
        let info = crowd.broker.group(&crowd.group.id).await;
        let committed = info.map(|info| info.committed).unwrap_or_default().into_iter();
        let committed: HashMap<_, _> =
            committed.map(|(at, committed)| (at, committed.offset)).collect();
        let behind: Vec<_> = written
            .iter()
            .filter(|(at, count)| committed.get(at) != Some(count))
            .map(|(at, count)| format!("{at}: {:?} of {count}", committed.get(at)))
            .collect();
        if behind.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{behind:?}\n{:?}", crowd.audit.wrong());
        sleep(Duration::from_millis(50)).await;
    }
    for (partition, count) in written {
        assert_eq!(crowd.audit.handled(partition), *count, "{partition}");
    }
}
