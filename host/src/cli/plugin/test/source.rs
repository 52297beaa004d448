//! Where the records of a test come from: a file, standard input, a topic, or what a group gave up on.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{records, subject::Subject};
use crate::{
    admin::{
        dead_letters::{self, Filter},
        inventory, snapshot,
    },
    cli::{
        Error,
        ask::{Ask, path, query},
        settings::Settings,
    },
    handler::Delivery,
    record::{Header, Record},
};

/// Bytes of a file of records.
const MOST_BYTES: u64 = 64 << 20;
/// Dead letters of one look.
const MOST_LETTERS: usize = 1000;

/// Records, and what to call them.
#[derive(Debug)]
pub(super) enum Source {
    /// Read each time.
    File(PathBuf),
    /// Read once.
    Once { name: String, records: Vec<Delivery> },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Once { name, .. } => f.write_str(name),
        }
    }
}

impl Source {
    /// A file, or standard input, which is there but once.
    pub(super) fn file(file: PathBuf, watch: bool) -> Result<Self, Error> {
        if file != Path::new("-") {
            return Ok(Self::File(file));
        }
        if watch {
            return Err(Error::Usage("standard input cannot be watched: give a file".into()));
        }
        let name = "standard input".to_owned();
        let records = parse(io::stdin().lock(), &name)?;
        Ok(Self::Once { name, records })
    }

    /// What the plugin's tests have.
    pub(super) fn of_tests(subject: &Subject) -> Result<Self, Error> {
        let file = subject.test_file("records.jsonl");
        if file.is_file() {
            return Ok(Self::File(file));
        }
        Err(Error::Usage(format!(
            "there are no records: there is no {}; write it, one record as JSON a line, such as {{\"value\": \"hello\"}}, or \
             give --records FILE, --topic TOPIC or --dead-letters GROUP",
            file.display()
        )))
    }

    /// The last records of a topic.
    pub(super) fn topic(
        topic: &str,
        last: u32,
        ask: Ask,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let asked = query(
            &format!("{}/records", path("topics", Some(topic))),
            &[("last", last.to_string())],
        );
        let answer = ask.ask(settings, &asked, async |broker, _| {
            inventory::last_records(broker, topic, last as usize).await
        })?;
        let shown: Vec<snapshot::Records> = answer.read()?;
        let shown = shown.into_iter().flat_map(|shown| shown.records);
        let records = shown.map(|shown| delivery(topic, shown)).collect::<Result<_, _>>()?;
        Ok(Self::Once { name: format!("topic {topic}"), records })
    }

    /// What a group gave up on, as it read it.
    pub(super) fn dead_letters(
        group: String,
        ask: Ask,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let name = format!("what group {group} gave up on");
        let filter = Filter { group: Some(group), ..Filter::default() };
        let mut asked = filter.parameters();
        asked.push(("limit", MOST_LETTERS.to_string()));
        let answer = ask.ask(settings, &query("dead-letters", &asked), async |broker, view| {
            dead_letters::list(broker, &view.config, &filter, None, MOST_LETTERS).await
        })?;
        let pages: Vec<snapshot::DeadLetters> = answer.read()?;
        let letters = pages.into_iter().flat_map(|page| page.dead_letters);
        let records = letters.map(|letter| {
            let snapshot::DeadLetter { source, key, value, headers, .. } = letter;
            let snapshot::Source { topic, partition, offset } = source;
            delivery(
                &topic,
                snapshot::Record { partition, offset, timestamp: None, key, value, headers },
            )
        });
        Ok(Self::Once { name, records: records.collect::<Result<_, _>>()? })
    }

    /// The file, where it is one.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(file) => Some(file.clone()),
            Self::Once { .. } => None,
        }
    }

    /// The records. Those that do not say their topic have an empty one.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is no record.
    pub(super) fn records(&self) -> Result<Vec<Delivery>, Error> {
        match self {
            Self::File(file) => {
                let name = file.display().to_string();
                let opened = File::open(file).map_err(|error| unreadable(&name, &error))?;
                parse(opened, &name)
            }
            Self::Once { records, .. } => Ok(records.clone()),
        }
    }
}

fn parse(read: impl Read, name: &str) -> Result<Vec<Delivery>, Error> {
    let mut text = String::new();
    let read = read.take(MOST_BYTES + 1).read_to_string(&mut text);
    if read.map_err(|error| unreadable(name, &error))? as u64 > MOST_BYTES {
        let most = MOST_BYTES >> 20;
        return Err(Error::Usage(format!("{name} is larger than {most} MiB: give fewer records")));
    }
    match records::parse(&text, name) {
        Ok(records) if records.is_empty() => {
            let example = "write one record as JSON a line, such as {\"value\": \"hello\"}";
            Err(Error::Usage(format!("there is no record in {name}: {example}")))
        }
        Ok(records) => Ok(records),
        Err(wrong) => Err(Error::Usage(wrong)),
    }
}

fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::Usage(match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {name}"),
        io::ErrorKind::InvalidData => {
            format!("{name} is not UTF-8; bytes are written as {{\"base64\": \"..\"}}")
        }
        _ => format!("{name}: {error}"),
    })
}

/// A record that a gateway has shown.
fn delivery(topic: &str, shown: snapshot::Record) -> Result<Delivery, Error> {
    let bytes = |payload: Option<snapshot::Payload>| {
        let bytes = payload.map(snapshot::Payload::bytes).transpose();
        bytes.map_err(|error| {
            Error::Failed(format!("the gateway's answer is not understood: {error}"))
        })
    };
    let header = |snapshot::Header { key, value }| Ok(Header { key, value: bytes(value)? });
    let headers = shown.headers.into_iter().map(header).collect::<Result<_, Error>>()?;
    let record = Record {
        topic: topic.into(),
        partition: shown.partition,
        offset: shown.offset,
        timestamp: shown.timestamp,
        key: bytes(shown.key)?,
        value: bytes(shown.value)?,
        headers,
    };
    Ok(Delivery { record, attempt: 1 })
}
