//! The walk over `[broker]`: which keys belong to which kind, and what their values may be.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    Broker, Retention, SESSION, kafka_properties, names,
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

/// How long a member may go on with what is revoked before it is taken for dead.
pub(super) struct Session {
    pub(super) time: Duration,
    /// Whose word that is.
    pub(super) because: &'static str,
}

/// What librdkafka has for `max.poll.interval.ms` where it is not given.
const POLL_INTERVAL: Duration = Duration::from_secs(300);

impl Broker {
    /// The shortest of what bounds a member. Under `group.protocol = "consumer"` Kafka decides, and what it has by default
    /// is the best guess.
    pub(super) fn session(&self) -> Session {
        let Self::Kafka { properties, .. } = self else {
            return Session { time: SESSION, because: "on the embedded broker" };
        };
        let is_classic = properties.get("group.protocol").is_none_or(|given| given == "classic");
        // What is no number librdkafka refuses.
        let given = |name: &str| properties.get(name)?.parse().ok().map(Duration::from_millis);
        let session = given("session.timeout.ms").filter(|_| is_classic).unwrap_or(SESSION);
        let interval = given("max.poll.interval.ms").unwrap_or(POLL_INTERVAL);
        match interval < session {
            true => Session { time: interval, because: "max.poll.interval.ms" },
            false if is_classic => Session { time: session, because: "session.timeout.ms" },
            false => Session { time: session, because: "group.consumer.session.timeout.ms" },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn session(properties: &[(&str, &str)]) -> (u64, &'static str) {
        let given = properties.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let broker = Broker::Kafka {
            path: "data".into(),
            bootstrap_servers: "localhost:9092".into(),
            properties: given.collect(),
        };
        let Session { time, because } = broker.session();
        (time.as_secs(), because)
    }

    #[test]
    fn a_session_ends_by_whichever_is_the_shortest() {
        assert_eq!(session(&[]), (45, "session.timeout.ms"));
        assert_eq!(session(&[("session.timeout.ms", "6000")]), (6, "session.timeout.ms"));
        assert_eq!(session(&[("max.poll.interval.ms", "9000")]), (9, "max.poll.interval.ms"));
        let new = [("group.protocol", "consumer"), ("session.timeout.ms", "6000")];
        assert_eq!(session(&new), (45, "group.consumer.session.timeout.ms"));
    }
}
