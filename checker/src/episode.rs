//! An episode: gateways under load, the faults of a plan, the end in peace, and then the history.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use keyway::config;
use serde_json::Value;

use crate::{
    check::{self, Violation},
    cluster::Cluster,
    error::Result,
    gateway::{self, Gateway},
    handler,
    history::{Acknowledged, Commit, History},
    load::{Load, Targets},
    observe::Observer,
    plan::{Fault, PARTITIONS, Plan, Setup},
};

/// Nothing is committed for so long after the faults: then nothing will be.
const STALL: Duration = Duration::from_secs(30);
const STALL_EMBEDDED: Duration = Duration::from_secs(10);
/// How often commits are looked at, where that can be done while gateways run.
const LOOK: Duration = Duration::from_millis(200);

/// What came of an episode.
pub(crate) struct Report {
    pub(crate) history: History,
    pub(crate) violations: Vec<Violation>,
    /// How many of each.
    pub(crate) faults: BTreeMap<&'static str, usize>,
    /// How long it took until all was handled, after the last of them.
    pub(crate) settled: Duration,
}

/// Runs an episode in a new `directory`, on the embedded broker where there is no `cluster`.
pub(crate) fn run(
    plan: &Plan,
    cluster: Option<&Cluster>,
    component: &[u8],
    directory: &Path,
) -> Result<Report> {
    let mut world = World::new(plan, cluster, component, directory)?;
    for _ in 0..plan.setup.processes {
        world.add()?;
    }
    let watch =
        cluster.map(|cluster| Watch::start(&cluster.address, &world.names.group)).transpose()?;
    let load = Load::start(plan.seed, &world.targets);
    let mut faults = BTreeMap::new();
    for (wait, fault) in &plan.steps {
        thread::sleep(*wait);
        world.suffer(fault)?;
        *faults.entry(fault.name()).or_default() += 1;
    }
    let acknowledged = load.stop();
    let ceased = Instant::now();
    let stuck = world.settle()?;
    let settled = ceased.elapsed();
    world.commits.extend(watch.map(Watch::stop).unwrap_or_default());
    let history = world.end(acknowledged)?;
    fs::write(directory.join("history.txt"), format!("{history:#?}"))?;
    let mut violations = check::check(&history);
    violations
        .extend(stuck.map(|what| Violation { rule: "everything is handled in the end", what }));
    Ok(Report { history, violations, faults, settled })
}

/// What the topics and the group are called.
struct Names {
    source: String,
    output: String,
    group: String,
}

/// The gateways and all they work with.
struct World<'a> {
    plan: &'a Plan,
    cluster: Option<&'a Cluster>,
    component: &'a [u8],
    directory: PathBuf,
    names: Names,
    /// Those that run, each with the number of its seat.
    gateways: Vec<(usize, Gateway)>,
    seats: usize,
    started: usize,
    consumers: u32,
    generation: u8,
    targets: Targets,
    commits: Vec<Commit>,
}

impl<'a> World<'a> {
    fn new(
        plan: &'a Plan,
        cluster: Option<&'a Cluster>,
        component: &'a [u8],
        directory: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(directory.join("plugins"))?;
        // A cluster lives longer than an episode, and may have seen this one before.
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names = Names {
            source: format!("{name}-source"),
            output: format!("{name}-output"),
            group: format!("{name}-group"),
        };
        let world = Self {
            plan,
            cluster,
            component,
            directory: directory.into(),
            names,
            gateways: Vec::new(),
            seats: 0,
            started: 0,
            consumers: plan.setup.consumers,
            generation: 0,
            targets: Targets::default(),
            commits: Vec::new(),
        };
        world.configure()?;
        handler::install(component, 0, &directory.join("plugins"))?;
        Ok(world)
    }

    /// Writes the configuration, in place of the one that is there.
    fn configure(&self) -> Result<()> {
        let broker = match self.cluster {
            None => "kind = \"embedded\"\npath = \"data\"".to_owned(),
            Some(cluster) => kafka(&cluster.address),
        };
        let copies = self.cluster.map_or(1, Cluster::copies);
        let text = configuration(&broker, copies, &self.names, &self.plan.setup, self.consumers);
        let next = self.directory.join("next.toml");
        fs::write(&next, text)?;
        Ok(fs::rename(next, self.directory.join("keyway.toml"))?)
    }

    /// Starts one more gateway.
    fn add(&mut self) -> Result<()> {
        self.seats += 1;
        self.start(self.seats)
    }

    fn start(&mut self, seat: usize) -> Result<()> {
        let instance = format!("seat-{seat}");
        let instance = Some(instance.as_str()).filter(|_| self.plan.setup.is_static);
        let number = self.started;
        self.started += 1;
        self.gateways.push((seat, Gateway::start(&self.directory, number, instance)?));
        self.retarget();
        Ok(())
    }

    /// Takes one out of those that run.
    fn take(&mut self, which: usize) -> (usize, Gateway) {
        let taken = self.gateways.remove(which % self.gateways.len());
        self.retarget();
        taken
    }

    fn retarget(&self) {
        self.targets.set(self.gateways.iter().map(|(_, gateway)| gateway.data));
    }

    fn suffer(&mut self, fault: &Fault) -> Result<()> {
        match *fault {
            Fault::Kill { which, away } => {
                let (seat, gateway) = self.take(which);
                gateway.kill()?;
                self.look_at_embedded()?;
                thread::sleep(away);
                self.start(seat)
            }
            Fault::Freeze { which, pause } => {
                let (_, gateway) = &self.gateways[which % self.gateways.len()];
                gateway.signal("STOP")?;
                thread::sleep(pause);
                gateway.signal("CONT")
            }
            Fault::Restart { which } => {
                let (seat, gateway) = self.take(which);
                gateway.terminate()?;
                self.look_at_embedded()?;
                self.start(seat)
            }
            Fault::Join if self.gateways.len() < 4 => self.add(),
            Fault::Leave { which } if self.gateways.len() > 1 => self.take(which).1.terminate(),
            Fault::Join | Fault::Leave { .. } => Ok(()),
            Fault::Members { consumers } => {
                self.consumers = consumers;
                self.configure()
            }
            Fault::Swap => {
                self.generation = self.generation.wrapping_add(1);
                handler::install(self.component, self.generation, &self.directory.join("plugins"))
            }
            Fault::BrokerRestart { which, away } => {
                self.cluster.map_or(Ok(()), |cluster| cluster.restart(which, away))
            }
            Fault::Disturb { which, network, pause } => {
                self.cluster.iter().for_each(|cluster| cluster.disturb(which, network, pause));
                Ok(())
            }
        }
    }

    /// Sees what the embedded broker has committed, now that nobody has it open.
    fn look_at_embedded(&mut self) -> Result<()> {
        if self.cluster.is_none() {
            let commits = self.observer()?.all_commits(&self.names.group)?;
            self.commits.extend(commits);
        }
        Ok(())
    }

    fn observer(&self) -> Result<Observer> {
        match self.cluster {
            Some(cluster) => Observer::of_kafka(&cluster.address),
            None => {
                Observer::of_embedded(&self.directory.join("data"), &self.directory.join("copy"))
            }
        }
    }

    /// Waits until everything is handled and committed. Says what is not, once nothing more happens.
    fn settle(&self) -> Result<Option<String>> {
        let path = format!("/api/v1/groups/{}", self.names.group);
        let (_, gateway) = self.gateways.first().ok_or("no gateway runs")?;
        let stall = if self.cluster.is_some() { STALL } else { STALL_EMBEDDED };
        let (mut since, mut last) = (Instant::now(), Value::Null);
        loop {
            let group = gateway.get(&path).unwrap_or_default();
            let partitions = group["partitions"].as_array().cloned().unwrap_or_default();
            let is_done = |partition: &Value| partition["lag"] == 0;
            if partitions.len() == PARTITIONS as usize && partitions.iter().all(is_done) {
                return Ok(None);
            }
            let committed = partitions.iter().map(|it| it["committed_offset"].clone()).collect();
            if committed != last {
                (since, last) = (Instant::now(), committed);
            } else if since.elapsed() > stall {
                return Ok(Some(format!("nothing was committed for {stall:?}: {partitions:?}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends everything, and gathers the history.
    fn end(mut self, acknowledged: Vec<Acknowledged>) -> Result<History> {
        while !self.gateways.is_empty() {
            self.take(0).1.terminate()?;
        }
        let Names { source, output, group } = &self.names;
        let observer = self.observer()?;
        let mut commits = std::mem::take(&mut self.commits);
        commits.extend(observer.all_commits(group)?);
        let promises = self.plan.setup.promises;
        let letters = match promises.on_reject {
            config::OnReject::Park => format!("{group}.parked"),
            _ => format!("{source}.dead-letters"),
        };
        Ok(History {
            promises,
            acknowledged,
            source: observer.source(source)?,
            output: observer.output(output)?,
            letters: observer.letters(&letters)?,
            commits,
            processes: gateway::processes(&self.directory, self.started)?,
        })
    }
}

/// Looks at what is committed again and again, while gateways run.
struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Commit>>>,
    thread: thread::JoinHandle<()>,
}

impl Watch {
    fn start(address: &str, group: &str) -> Result<Self> {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, commits) = (stop.clone(), seen.clone());
        let (observer, group) = (Observer::of_kafka(address)?, group.to_owned());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A broker that is down answers nothing.
                let seen = observer.commits(&group).unwrap_or_default();
                commits.lock().unwrap_or_else(PoisonError::into_inner).extend(seen);
                thread::sleep(LOOK);
            }
        });
        Ok(Self { stop, seen, thread })
    }

    fn stop(self) -> Vec<Commit> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok(); // it has said nothing that could be missed
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `[broker]` on Kafka. Sessions are short, so that what is frozen or gone is missed soon.
fn kafka(address: &str) -> String {
    format!(
        r#"kind = "kafka"
bootstrap-servers = "{address}"
[broker.properties]
"session.timeout.ms" = "3000"
"heartbeat.interval.ms" = "500"
"transaction.timeout.ms" = "5000""#
    )
}

fn configuration(
    broker: &str,
    copies: usize,
    names: &Names,
    setup: &Setup,
    consumers: u32,
) -> String {
    let Names { source, output, group } = names;
    let Setup { promises, max_in_flight, wait, retry, reject, .. } = setup;
    let ordering = match promises.ordering {
        config::Ordering::Partition => "partition",
        config::Ordering::Key => "key",
        config::Ordering::None => "none",
    };
    let delivery = match promises.delivery {
        config::Delivery::AtLeastOnce => "at-least-once",
        config::Delivery::ExactlyOnce => "exactly-once",
    };
    let on_reject = match promises.on_reject {
        config::OnReject::Park => "park",
        _ => "dead-letter",
    };
    format!(
        r#"[broker]
{broker}
[http]
listen = "127.0.0.1:0"
default-topic = "{source}"
[admin]
listen = "127.0.0.1:0"
[[topics]]
name = "{source}"
partitions = {PARTITIONS}
replication-factor = {copies}
[[topics]]
name = "{output}"
partitions = {PARTITIONS}
replication-factor = {copies}
[[groups]]
id = "{group}"
topics = ["{source}"]
consumers = {consumers}
handler = {{ plugin = "witness", config = {{ wait = "{wait}", retry = "{retry}", reject = "{reject}" }} }}
output-topic = "{output}"
ordering = "{ordering}"
delivery = "{delivery}"
on-reject = "{on_reject}"
max-in-flight = {max_in_flight}
retry = {{ attempts = 3, backoff = "20ms", max-backoff = "200ms" }}
"#
    )
}
