//! What an episode does, from its seed alone: how the group is set up, which faults come, and when. Pure.

use std::{fmt, time::Duration};

use fastrand::Rng;
use keyway::config::{Delivery, OnReject, Ordering};

use crate::{history::Promises, proxy::Network};

/// Partitions of the source topic and of what is written from it.
pub(crate) const PARTITIONS: u32 = 4;
/// Keys of the records; every sixth record has none.
pub(crate) const KEYS: u32 = 16;
/// Records a second, about, over all clients.
pub(crate) const RATE: u32 = 100;
/// Handlings a second that one process may do at the most: each is two lines, and the log takes a thousand of a plugin.
const HANDLINGS: u64 = 300;
/// Members of one process at the most.
const MEMBERS: u32 = 3;

/// What keeps the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The embedded broker: one process
    Embedded,
    /// One Kafka broker, several processes
    Kafka,
    /// Three Kafka brokers, several processes
    Three,
}

/// How the group is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) promises: Promises,
    pub(crate) max_in_flight: u32,
    /// Members of each process, at the beginning.
    pub(crate) consumers: u32,
    /// Processes at the beginning.
    pub(crate) processes: usize,
    /// Whether members keep their place over a restart.
    pub(crate) is_static: bool,
    /// Milliseconds that handling a record takes, on average.
    pub(crate) wait: u64,
    /// Of a hundred attempts, how many ask for another.
    pub(crate) retry: u32,
    /// Of a hundred records, how many are rejected.
    pub(crate) reject: u32,
}

/// Something that goes wrong, or changes. `which` picks one of the processes that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and another process in its place after a while.
    Kill { which: usize, away: Duration },
    /// SIGSTOP, and SIGCONT after a while.
    Freeze { which: usize, pause: Duration },
    /// SIGTERM, and another process in its place at once.
    Restart { which: usize },
    /// One more process.
    Join,
    /// SIGTERM, and nobody in its place.
    Leave { which: usize },
    /// Other numbers of members in each process, by a change to the configuration.
    Members { consumers: u32 },
    /// Another generation of the handler.
    Swap,
    /// The handler is mended, what is parked is given back, and the handler rejects again; each after a while.
    GiveBack { pause: Duration },
    /// A broker is killed, and started again after a while. What it led is led by another meanwhile, where there is one.
    BrokerRestart { which: usize, away: Duration },
    /// Every partition is led again by the broker that should.
    Elect,
    /// The network before a broker does something for a while.
    Disturb { which: usize, network: Network, pause: Duration },
}

/// A fault, and how long after the one before it.
pub(crate) type Step = (Duration, Fault);

/// An episode.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// The episode of a seed, whose faults take `length` in all, about.
    pub(crate) fn new(seed: u64, kind: Kind, length: Duration) -> Self {
        // The set-up takes turns, so that a few seeds in a row see all of it; the rest is drawn.
        let mut random = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let setup = Setup::new(seed, kind, &mut random);
        let mut steps = Vec::new();
        let mut left = length;
        loop {
            let wait = match kind {
                Kind::Embedded => random.u64(200..1200),
                Kind::Kafka | Kind::Three => random.u64(300..3000),
            };
            let wait = Duration::from_millis(wait);
            let fault = if setup.promises.on_reject == OnReject::Park && random.u32(..6) == 0 {
                Fault::GiveBack { pause: Duration::from_millis(random.u64(100..1000)) }
            } else {
                Fault::draw(kind, &mut random)
            };
            let Some(rest) = left.checked_sub(wait + fault.takes()) else { break };
            left = rest;
            steps.push((wait, fault));
        }
        Self { seed, setup, steps }
    }
}

impl Setup {
    fn new(seed: u64, kind: Kind, random: &mut Rng) -> Self {
        let seed = seed as usize;
        let ordering = [Ordering::Key, Ordering::Partition, Ordering::None][seed % 3];
        let (delivery, on_reject) = [
            (Delivery::AtLeastOnce, OnReject::DeadLetter),
            (Delivery::ExactlyOnce, OnReject::DeadLetter),
            (Delivery::AtLeastOnce, OnReject::Park),
            (Delivery::ExactlyOnce, OnReject::Park),
        ][seed % 4];
        let max_in_flight = [64, 16, 4, 1, 32][random.usize(..5)];
        // As many as can be handled at once, in one process.
        let lanes = match ordering {
            Ordering::Partition => PARTITIONS,
            Ordering::Key => KEYS * 2,
            Ordering::None => u32::MAX,
        };
        let at_once = u64::from(lanes.min(max_in_flight * MEMBERS));
        let (retry, reject) = [(0, 0), (20, 0), (20, 3), (5, 1)][random.usize(..4)];
        Self {
            promises: Promises { ordering, delivery, on_reject },
            max_in_flight,
            consumers: random.u32(1..=MEMBERS),
            processes: if kind == Kind::Embedded { 1 } else { 2 },
            is_static: kind != Kind::Embedded && random.bool(),
            wait: (at_once * 1000 / HANDLINGS).max(2),
            retry,
            reject,
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promises, max_in_flight, retry, reject, .. } = self;
        let Promises { ordering, delivery, on_reject } = promises;
        write!(f, "{ordering:?}, {delivery:?}, {on_reject:?}, {max_in_flight} in flight, ")?;
        write!(f, "{retry} % retried, {reject} % rejected")
    }
}

impl Fault {
    fn draw(kind: Kind, random: &mut Rng) -> Self {
        let which = random.usize(..1000);
        let away = Duration::from_millis(random.u64(0..500));
        match kind {
            Kind::Embedded => match random.u32(..10) {
                0..5 => Self::Kill { which, away: Duration::ZERO },
                5 => Self::Freeze { which, pause: Duration::from_millis(random.u64(50..800)) },
                6 => Self::Restart { which },
                7 => Self::Swap,
                _ => Self::Members { consumers: random.u32(1..=MEMBERS) },
            },
            Kind::Kafka | Kind::Three => match random.u32(..20) {
                0..5 => Self::Kill { which, away },
                // Beyond the session's end, too.
                5..8 => Self::Freeze { which, pause: Duration::from_millis(random.u64(100..6000)) },
                8..10 => Self::Restart { which },
                10..12 => Self::Join,
                12 => Self::Leave { which },
                13 => Self::Members { consumers: random.u32(1..=MEMBERS) },
                14 => Self::Swap,
                15 if kind == Kind::Three && random.u32(..3) == 0 => Self::Elect,
                15 | 16 if kind == Kind::Three => Self::BrokerRestart { which, away: away * 10 },
                15 => Self::BrokerRestart { which, away },
                _ => {
                    let network = [
                        Network::Slow(Duration::from_millis(random.u64(10..1000))),
                        Network::Cut,
                        Network::Silent,
                    ];
                    let pause = Duration::from_millis(random.u64(100..6000));
                    Self::Disturb { which, network: network[random.usize(..3)], pause }
                }
            },
        }
    }

    /// How long it takes, about.
    fn takes(&self) -> Duration {
        match self {
            Self::Kill { away, .. } => *away,
            Self::Freeze { pause, .. } => *pause,
            Self::GiveBack { pause } => *pause * 2,
            Self::BrokerRestart { away, .. } => *away + Duration::from_secs(10),
            Self::Elect => Duration::from_secs(3),
            Self::Disturb { pause, .. } => *pause,
            Self::Restart { .. } | Self::Join | Self::Leave { .. } => Duration::from_millis(500),
            Self::Members { .. } | Self::Swap => Duration::ZERO,
        }
    }

    /// What it is called in the summary.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Freeze { .. } => "freeze",
            Self::Restart { .. } => "restart",
            Self::Join => "join",
            Self::Leave { .. } => "leave",
            Self::Members { .. } => "members changed",
            Self::Swap => "plugin swap",
            Self::GiveBack { .. } => "lanes given back",
            Self::BrokerRestart { .. } => "broker restart",
            Self::Elect => "leaders elected",
            Self::Disturb { network: Network::Slow(_), .. } => "slow network",
            Self::Disturb { network: Network::Cut, .. } => "cut network",
            Self::Disturb { network: _, .. } => "silent network",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_every_time() {
        let plan = |seed| format!("{:?}", Plan::new(seed, Kind::Kafka, Duration::from_secs(60)));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn a_dozen_seeds_in_a_row_see_every_promise_that_a_group_can_make() {
        let promises: std::collections::BTreeSet<_> = (0..12)
            .map(|seed| Plan::new(seed, Kind::Embedded, Duration::ZERO).setup.promises)
            .map(|promises| format!("{promises:?}"))
            .collect();
        assert_eq!(promises.len(), 12);
    }
}
