//! Clients that send records to whichever gateway is there, and note what they were told.

use std::{
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::{
    history::{Acknowledged, Spot},
    plan::{KEYS, RATE},
};

/// Clients at the same time, each one record after the other.
const CLIENTS: u32 = 6;
/// How long one waits for an answer. It does not ask again: a record is sent once.
const PATIENCE: Duration = Duration::from_secs(4);

/// The gateways that take records now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets(Arc<RwLock<Vec<SocketAddr>>>);

impl Targets {
    pub(crate) fn set(&self, gateways: impl IntoIterator<Item = SocketAddr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = gateways.into_iter().collect();
    }

    fn pick(&self, random: &mut Rng) -> Option<SocketAddr> {
        let gateways = self.0.read().unwrap_or_else(PoisonError::into_inner);
        random.choice(gateways.iter()).copied()
    }
}

/// Clients that send.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Acknowledged>>>,
}

impl Load {
    /// Starts them.
    pub(crate) fn start(seed: u64, targets: &Targets) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|number| {
            let random = Rng::with_seed(seed << 8 | u64::from(number));
            let (stop, targets) = (stop.clone(), targets.clone());
            thread::spawn(move || send_until(&stop, number, &targets, random))
        });
        Self { clients: clients.collect(), stop }
    }

    /// Ends them, and gives everything that was acknowledged.
    pub(crate) fn stop(self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        let clients = self.clients.into_iter();
        clients.flat_map(|client| client.join().expect("a client does not panic")).collect()
    }
}

fn send_until(
    stop: &AtomicBool,
    client: u32,
    targets: &Targets,
    mut random: Rng,
) -> Vec<Acknowledged> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE));
    let agent: ureq::Agent = agent.build().into();
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{client}-{number}");
        let key = Some(random.u32(..KEYS)).filter(|_| random.u32(..6) > 0);
        let mut record = json!({ "value": id });
        if let Some(key) = key {
            record["key"] = format!("key-{key}").into();
        }
        let target = targets.pick(&mut random);
        match target.and_then(|target| send(&agent, target, &record)) {
            Some(spot) => acknowledged.push(Acknowledged { spot, id }),
            None => thread::sleep(Duration::from_millis(20)), // nobody is there, or it is not up yet
        }
        let pause = u64::from(1000 * CLIENTS / RATE);
        thread::sleep(Duration::from_millis(random.u64(..2 * pause)));
    }
    acknowledged
}

/// Where a record is; `None`: it was not acknowledged.
fn send(agent: &ureq::Agent, target: SocketAddr, record: &Value) -> Option<Spot> {
    let mut answer = agent.post(format!("http://{target}/send-message")).send_json(record).ok()?;
    let answer: Value = answer.body_mut().read_json().ok()?;
    Some(Spot::new(answer["partition"].as_u64()?.try_into().ok()?, answer["offset"].as_u64()?))
}
