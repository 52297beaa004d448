//! What is measured, as processes: the gateway with a configuration of its own, and this program's bare counterparts.

use std::{
    env, fmt, fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    error::Result,
    kafka::{fresh_name, repository},
};

/// How long a process may take to do what it is started for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long no record may be handled before it is given up.
const STALL: Duration = Duration::from_secs(60);

/// A running gateway, killed when dropped.
pub(crate) struct Gateway {
    process: Child,
    directory: TempDir,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    /// Starts `keyway ARGUMENTS` with this configuration, which goes on in `[http]` after both listeners, and these
    /// plugins.
    pub(crate) fn start(
        configuration: &str,
        arguments: &[&str],
        plugins: &[PathBuf],
    ) -> Result<Self> {
        Self::start_as(&binary()?, configuration, arguments, plugins)
    }

    fn start_as(
        program: &Path,
        configuration: &str,
        arguments: &[&str],
        plugins: &[PathBuf],
    ) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::create_dir(directory.path().join("plugins"))?;
        for plugin in plugins {
            let name =
                plugin.file_name().expect("a plugin is a file").to_string_lossy().replace('_', "-");
            fs::copy(plugin, directory.path().join("plugins").join(name))?;
        }
        let (data, admin) = (free_address()?, free_address()?);
        let listeners = format!("[admin]\nlisten = \"{admin}\"\n[http]\nlisten = \"{data}\"\n");
        fs::write(directory.path().join("keyway.toml"), format!("{listeners}{configuration}"))?;
        let process = spawn(program, directory.path(), arguments)?;
        Ok(Self { process, directory, data, admin })
    }

    /// Waits until it says that it is ready.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.get("/ready").is_err() {
            if Instant::now() > end || self.process.try_wait()?.is_some() {
                let log = fs::read_to_string(self.directory.path().join("log"))?;
                return Err(format!("keyway does not become ready:\n{log}").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What the admin port answers; an error when that is not 200.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.admin);
        Ok(ureq::get(url).call()?.body_mut().read_to_string()?)
    }

    /// The same as JSON.
    pub(crate) fn get_json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.get(path)?)?)
    }

    /// Posts JSON to the admin port; an error when the answer is not 200.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<()> {
        let url = format!("http://{}{path}", self.admin);
        let request = ureq::post(url).header("content-type", "application/json");
        request.send(body.to_string())?;
        Ok(())
    }

    /// Sends a record.
    pub(crate) fn send(&self, body: &str) -> Result<()> {
        let url = format!("http://{}/send-message", self.data);
        ureq::post(url).header("content-type", "application/json").send(body)?;
        Ok(())
    }

    /// Puts a component in the place of `plugin`, atomically.
    pub(crate) fn put(&self, plugin: &str, component: &[u8]) -> Result<()> {
        let file = self.directory.path().join(format!("plugins/{plugin}.wasm"));
        let temporary = file.with_extension("tmp");
        fs::write(&temporary, component)?;
        Ok(fs::rename(temporary, file)?)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// MiB of memory that are its own and resident now.
    pub(crate) fn resident_mebibytes(&self) -> Result<f64> {
        mebibytes(self.id(), "VmRSS:")
    }

    /// Seconds of processor time that it has used.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        processor_seconds(self.process.id())
    }

    /// Ends it as an operator does, and waits for that.
    pub(crate) fn end(&mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts another in the directory of one that has ended, with whatever that left there.
    pub(crate) fn again(mut self, arguments: &[&str]) -> Result<Self> {
        self.process = spawn(&binary()?, self.directory.path(), arguments)?;
        Ok(self)
    }

    /// Sends a record with this value, and waits until the example handler `print` says that it has it.
    pub(crate) fn handles(&self, value: &str) -> Result<()> {
        let body = format!(r#"{{"value":{{"user":"{value}"}}}}"#);
        self.send(&body)?;
        let end = Instant::now() + PATIENCE;
        while !fs::read_to_string(self.directory.path().join("log"))?.contains(value) {
            if Instant::now() > end {
                return Err("a record is not handled".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill().ok(); // it may have ended
        self.process.wait().ok();
    }
}

/// A topic full of records, and the group that is to handle them all.
pub(crate) struct Handling<'a> {
    pub(crate) kafka: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) records: u64,
    /// The handler's component.
    pub(crate) plugin: PathBuf,
    /// What the group's table says besides.
    pub(crate) group: &'a str,
    /// Native code in place of the component.
    pub(crate) native: Option<&'a str>,
    pub(crate) count: Count,
    /// How long is waited between two looks at it, which cost it something.
    pub(crate) look: Duration,
}

/// What tells how many were handled.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    /// The group, which asks Kafka as well for each look.
    Group,
    /// The component's calls, of which there is one for each record. A look takes milliseconds, so what lasts a tenth of a
    /// second can be timed.
    Calls,
}

impl Count {
    /// So many records of `group` were handled; `None`: there is no answer.
    fn ask(self, gateway: &Gateway, group: &str, plugin: &str) -> Option<u64> {
        let (path, count) = match self {
            Self::Group => (format!("/api/v1/groups/{group}"), "/this_process/handled"),
            Self::Calls => (format!("/api/v1/plugins/{plugin}"), "/uses/0/calls"),
        };
        gateway.get_json(&path).ok()?.pointer(count)?.as_u64()
    }
}

/// How that went, from the first look that found some handled to the one that found all handled.
pub(crate) struct Handled {
    /// Records handled in that time.
    records: u64,
    time: Duration,
    /// Seconds of processor time for each second of it.
    pub(crate) processors: f64,
    /// Resident memory at the end.
    pub(crate) mebibytes: f64,
}

impl Handled {
    /// Records a second.
    pub(crate) fn rate(&self) -> f64 {
        self.records as f64 / self.time.as_secs_f64()
    }

    /// Seconds that so many records would take at this rate.
    pub(crate) fn seconds_per(&self, records: u64) -> f64 {
        records as f64 / self.rate()
    }
}

impl fmt::Display for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processors, mebibytes, .. } = self;
        write!(f, "{:.0} records/s on {processors:.2} processors, {mebibytes:.0} MiB", self.rate())
    }
}

/// Runs a gateway until a group of its own has handled a whole topic.
pub(crate) fn handle_all(work: &Handling<'_>) -> Result<Handled> {
    let group = fresh_name("group");
    let name = work.plugin.file_stem().expect("a plugin is a file").to_string_lossy();
    let configuration = format!(
        "[broker]\nkind = \"kafka\"\nbootstrap-servers = \"{}\"\n\
         [[groups]]\nid = \"{group}\"\ntopics = [\"{}\"]\nhandler = {{ plugin = \"{name}\" }}\n{}",
        work.kafka, work.topic, work.group,
    );
    let plugins = std::slice::from_ref(&work.plugin);
    let mut gateway = match work.native {
        None => Gateway::start(&configuration, &["run", "--only", "groups"], plugins)?,
        Some(code) => {
            Gateway::start_as(&env::current_exe()?, &configuration, &["native", code], plugins)?
        }
    };
    gateway.ready()?;
    let mut first: Option<(Instant, u64, f64)> = None;
    let mut last = (Instant::now(), 0);
    while last.1 < work.records {
        thread::sleep(work.look);
        let seen = work.count.ask(&gateway, &group, &name);
        if let Some(handled) = seen.filter(|handled| *handled > last.1) {
            last = (Instant::now(), handled);
            if first.is_none() {
                first = Some((last.0, handled, gateway.processor_seconds()?));
            }
        } else if last.0.elapsed() > STALL {
            return Err(format!(
                "{} of {} records are handled, and no more come",
                last.1, work.records
            )
            .into());
        }
    }
    let (begin, already, used) = first.ok_or("there is nothing to consume")?;
    if already == work.records {
        return Err("all of it was handled between two looks: give it more records".into());
    }
    let time = last.0 - begin;
    let processors = (gateway.processor_seconds()? - used) / time.as_secs_f64();
    let mebibytes = gateway.resident_mebibytes()?;
    Ok(Handled { records: work.records - already, time, processors, mebibytes })
}

/// One of this program's bare counterparts, killed when dropped.
pub(crate) struct Bare {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Bare {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(process.stdout.take().ok_or("its output is piped")?);
        Ok(Self { process, output })
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Seconds of processor time that it has used.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        processor_seconds(self.process.id())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.process.kill().ok(); // it may have ended
        self.process.wait().ok();
    }
}

/// Starts the gateway; what it says goes to `log`, and nothing of what was there stays.
fn spawn(program: &Path, directory: &Path, arguments: &[&str]) -> Result<Child> {
    let log = fs::File::create(directory.join("log"))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    Ok(command.stdout(log.try_clone()?).stderr(log).spawn()?)
}

/// User and system time, as `proc_pid_stat(5)` has them: fields 14 and 15, in hundredths of a second.
fn processor_seconds(process: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no fields in stat")?;
    let mut ticks = 0.0;
    for field in fields.split(' ').skip(11).take(2) {
        ticks += field.parse::<f64>()?;
    }
    Ok(ticks / 100.0)
}

/// MiB of memory of a process that were resident at the most.
pub(crate) fn most_resident_mebibytes(process: u32) -> Result<f64> {
    mebibytes(process, "VmHWM:")
}

/// A line of `proc_pid_status(5)` that counts in kB, in MiB.
fn mebibytes(process: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no such line")?;
    Ok(kibibytes.trim().parse::<f64>()? / 1024.0)
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The gateway that was built beside this program.
pub(crate) fn binary() -> Result<PathBuf> {
    let binary = env::current_exe()?.with_file_name("keyway");
    if binary.exists() {
        return Ok(binary);
    }
    Err(format!("{} is not there: `cargo build --release --workspace`", binary.display()).into())
}

/// Builds the plugin in `folder` of the repository.
pub(crate) fn build_plugin(folder: &str) -> Result<PathBuf> {
    build_wasm(folder, "wasm32-wasip2")
}

/// Builds the core module in `folder` of the repository, which is a command of WASI 0.1.
pub(crate) fn build_core_module(folder: &str) -> Result<PathBuf> {
    build_wasm(folder, "wasm32-wasip1")
}

fn build_wasm(folder: &str, platform: &str) -> Result<PathBuf> {
    let target = repository().join("target/plugins");
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--target", platform, "--manifest-path"])
        .arg(repository().join(folder).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()?;
    if !built.success() {
        return Err(format!("{folder} does not build (`rustup target add {platform}`?)").into());
    }
    let name = Path::new(folder)
        .file_name()
        .expect("a folder has a name")
        .to_string_lossy()
        .replace('-', "_");
    Ok(target.join(platform).join("release").join(format!("{name}.wasm")))
}
