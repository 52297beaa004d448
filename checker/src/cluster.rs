//! The Kafka of the checker: one broker or three, started, killed and started again by `.ci/kafka`, each behind a proxy.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    error::Result,
    proxy::{Network, Proxy},
};

/// A Kafka: one that was started here, and ends with this value or with this process; or a given one, of which nothing is
/// restarted or cut off.
pub(crate) struct Cluster {
    brokers: Vec<Broker>,
    /// `HOST:PORT`, as clients are to know it: the same after a restart.
    pub(crate) address: String,
}

/// A broker that was started here.
struct Broker {
    directory: PathBuf,
    proxy: Proxy,
}

impl Cluster {
    /// The one at `HOST:PORT`. It has to allow sessions of 3 s.
    pub(crate) fn given(address: &str) -> Self {
        Self { brokers: Vec::new(), address: address.into() }
    }

    /// Starts one broker that keeps its data in `directory`.
    pub(crate) fn one(directory: &Path) -> Result<Self> {
        let proxy = Proxy::new()?;
        Self::start(vec![Broker { directory: directory.into(), proxy }])
    }

    /// Starts three brokers that keep their data in `directory`, with three copies of everything.
    pub(crate) fn three(directory: &Path) -> Result<Self> {
        let broker = |number| -> Result<Broker> {
            Ok(Broker { directory: directory.join(format!("{number}")), proxy: Proxy::new()? })
        };
        let brokers: Vec<_> = (1..=3).map(broker).collect::<Result<_>>()?;
        let ports = brokers.iter().map(|broker| broker.proxy.port.to_string());
        finish(script().arg("form").arg(directory).args(ports).spawn()?)?;
        Self::start(brokers)
    }

    fn start(mut brokers: Vec<Broker>) -> Result<Self> {
        // All at once: one alone may never be ready.
        let starting: Vec<_> = brokers.iter().map(Broker::start).collect::<Result<_>>()?;
        for (broker, starting) in brokers.iter_mut().zip(starting) {
            broker.proxy.serve(finish(starting)?.parse()?)?;
        }
        let addresses = brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.proxy.port));
        let address = addresses.collect::<Vec<_>>().join(",");
        Ok(Self { brokers, address })
    }

    /// How many copies of a partition there are.
    pub(crate) fn copies(&self) -> usize {
        self.brokers.len().max(1)
    }

    /// Kills a broker, and starts it again after a while with what it had.
    pub(crate) fn restart(&self, which: usize, away: Duration) -> Result<()> {
        let Some(broker) = self.pick(which) else { return Ok(()) };
        finish(script().arg("kill").arg(&broker.directory).spawn()?)?;
        thread::sleep(away);
        finish(broker.start()?)?;
        Ok(())
    }

    /// Has the partitions led again by the brokers that should, after restarts have moved them.
    pub(crate) fn elect(&self) -> Result<()> {
        finish(script().arg("elect").arg(&self.address).spawn()?)?;
        Ok(())
    }

    /// Has the network before a broker do something for a while.
    pub(crate) fn disturb(&self, which: usize, network: Network, pause: Duration) {
        let Some(broker) = self.pick(which) else { return };
        broker.proxy.set(network);
        thread::sleep(pause);
        broker.proxy.set(Network::Sound);
    }

    fn pick(&self, which: usize) -> Option<&Broker> {
        self.brokers.get(which % self.brokers.len().max(1))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for broker in &self.brokers {
            // Else it ends with this process.
            script().arg("stop").arg(&broker.directory).status().ok();
        }
    }
}

impl Broker {
    fn start(&self) -> Result<Child> {
        let owner = std::process::id().to_string();
        let mut start = script();
        start.args(["start", "kraft"]).arg(&self.directory).arg(owner);
        Ok(start.env("KEYWAY_KAFKA_ADVERTISED", self.proxy.port.to_string()).spawn()?)
    }
}

fn script() -> Command {
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/kafka"));
    script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    script
}

/// Waits for the script; gives what it printed.
fn finish(script: Child) -> Result<String> {
    let output = script.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?.trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().into())
}
