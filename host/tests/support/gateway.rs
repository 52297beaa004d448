//! The built binary as a process: started with a working directory, arguments and an environment, asked over its two
//! ports, ended by its own process id.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take that a test waits for. Far more than it does: a machine under load is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A running Keyway. Dropped, it is killed.
pub(crate) struct Gateway {
    process: Child,
    output: Output,
    agent: ureq::Agent,
}

/// What a process has said so far, on both of its outputs, by lines.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, stream: impl Read + Send + 'static) {
        let output = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                output.lines().push(line);
            }
        });
    }
}

impl Gateway {
    /// Starts `keyway ARGUMENTS` in `directory` with exactly this environment besides what a process needs to run. Its
    /// ports are free ones unless the environment says otherwise.
    pub(crate) fn start(
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .envs(["PATH", "HOME"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("KEYWAY__HTTP__LISTEN", "127.0.0.1:0")
            .env("KEYWAY__ADMIN__LISTEN", "127.0.0.1:0")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("the binary was built for this test");
        let output = Output::default();
        output.follow(process.stdout.take().expect("it is piped"));
        output.follow(process.stderr.take().expect("it is piped"));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .into();
        Self { process, output, agent }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether a line of its output holds this.
    pub(crate) fn said(&self, text: &str) -> bool {
        self.output.lines().iter().any(|line| line.contains(text))
    }

    /// Where it takes records.
    pub(crate) fn data(&self) -> SocketAddr {
        self.address("http")
    }

    /// Where it answers operators.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.address("admin")
    }

    /// An address that it logged at its start.
    fn address(&self, name: &str) -> SocketAddr {
        wait_until(&format!("process {} says its {name} address", self.id()), || {
            let found = self.output.lines().iter().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                line[name].as_str()?.parse().ok()
            });
            found.ok_or_else(|| self.tail())
        })
    }

    /// `GET` on the admin port: the status and the JSON.
    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        read(self.agent.get(format!("http://{}{path}", self.admin())).call())
    }

    /// `keyway ARGUMENTS` on its admin port, in `directory`: the exit code, and both outputs.
    pub(crate) fn command(&self, directory: &Path, arguments: &[&str]) -> (i32, String) {
        let admin = format!("http://{}", self.admin());
        command(directory, &[arguments, &["--admin", &admin]].concat(), &[])
    }

    /// `POST` without a body on the admin port: the status and the JSON.
    pub(crate) fn post(&self, path: &str) -> (u16, Value) {
        read(self.agent.post(format!("http://{}{path}", self.admin())).send_empty())
    }

    /// `POST` on the admin port: the status and the JSON.
    pub(crate) fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        read(self.agent.post(format!("http://{}{path}", self.admin())).send_json(body))
    }

    /// `POST /send-message`: the status and the JSON.
    pub(crate) fn send(&self, body: &Value) -> (u16, Value) {
        read(self.agent.post(format!("http://{}/send-message", self.data())).send_json(body))
    }

    /// Ends it as an operator does.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        wait_until(&format!("process {} ends after SIGTERM", self.id()), || {
            self.process.try_wait().expect("it is ours").ok_or_else(|| self.tail())
        })
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it runs");
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(sent.expect("there is a kill").success());
    }

    /// The end of what it said, for whoever looks into a failure.
    pub(crate) fn tail(&self) -> String {
        let lines = self.output.lines();
        let end = &lines[lines.len().saturating_sub(20)..];
        format!("process {} said last:\n{}", self.id(), end.join("\n"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill().ok(); // it may have ended
        self.process.wait().ok();
    }
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    match answer {
        Ok(mut answer) => {
            let text = answer.body_mut().read_to_string().expect("the body is text");
            (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
        }
        Err(error) => (0, Value::String(error.to_string())), // not up yet, or gone: the caller waits or fails
    }
}

/// `keyway ARGUMENTS` in `directory`: the exit code, and both outputs.
pub(crate) fn command(
    directory: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_keyway"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(["PATH", "HOME"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built for this test");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// Asks until it answers `Ok`; fails with the last `Err` after [`PATIENCE`].
pub(crate) fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(last) if Instant::now() >= end => panic!("not within {PATIENCE:?}: {what}\n{last}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A working directory with a configuration and an empty directory of plugins.
pub(crate) fn working_directory(configuration: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("keyway.toml"), configuration).expect("it can be written");
    fs::create_dir(directory.path().join("plugins")).expect("it can be made");
    directory
}
