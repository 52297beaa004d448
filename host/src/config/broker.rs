//! The walk over `[broker]`: which keys belong to which kind, and what their values may be.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    Broker, Retention, kafka_properties, names,
    read::{Field, Table},
};

const SECOND: Duration = Duration::from_secs(1);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// As humantime counts years, so that messages show a round number.
const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

const KINDS: [(&str, Kind); 2] = [("embedded", Kind::Embedded), ("kafka", Kind::Kafka)];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Embedded,
    Kafka,
}

impl Kind {
    /// The keys that only this kind has.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Embedded => &["retention"],
            Self::Kafka => &["bootstrap-servers", "properties"],
        }
    }
}

/// Reads `[broker]`. The keys of both kinds are read whatever the kind is, so that all that is wrong is found.
pub(super) fn broker(mut table: Table<'_>, directory: &Path) -> Broker {
    let kind = kind(&mut table);
    let path = table.read("path", |field| field.path(directory));
    let path = path.unwrap_or_else(|| directory.join("keyway-data"));
    let retention = retention(table.table("retention"));
    let servers = match kind {
        Some(Kind::Kafka) => {
            table.required("bootstrap-servers", "HOST:PORT of Kafka, such as \"localhost:9092\"")
        }
        _ => table.field("bootstrap-servers"),
    };
    let servers = servers.and_then(|field| field.name(names::bootstrap_servers));
    let properties = table.field("properties").map(|field| properties(&field));
    table.finish();
    match kind {
        Some(Kind::Embedded) => Broker::Embedded { path, retention },
        // A kind that is wrong is reported; as Kafka it lets topics pass that are not listed.
        Some(Kind::Kafka) | None => Broker::Kafka {
            path,
            bootstrap_servers: servers.unwrap_or_default().to_string(),
            properties: properties.unwrap_or_default(),
        },
    }
}

/// Reads the kind and refuses the keys of the other. `None` where the kind is wrong.
fn kind(table: &mut Table<'_>) -> Option<Kind> {
    let given = table.field("kind");
    let kind = match &given {
        Some(field) => field.choice(&KINDS, &[])?,
        None => Kind::Embedded,
    };
    // A kind that comes from the environment puts out of force what the file says of the other kind.
    let overrides = given.is_some_and(|field| field.is_environment());
    for (word, other) in KINDS.into_iter().filter(|(_, other)| *other != kind) {
        let fields = other.keys().iter().filter_map(|key| table.field(key));
        for field in fields.filter(|field| field.is_environment() || !overrides) {
            field.refuse(
                &format!("only for kind = {word:?}"),
                &format!("leave it out or set broker.kind to {word:?}"),
            );
        }
    }
    Some(kind)
}

fn properties(field: &Field<'_>) -> BTreeMap<String, String> {
    let checked = |(name, field, value): (&str, Field<'_>, String)| {
        if let Err(fault) = kafka_properties::check(name, &value) {
            field.refuse(&fault.wrong, &fault.remedy);
        }
        (name.to_owned(), value)
    };
    field.texts().into_iter().map(checked).collect()
}

fn retention(mut table: Table<'_>) -> Retention {
    let time = bound(&mut table, "time", |field| field.duration(SECOND..=CENTURY));
    let bytes = bound(&mut table, "bytes", |field| field.size(1..=1 << 50));
    table.finish();
    Retention { time: time.unwrap_or(Some(WEEK)), bytes: bytes.unwrap_or(Some(10 << 30)) }
}

/// `Some(None)` where there is to be no bound.
fn bound<'a, T>(
    table: &mut Table<'a>,
    key: &'static str,
    read: impl FnOnce(&Field<'a>) -> Option<T>,
) -> Option<Option<T>> {
    table.read(key, |field| match field.peek() {
        Some("unlimited") => Some(None),
        _ => read(field).map(Some),
    })
}
