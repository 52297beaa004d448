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
    configuration::{self, Names, Now},
    error::Result,
    gateway::{self, Gateway},
    handler,
    history::{Acknowledged, Commit, History},
    load::{Load, Targets},
    observe::Observer,
    plan::{Fault, PARTITIONS, Plan},
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
    let mut stuck = world.settle()?;
    if plan.setup.promises.on_reject == config::OnReject::Park && stuck.is_none() {
        stuck = world.give_all_back()?;
    }
    let settled = ceased.elapsed();
    world.commits.extend(watch.map(Watch::stop).unwrap_or_default());
    let history = world.end(acknowledged)?;
    fs::write(directory.join("history.txt"), format!("{history:#?}"))?;
    let mut violations = check::check(&history);
    violations
        .extend(stuck.map(|what| Violation { rule: "everything is handled in the end", what }));
    Ok(Report { history, violations, faults, settled })
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
    now: Now,
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
            now: Now { consumers: plan.setup.consumers, is_mended: false },
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
        let text = configuration::text(self.cluster, &self.names, &self.plan.setup, self.now);
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
                self.now.consumers = consumers;
                self.configure()
            }
            Fault::GiveBack { pause } => {
                self.mend(true)?;
                thread::sleep(pause);
                self.give_back().ok(); // the gateway that is asked may be in no state to do it
                thread::sleep(pause);
                self.mend(false)
            }
            Fault::Elect => self.cluster.map_or(Ok(()), Cluster::elect),
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

    fn stall(&self) -> Duration {
        if self.cluster.is_some() { STALL } else { STALL_EMBEDDED }
    }

    /// Waits until everything is handled and committed. Says what is not, once nothing more happens.
    fn settle(&self) -> Result<Option<String>> {
        let path = format!("/api/v1/groups/{}", self.names.group);
        let (_, gateway) = self.gateways.first().ok_or("no gateway runs")?;
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
            } else if since.elapsed() > self.stall() {
                let stall = self.stall();
                return Ok(Some(format!("nothing was committed for {stall:?}: {partitions:?}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Has the handler fail nothing, or what it fails by the plan.
    fn mend(&mut self, is_mended: bool) -> Result<()> {
        self.now.is_mended = is_mended;
        self.configure()
    }

    /// Asks that all that is parked be given back.
    fn give_back(&self) -> Result<()> {
        let (_, gateway) = self.gateways.first().ok_or("no gateway runs")?;
        gateway
            .post(&format!("/api/v1/dead-letters/redrive?parked=true&group={}", self.names.group))
    }

    /// Mends the handler, and gives back what is parked until nothing is. Says what is, once nothing more happens.
    fn give_all_back(&mut self) -> Result<Option<String>> {
        self.mend(true)?;
        let path =
            format!("/api/v1/dead-letters?parked=true&limit=1000&group={}", self.names.group);
        let (_, gateway) = self.gateways.first().ok_or("no gateway runs")?;
        let (mut since, mut last) = (Instant::now(), usize::MAX);
        loop {
            let parked = gateway.get(&path).unwrap_or_default();
            let parked = parked["dead_letters"].as_array();
            let count = parked.map_or(usize::MAX, Vec::len);
            if count == 0 {
                return Ok(None);
            }
            if count != last {
                (since, last) = (Instant::now(), count);
            } else if since.elapsed() > self.stall() {
                return Ok(Some(format!("what was given back stays parked: {parked:?}")));
            }
            self.give_back().ok(); // what is given back already is not so again
            thread::sleep(Duration::from_millis(200));
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
