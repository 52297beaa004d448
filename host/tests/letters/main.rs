//! What was given up on, as an operator sees it: parked lanes that outlive a kill and are given back in order, dead
//! letters that are listed and redriven once. The same steps on the embedded broker and on a real Kafka.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/gateway.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod gateway;
mod in_process;
#[path = "../support/kafka.rs"]
mod kafka;
mod plugin_test;
#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod plugins;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use gateway::{Gateway, wait_until, working_directory};
use kafka::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A working directory with one topic, one group with `flaky` as its handler, and names that nobody else uses.
struct Shop {
    directory: TempDir,
    topic: String,
    is_kafka: bool,
}

impl Shop {
    fn on_embedded(group: &str) -> Self {
        Self::new("kind = \"embedded\"\npath = \"data\"", "s".into(), group, false)
    }

    /// `None`: there is no Kafka, the test is to be skipped.
    fn on_kafka(name: &str, group: &str) -> Option<Self> {
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

    fn start(&self) -> Gateway {
        let gateway = Gateway::start(self.directory.path(), &["run"], &[]);
        wait_until("the gateway is ready", || match gateway.get("/ready") {
            (200, _) => Ok(()),
            (_, reasons) => Err(format!("{reasons}\n{}", gateway.tail())),
        });
        gateway
    }

    fn send(&self, gateway: &Gateway, key: &str, value: &Value) {
        let record = json!({"topic": self.topic, "partition": 0, "key": key, "value": value});
        let (status, answer) = gateway.send(&record);
        assert_eq!(status, 200, "{answer}");
    }

    /// Puts a handler in its place that emits every record in upper case.
    fn mend(&self, gateway: &Gateway) {
        let (_, before) = gateway.get("/api/v1/plugins/flaky");
        plugins::install("uppercase", &self.directory.path().join("plugins"), "flaky");
        wait_until("another handler serves under that name", || {
            let (_, now) = gateway.get("/api/v1/plugins/flaky");
            if now["generation"] != before["generation"] { Ok(()) } else { Err(gateway.tail()) }
        });
    }

    /// `keyway dead-letters ...` against a gateway, or against the broker of the configuration.
    fn command(&self, gateway: Option<&Gateway>, arguments: &[&str]) -> Output {
        self.prepared("dead-letters", gateway, arguments).output().unwrap()
    }

    /// Moves the group on partition 0, as it runs or as nobody reads it.
    fn seek(&self, gateway: Option<&Gateway>, offset: u64) {
        let (group, offset) = (format!("{}-group", self.topic), offset.to_string());
        let arguments = ["seek", &group, "--to", &offset, "--partition", "0", "--force"];
        wait_until("the group is moved", || {
            let output = self.prepared("groups", gateway, &arguments).output().unwrap();
            let said = || String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or_else(said)
        });
    }

    fn prepared(&self, what: &str, gateway: Option<&Gateway>, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command.current_dir(self.directory.path()).arg(what).args(arguments);
        match gateway {
            Some(gateway) => command.args(["--admin", &format!("http://{}", gateway.admin())]),
            None => command.env("KEYWAY__ADMIN__LISTEN", "127.0.0.1:1"), // nobody's
        };
        command
    }

    /// Begins to redrive, and kills whoever writes as soon as something is written.
    fn begin_to_redrive(&self, gateway: Option<Gateway>, key: &str) {
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
    fn in_source(&self, gateway: &Gateway) -> BTreeMap<u64, u32> {
        let path = format!("/api/v1/topics/{}/records?limit=1000&partition=0", self.topic);
        let (_, page) = gateway.get(&path);
        let mut times = BTreeMap::new();
        for record in page["records"].as_array().unwrap() {
            let value: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
            *times.entry(value["n"].as_u64().unwrap()).or_default() += 1;
        }
        times
    }

    fn redrive(&self, gateway: Option<&Gateway>, arguments: &[&str]) -> String {
        let output = self.command(gateway, &[&["redrive"], arguments].concat());
        let (out, error) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{out}{error}");
        out
    }

    /// The source offsets of what was given up on and is still to be dealt with.
    fn listed(&self, gateway: Option<&Gateway>) -> Vec<u64> {
        self.list(gateway).unwrap()
    }

    /// The same, or why there is no answer: a topic of letters that was just made has no leader on Kafka yet.
    fn list(&self, gateway: Option<&Gateway>) -> Result<Vec<u64>, String> {
        let output = self.command(gateway, &["list", "--json"]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let page: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(page["next"], Value::Null, "{page}");
        let letters = page["dead_letters"].as_array().unwrap();
        Ok(letters.iter().map(|letter| letter["source"]["offset"].as_u64().unwrap()).collect())
    }

    fn wait_until_listed(&self, gateway: &Gateway, expected: &[u64]) {
        wait_until(&format!("{expected:?} are listed"), || {
            let listed = self.list(Some(gateway))?;
            if listed == expected { Ok(()) } else { Err(format!("{listed:?}\n{}", gateway.tail())) }
        });
    }

    fn wait_for_lag_of_zero(&self, gateway: &Gateway) {
        wait_until("everything is handled or given up on", || {
            let (_, shown) = gateway.get(&format!("/api/v1/groups/{}-group", self.topic));
            let partitions = shown["partitions"].as_array().cloned().unwrap_or_default();
            let done =
                partitions.len() == 2 && partitions.iter().all(|partition| partition["lag"] == 0);
            done.then_some(()).ok_or_else(|| format!("{shown:#}\n{}", gateway.tail()))
        });
    }

    /// The numbers in what the handler emitted for a key, in order.
    fn emitted(&self, gateway: &Gateway, key: &str) -> Vec<u64> {
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

    fn wait_until_emitted(&self, gateway: &Gateway, key: &str, expected: &[u64]) {
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

const PARK: &str = "on-reject = \"park\"\nordering = \"key\"";
const PARK_EXACTLY_ONCE: &str =
    "on-reject = \"park\"\nordering = \"key\"\ndelivery = \"exactly-once\"";

fn numbered(what: &str, number: u64) -> Value {
    json!({"do": what, "n": number, "reason": "told to"})
}

#[test]
fn a_parked_lane_outlives_a_kill_and_is_given_back_in_order_on_the_embedded_broker() {
    parked_lanes(&Shop::on_embedded(PARK));
}

#[test]
fn a_parked_lane_outlives_a_kill_and_is_given_back_in_order_on_kafka() {
    let Some(shop) = Shop::on_kafka("parked", PARK) else { return };
    parked_lanes(&shop);
}

#[test]
fn a_parked_lane_outlives_a_kill_and_is_given_back_exactly_once_on_the_embedded_broker() {
    parked_lanes(&Shop::on_embedded(PARK_EXACTLY_ONCE));
}

#[test]
fn a_parked_lane_outlives_a_kill_and_is_given_back_exactly_once_on_kafka() {
    let Some(shop) = Shop::on_kafka("parked", PARK_EXACTLY_ONCE) else { return };
    parked_lanes(&shop);
}

fn parked_lanes(shop: &Shop) {
    let gateway = shop.start();
    shop.send(&gateway, "ada", &numbered("reject", 0));
    for number in 1..20 {
        shop.send(&gateway, "ada", &numbered("ok", number));
        shop.send(&gateway, "bob", &numbered("ok", number));
    }
    shop.wait_for_lag_of_zero(&gateway);
    // Ada's records, at every other offset, and none of Bob's.
    let parked: Vec<u64> = [0].into_iter().chain((1..20).map(|number| 2 * number - 1)).collect();
    shop.wait_until_listed(&gateway, &parked);
    gateway.signal("KILL");
    drop(gateway);

    let gateway = shop.start();
    shop.send(&gateway, "ada", &numbered("ok", 20));
    shop.send(&gateway, "bob", &numbered("ok", 20));
    shop.wait_for_lag_of_zero(&gateway);
    shop.wait_until_listed(&gateway, &[parked.clone(), vec![39]].concat());
    shop.mend(&gateway);
    shop.send(&gateway, "bob", &numbered("ok", 21));
    shop.wait_until_emitted(&gateway, "bob", &[21]);
    assert_eq!(shop.emitted(&gateway, "ada"), Vec::<u64>::new(), "its lane waits");

    let told = shop.redrive(Some(&gateway), &["--parked", "--dry-run"]);
    assert!(told.contains("Would be given back: 21 records"), "{told}");
    let told = shop.redrive(Some(&gateway), &["--parked", "--key", "ada"]);
    assert!(told.contains("Given back: 21 records"), "{told}");
    for number in 21..30 {
        shop.send(&gateway, "ada", &numbered("ok", number));
    }
    shop.wait_until_emitted(&gateway, "ada", &(0..30).collect::<Vec<_>>());
    shop.wait_until_listed(&gateway, &[]);
    let told = shop.redrive(Some(&gateway), &["--parked"]);
    assert!(told.contains("Given back: 0 records"), "{told}");
    shop.send(&gateway, "ada", &numbered("ok", 30));
    shop.wait_until_emitted(&gateway, "ada", &(0..31).collect::<Vec<_>>());
}

#[test]
fn a_gateway_killed_while_it_gives_a_lane_back_writes_its_output_once_on_the_embedded_broker() {
    killed_while_giving_back(&Shop::on_embedded(PARK_EXACTLY_ONCE));
}

#[test]
fn a_gateway_killed_while_it_gives_a_lane_back_writes_its_output_once_on_kafka() {
    let Some(shop) = Shop::on_kafka("giving", PARK_EXACTLY_ONCE) else { return };
    killed_while_giving_back(&shop);
}

fn killed_while_giving_back(shop: &Shop) {
    const RECORDS: u64 = 99; // one page of the list
    let gateway = shop.start();
    shop.send(&gateway, "ada", &numbered("reject", 0));
    for number in 1..RECORDS {
        shop.send(&gateway, "ada", &numbered("ok", number));
    }
    shop.wait_for_lag_of_zero(&gateway);
    shop.mend(&gateway);
    shop.redrive(Some(&gateway), &["--parked"]);
    wait_until("it has begun", || match shop.emitted(&gateway, "ada").len() {
        0 => Err(gateway.tail()),
        _ => Ok(()),
    });
    gateway.signal("KILL");
    drop(gateway);
    let gateway = shop.start();
    shop.wait_until_emitted(&gateway, "ada", &(0..RECORDS).collect::<Vec<_>>());
    shop.wait_until_listed(&gateway, &[]);
    assert_eq!(shop.emitted(&gateway, "ada"), (0..RECORDS).collect::<Vec<_>>());
}

#[test]
fn a_group_that_is_moved_back_handles_again_what_was_parked_on_the_embedded_broker() {
    moved_back(&Shop::on_embedded(PARK));
}

#[test]
fn a_group_that_is_moved_back_handles_again_what_was_parked_on_kafka() {
    let Some(shop) = Shop::on_kafka("moved", PARK) else { return };
    moved_back(&shop);
}

#[test]
fn a_group_that_is_moved_back_under_exactly_once_handles_again_what_was_parked_on_kafka() {
    let Some(shop) = Shop::on_kafka("moved", PARK_EXACTLY_ONCE) else { return };
    moved_back(&shop);
}

fn moved_back(shop: &Shop) {
    let gateway = shop.start();
    for number in 0..6 {
        let what = if number == 2 { "reject" } else { "ok" };
        shop.send(&gateway, "ada", &numbered(what, number));
    }
    shop.wait_for_lag_of_zero(&gateway);
    shop.wait_until_listed(&gateway, &[2, 3, 4, 5]);
    shop.mend(&gateway);
    // What was parked before the new offset keeps its lane parked: 4 and 5 are parked anew behind 2 and 3.
    shop.seek(Some(&gateway), 4);
    shop.wait_for_lag_of_zero(&gateway);
    shop.wait_until_listed(&gateway, &[2, 3, 4, 5]);
    shop.seek(Some(&gateway), 1);
    shop.wait_until_emitted(&gateway, "ada", &[1, 2, 3, 4, 5]);
    assert_eq!(shop.listed(Some(&gateway)), Vec::<u64>::new());
    assert!(shop.redrive(Some(&gateway), &["--parked"]).contains("Given back: 0 records"));

    // The same where nobody reads it.
    plugins::install("flaky", &shop.directory.path().join("plugins"), "flaky");
    wait_until("it fails again", || {
        shop.send(&gateway, "bob", &numbered("reject", 7));
        let listed = shop.list(Some(&gateway))?;
        if listed.is_empty() { Err(gateway.tail()) } else { Ok(()) }
    });
    shop.wait_for_lag_of_zero(&gateway);
    gateway.terminate();
    plugins::install("uppercase", &shop.directory.path().join("plugins"), "flaky");
    shop.seek(None, 3);
    let gateway = shop.start();
    shop.wait_until_emitted(&gateway, "ada", &[1, 2, 3, 4, 5, 3, 4, 5]);
    shop.wait_for_lag_of_zero(&gateway);
    assert_eq!(shop.listed(Some(&gateway)), Vec::<u64>::new());
}

#[test]
fn dead_letters_are_listed_with_their_cause_and_redriven_once_on_the_embedded_broker() {
    dead_letters(&Shop::on_embedded("ordering = \"key\""));
}

#[test]
fn dead_letters_are_listed_with_their_cause_and_redriven_once_on_kafka() {
    let Some(shop) = Shop::on_kafka("letters", "ordering = \"key\"") else { return };
    dead_letters(&shop);
}

fn dead_letters(shop: &Shop) {
    let gateway = shop.start();
    for number in 0..5 {
        shop.send(&gateway, "ada", &numbered("reject", number));
        shop.send(&gateway, "ada", &numbered("ok", 100));
    }
    shop.wait_until_listed(&gateway, &[0, 2, 4, 6, 8]);
    let output = shop.command(Some(&gateway), &["list", "--reason", "told"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.starts_with(&format!("{}.dead-letters: 5 dead letters\n", shop.topic)),
        "{table}"
    );
    assert!(table.contains(&format!("{}/0@8", shop.topic)) && table.contains("told to"), "{table}");
    let none = shop.redrive(Some(&gateway), &["--reason", "another cause"]);
    assert_eq!(none, "Given back: 0 records.\n");

    shop.mend(&gateway);
    let told = shop.redrive(Some(&gateway), &[]);
    assert_eq!(told, "Given back: 5 records.\n");
    shop.wait_until_emitted(&gateway, "ada", &[0, 1, 2, 3, 4]);
    assert_eq!(shop.redrive(Some(&gateway), &[]), "Given back: 0 records.\n");
    assert_eq!(shop.listed(Some(&gateway)), Vec::<u64>::new());
    if shop.is_kafka {
        without_a_gateway(shop, gateway);
    }
}

#[test]
fn dead_letters_are_handled_by_the_plugin_that_is_named_on_the_embedded_broker() {
    through_another_handler(&Shop::on_embedded("ordering = \"key\""));
}

#[test]
fn dead_letters_are_handled_by_the_plugin_that_is_named_on_kafka() {
    let Some(shop) = Shop::on_kafka("through", "ordering = \"key\"") else { return };
    through_another_handler(&shop);
}

fn through_another_handler(shop: &Shop) {
    let directory = shop.directory.path().join("plugins");
    plugins::install("uppercase", &directory, "mended");
    let gateway = shop.start();
    for number in 0..4 {
        shop.send(&gateway, "ada", &numbered("reject", number));
    }
    shop.wait_until_listed(&gateway, &[0, 1, 2, 3]);
    let fails = |arguments: &[&str], expected: &str| {
        let output = shop.command(Some(&gateway), &[&["redrive"], arguments].concat());
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{said}");
    };
    fails(&["--through", "nobody"], "nobody");
    fails(&["--through", "mended", "--parked"], "--parked");
    fails(&["--through", "flaky"], "told to");
    assert_eq!(shop.listed(Some(&gateway)), [0, 1, 2, 3], "what fails again stays");
    let told = shop.redrive(Some(&gateway), &["--through", "mended", "--dry-run"]);
    assert!(told.contains("@0 would go to mended"), "{told}");
    let told = shop.redrive(Some(&gateway), &["--through", "mended", "--json"]);
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5, "{told}");
    assert_eq!((&lines[0]["event"], &lines[0]["handler"]), (&json!("handled"), &json!("mended")));
    let written = lines[0]["written"].as_array().unwrap();
    assert!(written[0].as_str().unwrap().starts_with(&format!("{}-out/", shop.topic)), "{told}");
    shop.wait_until_emitted(&gateway, "ada", &[0, 1, 2, 3]);
    assert_eq!(shop.listed(Some(&gateway)), Vec::<u64>::new());
    assert_eq!(shop.in_source(&gateway).len(), 4, "nothing went back there");
    let again = shop.redrive(Some(&gateway), &["--through", "mended"]);
    assert_eq!(again, "Given back: 0 records.\n");
    if shop.is_kafka {
        shop.send(&gateway, "ada", &numbered("reject", 4));
        shop.wait_until_listed(&gateway, &[4]);
        gateway.terminate();
        assert_eq!(shop.redrive(None, &["--through", "mended"]), "Given back: 1 record.\n");
        let gateway = shop.start();
        shop.wait_until_emitted(&gateway, "ada", &[0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_redrive_that_is_killed_and_repeated_writes_nothing_twice_on_the_embedded_broker() {
    killed_redrives(&Shop::on_embedded("ordering = \"none\""));
}

#[test]
fn a_redrive_that_is_killed_and_repeated_writes_nothing_twice_on_kafka() {
    let Some(shop) = Shop::on_kafka("killed", "ordering = \"none\"") else { return };
    killed_redrives(&shop);
}

fn killed_redrives(shop: &Shop) {
    const LETTERS: u64 = 480;
    let gateway = shop.start();
    for number in 0..LETTERS {
        let key = if number % 2 == 0 { "ada" } else { "bob" };
        shop.send(&gateway, key, &numbered("reject", number));
    }
    shop.wait_for_lag_of_zero(&gateway);
    let told = shop.redrive(Some(&gateway), &["--dry-run"]);
    assert!(told.ends_with(&format!("Would be given back: {LETTERS} records.\n")), "{told}");
    shop.mend(&gateway);
    shop.begin_to_redrive(Some(gateway), "ada");
    if shop.is_kafka {
        shop.begin_to_redrive(None, "bob");
    } else {
        shop.begin_to_redrive(Some(shop.start()), "bob");
    }
    let gateway = shop.start();
    shop.redrive(Some(&gateway), &[]);
    assert_eq!(shop.redrive(Some(&gateway), &[]), "Given back: 0 records.\n");
    // Once as it was sent, once as it was given back.
    let twice: BTreeMap<_, _> = (0..LETTERS).map(|number| (number, 2)).collect();
    assert_eq!(shop.in_source(&gateway), twice);
}

/// On Kafka nobody has to run for it.
fn without_a_gateway(shop: &Shop, gateway: Gateway) {
    plugins::install("flaky", &shop.directory.path().join("plugins"), "flaky");
    wait_until("it fails again", || {
        shop.send(&gateway, "bob", &numbered("reject", 7));
        let listed = shop.list(Some(&gateway))?;
        if listed.is_empty() { Err(gateway.tail()) } else { Ok(()) }
    });
    shop.wait_for_lag_of_zero(&gateway);
    let listed = shop.listed(Some(&gateway));
    gateway.terminate();
    assert_eq!(shop.listed(None), listed);
    let lines = shop.redrive(None, &["--json"]);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last, json!({"event": "end", "records": listed.len(), "refused": 0, "error": null}));
    assert_eq!(lines.lines().count(), listed.len() + 1);
    assert_eq!(shop.listed(None), Vec::<u64>::new());
}
