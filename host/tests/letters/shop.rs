//! One topic and one group in a directory of their own: the gateway that runs them, and `keyway` as an operator calls it
//! there.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    gateway::{Gateway, wait_until, working_directory},
    kafka::{self, Kind},
    plugins,
};

/// A working directory with one topic, one group with `flaky` as its handler, and names that nobody else uses.
pub(super) struct Shop {
    pub(super) directory: TempDir,
    pub(super) topic: String,
    pub(super) is_kafka: bool,
}

impl Shop {
    pub(super) fn on_embedded(group: &str) -> Self {
        Self::new("kind = \"embedded\"\npath = \"data\"", "s".into(), group, false)
    }

    /// `None`: there is no Kafka, the test is to be skipped.
    pub(super) fn on_kafka(name: &str, group: &str) -> Option<Self> {
        // A member that is gone and was not replaced is soon forgotten.
        let broker = format!(
            "kind = \"kafka\"\nbootstrap-servers = \"{}\"\nproperties = {{ \"session.timeout.ms\" = 6000 }}",
            kafka::shared(Kind::Kraft)?
        );
        let topic = format!("{name}-{}-{:08x}", std::process::id(), fastrand::u32(..));
        Some(Self::new(&broker, topic, group, true))
    }

    fn new(broker: &str, topic: String, group: &str, is_kafka: bool) -> Self {
        // A static member takes its place again at once after a kill.
        let directory = working_directory(&format!(
            r#"
[broker]
{broker}
[[topics]]
name = "{topic}"
partitions = 2
[[groups]]
id = "{topic}-group"
topics = ["{topic}"]
handler = {{ plugin = "flaky" }}
output-topic = "{topic}-out"
instance-id = "one"
{group}
"#
        ));
        plugins::install("flaky", &directory.path().join("plugins"), "flaky");
        Self { directory, topic, is_kafka }
    }

    pub(super) fn start(&self) -> Gateway {
        let gateway = Gateway::start(self.directory.path(), &["run"], &[]);
        wait_until("the gateway is ready", || match gateway.get("/ready") {
            (200, _) => Ok(()),
            (_, reasons) => Err(format!("{reasons}\n{}", gateway.tail())),
        });
        gateway
    }

    pub(super) fn send(&self, gateway: &Gateway, key: &str, value: &Value) {
        let record = json!({"topic": self.topic, "partition": 0, "key": key, "value": value});
        let (status, answer) = gateway.send(&record);
        assert_eq!(status, 200, "{answer}");
    }

    /// Puts a handler in its place that emits every record in upper case.
    pub(super) fn mend(&self, gateway: &Gateway) {
        let (_, before) = gateway.get("/api/v1/plugins/flaky");
        plugins::install("uppercase", &self.directory.path().join("plugins"), "flaky");
        wait_until("another handler serves under that name", || {
            let (_, now) = gateway.get("/api/v1/plugins/flaky");
            if now["generation"] != before["generation"] { Ok(()) } else { Err(gateway.tail()) }
        });
    }

    /// Puts the handler back that gives up on what it is told to, and has it give up on a record of Bob's.
    pub(super) fn fail_again(&self, gateway: &Gateway) {
        plugins::install("flaky", &self.directory.path().join("plugins"), "flaky");
        wait_until("it fails again", || {
            self.send(gateway, "bob", &numbered("reject", 7));
            let listed = self.list(Some(gateway))?;
            if listed.is_empty() { Err(gateway.tail()) } else { Ok(()) }
        });
    }

    /// `keyway dead-letters ...` against a gateway, or against the broker of the configuration.
    pub(super) fn command(&self, gateway: Option<&Gateway>, arguments: &[&str]) -> Output {
        self.prepared("dead-letters", gateway, arguments).output().unwrap()
    }

    /// Moves the group on partition 0, as it runs or as nobody reads it.
    pub(super) fn seek(&self, gateway: Option<&Gateway>, offset: u64) {
        let (group, offset) = (format!("{}-group", self.topic), offset.to_string());
        let arguments = ["seek", &group, "--to", &offset, "--partition", "0", "--force"];
        wait_until("the group is moved", || {
            let output = self.prepared("groups", gateway, &arguments).output().unwrap();
            let said = || String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or_else(said)
        });
    }

    pub(super) fn prepared(
        &self,
        what: &str,
        gateway: Option<&Gateway>,
        arguments: &[&str],
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command.current_dir(self.directory.path()).arg(what).args(arguments);
        match gateway {
            Some(gateway) => command.args(["--admin", &format!("http://{}", gateway.admin())]),
            None => command.env("KEYWAY__ADMIN__LISTEN", "127.0.0.1:1"), // nobody's
        };
        command
    }

    /// Begins to redrive, and kills whoever writes as soon as something is written.
    pub(super) fn begin_to_redrive(&self, gateway: Option<Gateway>, key: &str) {
        let arguments = ["redrive", "--json", "--key", key];
        let mut command = self.prepared("dead-letters", gateway.as_ref(), &arguments);
        let mut command = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(command.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("redriven"), "{line:?}");
        match gateway {
            Some(gateway) => gateway.kill(),
            None => command.kill().unwrap(),
        }
        command.wait().unwrap();
    }

    /// How often each number is in the source topic.
    pub(super) fn in_source(&self, gateway: &Gateway) -> BTreeMap<u64, u32> {
        let path = format!("/api/v1/topics/{}/records?limit=1000&partition=0", self.topic);
        let (_, page) = gateway.get(&path);
        let mut times = BTreeMap::new();
        for record in page["records"].as_array().unwrap() {
            let value: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
            *times.entry(value["n"].as_u64().unwrap()).or_default() += 1;
        }
        times
    }

    pub(super) fn redrive(&self, gateway: Option<&Gateway>, arguments: &[&str]) -> String {
        let output = self.command(gateway, &[&["redrive"], arguments].concat());
        let (out, error) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{out}{error}");
        out
    }

    /// The source offsets of what was given up on and is still to be dealt with.
    pub(super) fn listed(&self, gateway: Option<&Gateway>) -> Vec<u64> {
        self.list(gateway).unwrap()
    }

    /// The same, or why there is no answer: a topic of letters that was just made has no leader on Kafka yet.
    pub(super) fn list(&self, gateway: Option<&Gateway>) -> Result<Vec<u64>, String> {
        let output = self.command(gateway, &["list", "--json"]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let page: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(page["next"], Value::Null, "{page}");
        let letters = page["dead_letters"].as_array().unwrap();
        Ok(letters.iter().map(|letter| letter["source"]["offset"].as_u64().unwrap()).collect())
    }

    pub(super) fn wait_until_listed(&self, gateway: &Gateway, expected: &[u64]) {
        wait_until(&format!("{expected:?} are listed"), || {
            let listed = self.list(Some(gateway))?;
            if listed == expected { Ok(()) } else { Err(format!("{listed:?}\n{}", gateway.tail())) }
        });
    }

    pub(super) fn wait_for_lag_of_zero(&self, gateway: &Gateway) {
        wait_until("everything is handled or given up on", || {
            let (_, shown) = gateway.get(&format!("/api/v1/groups/{}-group", self.topic));
            let partitions = shown["partitions"].as_array().cloned().unwrap_or_default();
            let done =
                partitions.len() == 2 && partitions.iter().all(|partition| partition["lag"] == 0);
            done.then_some(()).ok_or_else(|| format!("{shown:#}\n{}", gateway.tail()))
        });
    }

    /// The numbers in what the handler emitted for a key, in order.
    pub(super) fn emitted(&self, gateway: &Gateway, key: &str) -> Vec<u64> {
        let mut numbers = Vec::new();
        for partition in 0..2 {
            let path = format!(
                "/api/v1/topics/{}-out/records?limit=1000&partition={partition}",
                self.topic
            );
            let (_, page) = gateway.get(&path);
            let records = page["records"].as_array().cloned().unwrap_or_default();
            for record in records.iter().filter(|record| record["key"] == key) {
                let value: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
                numbers.push(value["N"].as_u64().unwrap());
            }
        }
        numbers
    }

    pub(super) fn wait_until_emitted(&self, gateway: &Gateway, key: &str, expected: &[u64]) {
        wait_until(&format!("{expected:?} are emitted for {key}"), || {
            let emitted = self.emitted(gateway, key);
            if emitted == expected {
                Ok(())
            } else {
                Err(format!("{emitted:?}\n{}", gateway.tail()))
            }
        });
    }
}

/// A record that `flaky` is to treat so.
pub(super) fn numbered(what: &str, number: u64) -> Value {
    json!({"do": what, "n": number, "reason": "told to"})
}
