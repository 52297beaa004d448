//! `keyway plugin test`: a plugin without a gateway, record by record.
//!
//! `subject` is what is tested and how the configuration uses it, `source` where the records come from; `records`,
//! `expectation`, `ending` and `data` are the files and what they are held against, all of it pure; `report` prints, `watch`
//! waits for a change. The plugin runs on the host that gateways have.

mod data;
mod ending;
mod expectation;
mod records;
mod report;
mod source;
mod subject;
mod watch;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Args, value_parser};

use super::{
    super::{Error, ask::Ask, run::runtime, settings::Settings, text::Style},
    new::Does,
};
use crate::{
    app,
    cli::text::count,
    config::Loaded,
    handler::Delivery,
    plugin::{Call, Rehearsal, Role},
    record::NewRecord,
};
use ending::Ending;
use expectation::Expectation;
use report::Report;
use source::Source;
use subject::{Subject, Use, Wanted};
use watch::Watched;

const AFTER_HELP: &str = "\
Records are JSON, one a line, as /send-message takes them and the gateway shows them: \
{\"value\": .., \"key\"?, \"headers\"?, \"topic\"?, \"partition\"?, \"offset\"?, \"timestamp\"?, \"attempt\"?}. A string is \
text, null a tombstone, {\"base64\": \"..\"} bytes, any other JSON its compact text.

An expectation has a line for each record: {\"outcome\": \"handled\", \"emitted\": [{\"value\": ..}]}, {\"outcome\": \
\"rejected\", \"reason\": ..}, {\"outcome\": \"key\", \"key\": ..}, {\"outcome\": \"failed\", \"failure\": \"timeout\"}. What a line \
leaves out (a time, say) may be anything. --update writes everything, and leaves lines as they are that are met.

The tests of a plugin are in tests/ of its source folder: records.jsonl, expected.jsonl, and where it wants a configuration \
keyway.toml; they are found there by themselves, also for NAME.wasm beside the folder NAME. The plugin has what the \
configuration gives the first group or topic that uses it: config, limits, allow. Each record is tried once. Nothing is \
written anywhere, but its HTTP requests are made. A source folder is built to target/plugins/test, where no gateway sees it.

With --json each record is a line, and so is the end.

Exit codes: 0 all is as expected, or without an expectation no record failed (trapped, broke a limit); 1 a record is not, or \
the plugin does not build or load; 64 wrong usage, configuration, records or expectation.

Examples:
  keyway plugin test plugins/print
  keyway plugin test plugins/print --update
  keyway plugin test plugins/print --watch
  keyway plugin test print.wasm --records cases.jsonl --expect cases.expected.jsonl --set prefix=got
  keyway plugin test plugins/print --topic my-topic --last 20
  keyway plugin test target/fixed.wasm --dead-letters my-topic-group-1";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("source"))]
pub(in crate::cli) struct Test {
    /// A component, a source folder (which is built first), or the name of one of those in the directory of plugins
    plugin: PathBuf,
    /// The file of records, `-` for standard input [default: tests/records.jsonl of the source folder]
    #[arg(short, long, value_name = "FILE", group = "source")]
    records: Option<PathBuf>,
    /// The last records of this topic, as a gateway or Kafka has them
    #[arg(short, long, group = "source")]
    topic: Option<String>,
    /// How many of them at the most [default: 10]
    #[arg(long, value_name = "NUMBER", requires = "topic", conflicts_with_all = ["records", "dead_letters"], value_parser = value_parser!(u32).range(1..=1000))]
    last: Option<u32>,
    /// What this group gave up on, the first 1000 records
    #[arg(long, value_name = "GROUP", group = "source")]
    dead_letters: Option<String>,
    /// The file of what is expected [default: tests/expected.jsonl of the source folder, with its records]
    #[arg(short, long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Make what the plugin does now the expectation
    #[arg(short, long)]
    update: bool,
    /// Run again whenever the plugin, the records, the expectation or the configuration change; Ctrl-C ends
    #[arg(short, long, conflicts_with = "update")]
    watch: bool,
    /// One value of the plugin's configuration; may be given several times
    #[arg(short, long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// As this group uses its handler, or this topic its key selector [default: the first that uses this plugin]
    #[arg(long = "as", value_name = "GROUP|TOPIC")]
    owner: Option<String>,
    /// As what, where it can be both
    #[arg(short, long, value_enum)]
    kind: Option<Does>,
    /// Of the topic that a key selector decides for [default: as configured, else 3]
    #[arg(short, long, value_name = "NUMBER", value_parser = value_parser!(u32).range(1..=10_000))]
    partitions: Option<u32>,
    #[command(flatten)]
    ask: Ask,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a value of the plugin's configuration is KEY=VALUE".into()),
    }
}

/// A test that may run more than once.
struct Bench<'a> {
    subject: Subject,
    source: Source,
    expectation: Option<PathBuf>,
    update: bool,
    wanted: Wanted,
    set: Vec<(String, String)>,
    partitions: Option<u32>,
    json: bool,
    settings: &'a Settings,
}

impl Test {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<(), Error> {
        let subject = Subject::find(&self.plugin, settings)?;
        let json = self.ask.json;
        let owner = self.owner.or_else(|| self.dead_letters.clone());
        let is_default =
            self.records.is_none() && self.topic.is_none() && self.dead_letters.is_none();
        let source = match (self.records, self.topic, self.dead_letters) {
            (Some(file), ..) => Source::file(file, self.watch)?,
            (_, Some(topic), _) => {
                Source::topic(&topic, self.last.unwrap_or(10), self.ask, settings)?
            }
            (_, _, Some(group)) => Source::dead_letters(group, self.ask, settings)?,
            _ => Source::of_tests(&subject)?,
        };
        let of_tests = || Some(subject.test_file("expected.jsonl")).filter(|_| is_default);
        let expectation = match (self.expect, of_tests()) {
            (Some(file), _) => Some(file),
            (None, Some(file)) if self.update || file.is_file() => Some(file),
            (None, None) if self.update => {
                let text =
                    "--update wants to know the file of what is expected: give --expect FILE";
                return Err(Error::Usage(text.into()));
            }
            _ => None,
        };
        let own = subject.settings(settings);
        let bench = Bench {
            source,
            expectation,
            update: self.update,
            wanted: Wanted { owner, role: self.kind.map(Role::from) },
            set: self.settings,
            partitions: self.partitions,
            json,
            settings: own.as_ref().unwrap_or(settings),
            subject,
        };
        if self.watch { bench.watch() } else { bench.run() }
    }
}

impl From<Does> for Role {
    fn from(does: Does) -> Self {
        match does {
            Does::Handler => Self::Handler,
            Does::Selector => Self::Selector,
        }
    }
}

impl Bench<'_> {
    /// Runs whenever something has changed, until the process is ended.
    fn watch(&self) -> Result<(), Error> {
        let files = [self.source.path(), self.expectation.clone(), Some(self.settings.file())];
        let component = self.subject.folder.is_none().then(|| self.subject.component.clone());
        let files = files.into_iter().chain([component]).flatten();
        let mut watched = Watched::new(self.subject.folder.as_deref(), files);
        loop {
            match self.run() {
                Err(Error::ReaderGone) => return Ok(()),
                Err(error) => drop(error.report()),
                Ok(()) => {}
            }
            let changed = watched.wait();
            let text = format!("\n{} has changed\n", changed.display());
            writeln!(io::stderr(), "{}", Style::of_stdout().dim(&text))?;
        }
    }

    fn run(&self) -> Result<(), Error> {
        let Loaded { config, file } = self.settings.load_from_file()?;
        let mut records = self.source.records()?;
        let expectation = self.expected()?;
        self.subject.build()?;
        let (name, roles) = (self.subject.name(), self.subject.roles()?);
        let mut used = Use::find(&name, &roles, &self.wanted, &config)?;
        used.plugin.config.extend(self.set.iter().cloned());
        used.partitions = self.partitions.unwrap_or(used.partitions);
        for Delivery { record, .. } in &mut records {
            if record.topic.is_empty() {
                record.topic = used.topic.clone();
            }
        }
        let shown = self.expectation.as_ref().map(|file| file.display().to_string());
        let shown = shown.filter(|_| expectation.is_some());
        let mut report = Report::new(io::stdout().lock(), Style::of_stdout(), self.json, shown);
        let endings = runtime()?.block_on(async {
            let mut rehearsal = self.rehearsal(&used).await?;
            let what = what(&rehearsal, &used, file.as_deref());
            let with = format!("{} of {}", count(records.len() as u64, "record"), self.source);
            report.begin(&what, &with)?;
            self.calls(&mut rehearsal, &used, &records, expectation.as_ref(), &mut report).await
        })?;
        let beyond = expectation.as_ref().and_then(|expected| expected.beyond(records.len()));
        let ended = report.end(beyond)?;
        drop(report);
        if self.update {
            return self.write(&expectation.unwrap_or_default(), &endings);
        }
        ended.map_err(Error::Failed)
    }

    async fn rehearsal(&self, used: &Use) -> Result<Rehearsal, Error> {
        let directory = self.subject.component.parent().unwrap_or(Path::new(""));
        let host = app::plugin_host(directory)?;
        let owner = used.owner.as_deref().unwrap_or("a test");
        // What the plugin may miss.
        let hint = match (&used.owner, used.plugin.config.is_empty()) {
            (None, true) => "; it has no configuration here, --set KEY=VALUE gives it one",
            _ => "",
        };
        host.rehearse((owner, used.role), &used.plugin, used.output_topic.clone(), used.isolation)
            .await
            .map_err(|error| Error::Failed(format!("{error}{hint}")))
    }

    /// Calls it for each record, and gives how the calls ended, where that is to be written.
    async fn calls(
        &self,
        rehearsal: &mut Rehearsal,
        used: &Use,
        records: &[Delivery],
        expectation: Option<&Expectation>,
        report: &mut Report<impl Write>,
    ) -> Result<Vec<Ending>, Error> {
        let mut endings = Vec::new();
        for (index, delivery) in records.iter().enumerate() {
            let call = call(rehearsal, used, delivery).await;
            let verdict = expectation.map(|expected| expected.judge(index, &call.outcome));
            report.record(delivery, &call, verdict.as_ref())?;
            if self.update {
                endings.push(call.outcome);
            }
        }
        Ok(endings)
    }

    /// What is expected, where anything is. A file that is to be written need not be there.
    fn expected(&self) -> Result<Option<Expectation>, Error> {
        let Some(file) = &self.expectation else { return Ok(None) };
        let name = file.display();
        match fs::read_to_string(file) {
            Ok(text) => {
                Expectation::parse(&text, &name.to_string()).map(Some).map_err(Error::Usage)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.update => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::Usage(format!("there is no {name}; --update writes it")))
            }
            Err(error) => Err(Error::Usage(format!("{name}: {error}"))),
        }
    }

    fn write(&self, before: &Expectation, endings: &[Ending]) -> Result<(), Error> {
        let Some(file) = &self.expectation else { return Ok(()) };
        let lines =
            endings.iter().enumerate().map(|(index, ending)| before.line(index, ending) + "\n");
        let text: String = lines.collect();
        let failed = |error| Error::Failed(format!("cannot write {}: {error}", file.display()));
        let is_new = fs::read_to_string(file).ok().as_ref() != Some(&text);
        if is_new {
            fs::write(file, text).map_err(failed)?;
        }
        if !self.json {
            let what = if is_new { "is written" } else { "stays as it was" };
            writeln!(io::stdout(), "{} {what}", file.display())?;
        }
        Ok(())
    }
}

async fn call(rehearsal: &mut Rehearsal, used: &Use, delivery: &Delivery) -> Call<Ending> {
    match used.role {
        Role::Handler => rehearsal.handle(delivery).await.map(Ending::of_outcome),
        Role::Selector => {
            let record = &delivery.record;
            let candidate = NewRecord {
                topic: record.topic.clone(),
                partition: None,
                timestamp: record.timestamp,
                key: record.key.clone(),
                value: record.value.clone(),
                headers: record.headers.clone(),
            };
            let call = rehearsal.select(&candidate, used.partitions).await;
            call.map(|selection| Ending::of_selection(selection, used.partitions))
        }
    }
}

/// What is tested, and as what.
fn what(rehearsal: &Rehearsal, used: &Use, file: Option<&Path>) -> String {
    let (generation, role) = (rehearsal.generation(), used.role);
    let file = file.map_or("the built-in keyway.toml".into(), |file| file.display().to_string());
    let partitions = match role {
        Role::Handler => String::new(),
        Role::Selector => format!(", {}", count(used.partitions.into(), "partition")),
    };
    match &used.owner {
        Some(owner) => format!("{generation}: {role} of {owner}{partitions}, by {file}"),
        None => format!("{generation}: {role}{partitions}, which nothing in {file} uses"),
    }
}
