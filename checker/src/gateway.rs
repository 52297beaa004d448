//! Gateways as processes: this program under the name `keyway`, which is the gateway and nothing else. What each says
//! stays in a file of its own, however it ends.

use std::{
    env, fs,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use keyway::{
    cli::{Cli, Error},
    telemetry,
};
use serde_json::Value;

use crate::{error::Result, history::Process, log};

/// How long a process may take to start, or to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(60);
/// The name under which this program is a gateway.
const NAME: &str = "keyway";

/// Whether this process is to be a gateway.
pub(crate) fn is_meant() -> bool {
    env::args_os().next().is_some_and(|name| name == NAME)
}

/// What `keyway` does: its own program is as short.
pub(crate) fn be() -> ExitCode {
    let cli = match Cli::from_arguments() {
        Ok(cli) => cli,
        Err(ended) => return ended,
    };
    let done = telemetry::init(cli.log_filter()).map_err(Error::Usage).and_then(|()| cli.run());
    done.map_or_else(Error::report, |()| ExitCode::SUCCESS)
}

/// A gateway that runs. Dropped, it is killed.
pub(crate) struct Gateway {
    process: Child,
    log: PathBuf,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    /// Starts one in `directory`, where its configuration is; `number` tells it from others there, and `instance` is for
    /// one that keeps its members' places. It may be that it is not ready yet.
    pub(crate) fn start(directory: &Path, number: usize, instance: Option<&str>) -> Result<Self> {
        let log = log_file(directory, number);
        let kept = ["PATH", "HOME", "KEYWAY_FLAW"];
        let process = Command::new(env::current_exe()?)
            .arg0(NAME)
            .arg("run")
            .current_dir(directory)
            .env_clear()
            .envs(kept.iter().filter_map(|name| Some((name, env::var_os(name)?))))
            .env("KEYWAY_LOG", log::FILTER)
            .envs(instance.map(|id| ("KEYWAY__GROUPS__0__INSTANCE_ID", id)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Self { process, log, data: unknown, admin: unknown };
        gateway.data = gateway.address("http")?;
        gateway.admin = gateway.address("admin")?;
        Ok(gateway)
    }

    /// An address that it logs at its start.
    fn address(&mut self, name: &str) -> Result<SocketAddr> {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&self.log)?;
            let address = |line: &str| {
                let line: Value = serde_json::from_str(line).ok()?;
                line[name].as_str()?.parse().ok()
            };
            if let Some(address) = said.lines().find_map(address) {
                return Ok(address);
            }
            if Instant::now() > end || self.process.try_wait()?.is_some() {
                return Err(format!("a gateway does not start: {said}").into());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let process = self.process.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &process]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("process {process} is gone").into()) }
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Ends it as an operator does.
    pub(crate) fn terminate(mut self) -> Result<()> {
        self.signal("TERM")?;
        let end = Instant::now() + PATIENCE;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > end {
                return Err(format!("{} does not end after SIGTERM", self.log.display()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// What its admin port answers.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let mut answer = agent().get(format!("http://{}{path}", self.admin)).call()?;
        Ok(answer.body_mut().read_json()?)
    }

    /// Has its admin port do something, to the end.
    pub(crate) fn post(&self, path: &str) -> Result<()> {
        let mut answer = agent().post(format!("http://{}{path}", self.admin)).send_empty()?;
        answer.body_mut().read_to_vec()?;
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill().ok(); // it may have ended
        self.process.wait().ok();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into()
}

/// What the gateways with these numbers said.
pub(crate) fn processes(directory: &Path, count: usize) -> Result<Vec<Process>> {
    let read = |number| -> Result<Process> {
        let text = fs::read(log_file(directory, number))?;
        let lines = log::read(&String::from_utf8_lossy(&text));
        Ok(Process { name: format!("gateway {number}"), lines })
    };
    (0..count).map(read).collect()
}

fn log_file(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("gateway-{number}.log"))
}
