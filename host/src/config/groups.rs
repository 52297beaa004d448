//! The walk over `[[groups]]`, and over plugins in their roles.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{
    Allow, Broker, Canary, Delivery, Group, HttpTarget, Isolation, Limits, OnReject, Ordering,
    PluginUse, Retry, Source, Start,
    broker::Session,
    names,
    read::{Field, Table},
    references::Mention,
    report::Fault,
    sections::unique,
    trials,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// How long what is in flight may take to end when its partition is revoked, if the session is long enough.
const DRAIN: Duration = Duration::from_secs(20);

/// What groups are seen from.
struct Around<'a> {
    directory: &'a Path,
    session: Session,
}

pub(super) fn groups<'a>(
    tables: Vec<Table<'a>>,
    broker: &Broker,
    directory: &Path,
    mentions: &mut Vec<Mention<'a>>,
) -> Vec<Group> {
    let mut seen = HashSet::new();
    let around = Around { directory, session: broker.session() };
    tables.into_iter().map(|table| group(table, &around, &mut seen, mentions)).collect()
}

fn group<'a>(
    mut table: Table<'a>,
    around: &Around<'_>,
    seen: &mut HashSet<Arc<str>>,
    mentions: &mut Vec<Mention<'a>>,
) -> Group {
    let id = table.required("id", "the group's id").and_then(|field| {
        let id = field.name(names::group)?;
        unique(seen, &id, &field);
        Some(id)
    });
    let on_reject = on_reject(&mut table, id.as_deref());
    let topics = topics(&mut table, mentions);
    let output_topic = written_topic(&mut table, "output-topic", &topics);
    let dead_letter_topic = written_topic(&mut table, "dead-letter-topic", &topics);
    if on_reject == OnReject::Park {
        reads_no_parked_records(&mut table, id.as_deref(), &topics);
    }
    if on_reject == OnReject::DeadLetter && dead_letter_topic.is_none() {
        has_room_for_dead_letters(&mut table, &topics);
    }
    for key in ["canary", "shadow"] {
        if let Some(field) = table.field(key) {
            let there = format!("write it there: handler = {{ plugin = .., {key} = .. }}");
            field.refuse("a matter of the handler", &there);
        }
    }
    let Used { handler, canary, shadow } =
        handler(&mut table, output_topic.as_ref(), around.directory, mentions);
    let group = Group {
        id: id.unwrap_or_default(),
        consumers: table.read("consumers", |field| field.integer(1..=256)).unwrap_or(1),
        handler,
        canary,
        shadow,
        ordering: ordering(&mut table),
        start: table
            .read("start", |field| {
                field.choice(&[("earliest", Start::Earliest), ("latest", Start::Latest)], &[])
            })
            .unwrap_or(Start::Earliest),
        delivery: delivery(&mut table),
        max_in_flight: table.read("max-in-flight", |field| field.integer(1..=16_384)).unwrap_or(64),
        drain: drain(&mut table, &around.session),
        retry: retry(table.table("retry")),
        isolation: table
            .read("isolation", |field| {
                field.choice(&[("none", Isolation::None), ("record", Isolation::Record)], &[])
            })
            .unwrap_or(Isolation::None),
        instance_id: table.read("instance-id", |field| field.name(names::instance)),
        on_reject,
        topics,
        output_topic,
        dead_letter_topic,
    };
    table.finish();
    group
}

fn on_reject(table: &mut Table<'_>, id: Option<&str>) -> OnReject {
    let choices = [
        ("dead-letter", OnReject::DeadLetter),
        ("park", OnReject::Park),
        ("drop", OnReject::Drop),
        ("stop", OnReject::Stop),
    ];
    let given = table.read("on-reject", |field| {
        let chosen = field.choice(&choices, &[])?;
        if chosen == OnReject::Park && id.is_some_and(|id| !names::can_park(id)) {
            field.refuse(
                &format!(
                    "for a group whose id, with {:?} behind it, names no topic",
                    names::PARKED
                ),
                "give the group an id of a-z, A-Z, 0-9, \".\", \"_\" and \"-\"",
            );
        }
        Some(chosen)
    });
    given.unwrap_or(OnReject::DeadLetter)
}

fn delivery(table: &mut Table<'_>) -> Delivery {
    let choices =
        [("at-least-once", Delivery::AtLeastOnce), ("exactly-once", Delivery::ExactlyOnce)];
    table.read("delivery", |field| field.choice(&choices, &[])).unwrap_or(Delivery::AtLeastOnce)
}

/// A member that takes longer than its session is no member any more, and its commit comes to nothing.
fn drain(table: &mut Table<'_>, session: &Session) -> Duration {
    let given = table.read("drain", |field| {
        let drain = field.duration(MILLISECOND..=HOUR)?;
        if drain >= session.time {
            let (time, because) = (humantime::format_duration(session.time), session.because);
            field.refuse(
                &format!("not shorter than the session of a member, which is {time} ({because})"),
                "give a shorter one, so that what is finished can still be committed",
            );
        }
        Some(drain)
    });
    given.unwrap_or(DRAIN.min(session.time / 2))
}

fn reads_no_parked_records(table: &mut Table<'_>, id: Option<&str>, topics: &[Arc<str>]) {
    let Some(parked) = id.map(|id| format!("{id}{}", names::PARKED)) else { return };
    if topics.iter().any(|topic| **topic == *parked)
        && let Some(list) = table.field("topics")
    {
        list.refuse(
            &format!("{parked:?} is where the group parks records"),
            "leave it out: keyway dead-letters redrive gives them back",
        );
    }
}

fn ordering(table: &mut Table<'_>) -> Ordering {
    let choices =
        [("partition", Ordering::Partition), ("key", Ordering::Key), ("none", Ordering::None)];
    table.read("ordering", |field| field.choice(&choices, &[])).unwrap_or(Ordering::Partition)
}

fn topics<'a>(table: &mut Table<'a>, mentions: &mut Vec<Mention<'a>>) -> Vec<Arc<str>> {
    let Some(list) = table.required("topics", "the topics that the group reads") else {
        return Vec::new();
    };
    let Some(fields) = list.list() else { return Vec::new() };
    if fields.is_empty() {
        list.refuse("empty", "name at least one topic");
    }
    let mut seen = HashSet::new();
    let topic = |field: Field<'a>| {
        let name = Mention::read(&field, mentions)?;
        unique(&mut seen, &name, &field);
        Some(name)
    };
    fields.into_iter().filter_map(topic).collect()
}

/// A topic that a group writes to and therefore must not read: its own records would come back to it for ever.
fn written_topic(table: &mut Table<'_>, key: &'static str, read: &[Arc<str>]) -> Option<Arc<str>> {
    table.read(key, |field| {
        let name = field.name(names::topic)?;
        if read.contains(&name) {
            field.refuse(
                "one of the topics that the group reads",
                "name another: records would go round for ever",
            );
        }
        Some(name)
    })
}

fn has_room_for_dead_letters(table: &mut Table<'_>, topics: &[Arc<str>]) {
    let Some(list) = table.field("topics") else { return };
    if !topics.iter().all(|topic| names::has_room_for_dead_letters(topic)) {
        list.refuse(
            &format!("too long a name to put {:?} behind it", names::DEAD_LETTERS),
            "give a dead-letter-topic",
        );
    }
}

/// What a group has handle its records, and what it tries beside that.
struct Used {
    handler: PluginUse,
    canary: Option<Canary>,
    shadow: Option<Source>,
}

fn handler<'a>(
    group: &mut Table<'a>,
    output_topic: Option<&Arc<str>>,
    directory: &Path,
    mentions: &mut Vec<Mention<'a>>,
) -> Used {
    let mut limits_table = group.table("limits");
    let mut limits = memory_and_time(&mut limits_table);
    limits.emit =
        limits_table.read("emit", |field| field.integer(1..=1_000_000)).unwrap_or(limits.emit);
    limits.emit_bytes = limits_table
        .read("emit-bytes", |field| field.size(1..=1 << 30))
        .unwrap_or(limits.emit_bytes);
    limits_table.finish();

    let allow = allow(group.table("allow"), output_topic, mentions);
    let what = "the plugin that handles the records, such as { plugin = \"print\" }";
    match group.required("handler", what) {
        Some(field) => {
            let mut table = field.table();
            let handler = plugin(&mut table, limits, allow);
            let canary = table.field("canary");
            let canary = canary.and_then(|field| trials::canary(field.table(), directory));
            let shadow = table.field("shadow");
            let shadow = shadow.and_then(|field| trials::shadow(field.table(), directory));
            table.finish();
            Used { handler, canary, shadow }
        }
        None => {
            let handler =
                PluginUse { plugin: Arc::default(), config: BTreeMap::new(), limits, allow };
            Used { handler, canary: None, shadow: None }
        }
    }
}

/// A plugin as a key selector. It emits nothing, so that only its memory and its time have limits, and of what can be
/// allowed there is HTTP alone.
pub(super) fn selector(mut table: Table<'_>) -> PluginUse {
    let mut limits_table = table.table("limits");
    let limits = memory_and_time(&mut limits_table);
    limits_table.finish();
    let mut allow_table = table.table("allow");
    let allow = Allow { http: http(&mut allow_table), ..Allow::default() };
    allow_table.finish();
    let plugin = plugin(&mut table, limits, allow);
    table.finish();
    plugin
}

fn plugin(table: &mut Table<'_>, limits: Limits, allow: Allow) -> PluginUse {
    let plugin = table
        .required("plugin", "the plugin's name: its file name without \".wasm\"")
        .and_then(|field| field.name(names::plugin));
    let config = table.field("config").map(|field| {
        field.texts().into_iter().map(|(key, _, text)| (key.to_owned(), text)).collect()
    });
    PluginUse {
        plugin: plugin.unwrap_or_default(),
        config: config.unwrap_or_default(),
        limits,
        allow,
    }
}

fn memory_and_time(table: &mut Table<'_>) -> Limits {
    let default = Limits::default();
    Limits {
        memory: table
            .read("memory", |field| field.size(64 << 10..=4 << 30))
            .unwrap_or(default.memory),
        time: table
            .read("time", |field| field.duration(MILLISECOND..=HOUR))
            .unwrap_or(default.time),
        ..default
    }
}

fn allow<'a>(
    mut table: Table<'a>,
    output_topic: Option<&Arc<str>>,
    mentions: &mut Vec<Mention<'a>>,
) -> Allow {
    let topics = table.read("topics", Field::list).unwrap_or_default();
    let topics = topics.iter().filter_map(|field| Mention::read(field, mentions));
    let topics = topics.chain(output_topic.cloned()).collect();
    let http = http(&mut table);
    table.finish();
    Allow { topics, http }
}

fn http(allow: &mut Table<'_>) -> BTreeSet<HttpTarget> {
    let entries = allow.read("http", Field::list).unwrap_or_default();
    let mut targets = BTreeSet::new();
    for entry in entries {
        match entry.text().map(HttpTarget::parse) {
            None => {}
            Some(Ok(target)) => drop(targets.insert(target)),
            Some(Err(Fault { wrong, remedy })) => entry.refuse(&wrong, &remedy),
        }
    }
    targets
}

fn retry(mut table: Table<'_>) -> Retry {
    const BACKOFF: Duration = Duration::from_millis(100);
    const MAX_BACKOFF: Duration = Duration::from_secs(30);
    let attempts = table.read("attempts", |field| field.integer(1..=1_000_000)).unwrap_or(5);
    let max_backoff = table
        .read("max-backoff", |field| field.duration(MILLISECOND..=HOUR * 24))
        .unwrap_or(MAX_BACKOFF);
    let backoff = table.read("backoff", |field| {
        let backoff = field.duration(MILLISECOND..=HOUR * 24)?;
        if backoff > max_backoff {
            let bound = humantime::format_duration(max_backoff);
            field.refuse(
                &format!("longer than max-backoff, which is {bound}"),
                "give a shorter one or a longer max-backoff",
            );
        }
        Some(backoff)
    });
    table.finish();
    Retry { attempts, backoff: backoff.unwrap_or(BACKOFF.min(max_backoff)), max_backoff }
}
