//! The memory of an instance that waits for its next call.
//!
//! Of a handler in Rust: a gateway with so many of them that have all handled a record, because their calls waited at the
//! same time, beside one with few. One in JavaScript cannot wait for anything, so it has an instance in each of many groups:
//! what a group takes besides is taken off by the same groups with a handler in Rust.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    gateway::{Gateway, binary, build_plugin},
    kafka::repository,
    statistics::Spread,
};

/// Instances; the gateway keeps at most 512 for their next call.
const FEW: usize = 32;
const MANY: usize = 480;
/// Groups with an instance each.
const FEW_GROUPS: usize = 16;
const MANY_GROUPS: usize = 240;
/// How long each call waits: all have to be sent by then.
const WAIT: Duration = Duration::from_secs(10);
/// How long it may take until all records are handled.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn measure(rounds: usize) -> Result<()> {
    let rust = build_plugin("plugins/flaky")?;
    let mut kibibytes = Vec::new();
    for _ in 0..rounds {
        kibibytes.push(each((FEW, MANY), |instances| waiting(&rust, instances))?);
    }
    let of_rust = Spread::of(kibibytes);
    println!("an idle instance in Rust, KiB: {of_rust}{}", of_rust.warning());
    let directory = tempfile::tempdir()?;
    let script = match build_script(directory.path()) {
        Ok(script) => script,
        Err(error) => {
            println!("an idle instance in TypeScript: not measured, {error}");
            return Ok(());
        }
    };
    let (mut of_groups, mut kibibytes) = (Vec::new(), Vec::new());
    let groups = (FEW_GROUPS, MANY_GROUPS);
    for _ in 0..rounds {
        let rust = each(groups, |groups| in_groups(&rust, groups))?;
        let script = each(groups, |groups| in_groups(&script, groups))?;
        of_groups.push(rust);
        kibibytes.push(script - rust + of_rust.median);
    }
    println!("the same with a group of its own, KiB: {}", Spread::of(of_groups));
    let of_script = Spread::of(kibibytes);
    println!("an idle instance in TypeScript, KiB: {of_script}{}", of_script.warning());
    Ok(())
}

/// KiB that each of many takes more than few do, by the MiB of a gateway with so many.
fn each((few, many): (usize, usize), mebibytes: impl Fn(usize) -> Result<f64>) -> Result<f64> {
    Ok((mebibytes(many)? - mebibytes(few)?) * 1024.0 / (many - few) as f64)
}

/// MiB of a gateway whose handler has so many instances, all of which have handled a record and wait for the next.
fn waiting(plugin: &Path, instances: usize) -> Result<f64> {
    let configuration = format!(
        "default-topic = \"bench\"\n[[topics]]\nname = \"bench\"\npartitions = 1\n\
         [[groups]]\nid = \"bench\"\ntopics = [\"bench\"]\nhandler = {{ plugin = \"flaky\" }}\n\
         ordering = \"none\"\nmax-in-flight = {instances}\nlimits = {{ time = \"60s\" }}\n"
    );
    let mut gateway = Gateway::start(&configuration, &["run"], &[plugin.to_owned()])?;
    gateway.ready()?;
    let body = format!(r#"{{"value":{{"do":"sleep","ms":{}}}}}"#, WAIT.as_millis());
    for _ in 0..instances {
        gateway.send(&body)?;
    }
    handled(&gateway, instances as u64)?;
    let shown = gateway.get_json("/api/v1/plugins/flaky")?;
    let kept = shown["uses"][0]["instances"].as_u64();
    if kept != Some(instances as u64) {
        return Err(format!("{kept:?} instances are there in place of {instances}").into());
    }
    gateway.resident_mebibytes()
}

/// MiB of a gateway with so many groups, each of which has handled some records with an instance of its own.
fn in_groups(plugin: &Path, groups: usize) -> Result<f64> {
    const RECORDS: u64 = 10;
    let name = plugin.file_stem().expect("a plugin is a file").to_string_lossy();
    let mut configuration =
        String::from("default-topic = \"bench\"\n[[topics]]\nname = \"bench\"\npartitions = 1\n");
    for number in 0..groups {
        writeln!(
            configuration,
            "[[groups]]\nid = \"bench-{number}\"\ntopics = [\"bench\"]\noutput-topic = \"out\"\n\
             handler = {{ plugin = \"{name}\", config = {{ schema = \"{{}}\" }} }}"
        )?;
    }
    let mut gateway = Gateway::start(&configuration, &["run"], &[plugin.to_owned()])?;
    gateway.ready()?;
    for _ in 0..RECORDS {
        gateway.send(r#"{"value":{"do":"ok"}}"#)?;
    }
    handled(&gateway, RECORDS)?;
    gateway.resident_mebibytes()
}

/// Waits until every group has handled so many records.
fn handled(gateway: &Gateway, records: u64) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let groups = gateway.get_json("/api/v1/groups")?;
        let groups = groups.as_array().ok_or("no list of groups")?;
        if groups.iter().all(|group| group["this_process"]["handled"] == records) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err("the records are not handled".into());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The example in TypeScript, by the gateway's own command.
fn build_script(directory: &Path) -> Result<PathBuf> {
    let build = Command::new(binary()?)
        .args(["plugin", "build", "plugins/schema-check", "--into"])
        .arg(directory)
        .current_dir(repository())
        .output()?;
    if !build.status.success() {
        return Err(String::from_utf8_lossy(&build.stdout).trim().into());
    }
    Ok(directory.join("schema-check.wasm"))
}
