//! What a newcomer sees of a running gateway.

use std::io::{self, Write};

use super::{
    changes::Change,
    watch::{Seen, SeenResult},
};
use crate::{
    cli::text::{Style, count, or_dash, preview},
    plugin::build::BuildError,
    record::NewRecord,
};

/// Characters of a key and of a value on a line.
const KEY: usize = 24;
const VALUE: usize = 100;

/// Writes lines about what happens.
#[derive(Debug)]
pub(super) struct View<W> {
    out: W,
    style: Style,
}

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    /// The URL that takes records.
    pub(super) send: Option<String>,
    /// The URL of the status page.
    pub(super) status: String,
    /// Where records are kept.
    pub(super) broker: String,
    /// The directory of plugins.
    pub(super) plugins: String,
    /// Whether a group handles records.
    pub(super) handles: bool,
}

impl<W: Write> View<W> {
    pub(super) fn new(out: W, style: Style) -> Self {
        Self { out, style }
    }

    /// Addresses, and something to try.
    pub(super) fn welcome(&mut self, welcome: &Welcome) -> io::Result<()> {
        let Welcome { send, status, broker, plugins, handles } = welcome;
        let name = self.style.bold(concat!("Keyway ", env!("CARGO_PKG_VERSION")));
        let out = &mut self.out;
        writeln!(out, "\n{name}\n")?;
        if let Some(send) = send {
            writeln!(out, "  send records to  {send}")?;
        }
        writeln!(out, "  status page      {status}")?;
        writeln!(out, "  records kept in  {broker}")?;
        writeln!(out, "  plugins from     {plugins} (a change is live within seconds)")?;
        if let Some(send) = send {
            writeln!(out, "\nTry this in another terminal:\n")?;
            writeln!(out, "  {}", self.style.bold(&curl(send)))?;
        }
        let end = match handles {
            true => "Every record that is handled shows up below. Ctrl-C ends.",
            false => {
                "No group is configured, so no record is handled: the answer to whoever sends one says where it went. \
                 Ctrl-C ends."
            }
        };
        writeln!(out, "\n{}\n", self.style.dim(end))?;
        out.flush()
    }

    /// A record that was handled, or was tried, by the member of that number.
    pub(super) fn record(&mut self, seen: &Seen, member: Option<usize>) -> io::Result<()> {
        let record = &seen.delivery.record;
        let at = format!("{}/{}@{}", record.topic, record.partition, record.offset);
        let (key, value) = key_and_value(record.key.as_deref(), record.value.as_deref());
        let (text, reason) = match &seen.result {
            SeenResult::Handled { emitted: 0, .. } => (self.style.good("handled"), None),
            SeenResult::Handled { emitted, .. } => {
                let text = format!("handled, {} out", count(*emitted as u64, "record"));
                (self.style.good(&text), None)
            }
            SeenResult::Retry(reason) => (self.style.warning("will be retried"), Some(reason)),
            SeenResult::Rejected(reason) => (self.style.bad("rejected"), Some(reason)),
            SeenResult::Failed(reason) => (self.style.bad("failed"), Some(reason)),
        };
        let reason = reason.map(|reason| format!(": {}", preview(reason.as_bytes(), VALUE)));
        let attempt = match seen.delivery.attempt {
            1 => String::new(),
            number => format!(", attempt {number}"),
        };
        let who =
            format!("{} member {} with {}{attempt}", seen.group, or_dash(member), seen.generation);
        let (who, at) = (self.style.dim(&who), self.style.bold(&at));
        let reason = reason.unwrap_or_default();
        writeln!(self.out, "{at}  {key}  {value}\n    {text}{reason}  {who}")?;
        if let SeenResult::Handled { emitted, first } = &seen.result {
            self.emitted(*emitted, first)?;
        }
        self.out.flush()
    }

    /// What came out of a record: so many in all, the first of which are shown.
    fn emitted(&mut self, emitted: usize, first: &[NewRecord]) -> io::Result<()> {
        for NewRecord { topic, key, value, .. } in first {
            let (key, value) = key_and_value(key.as_deref(), value.as_deref());
            writeln!(self.out, "    to {topic}  {key}  {value}")?;
        }
        match emitted.saturating_sub(first.len()) {
            0 => Ok(()),
            more => writeln!(self.out, "    and {}", count(more as u64, "more record")),
        }
    }

    /// That records went by unseen.
    pub(super) fn missed(&mut self, number: u64) -> io::Result<()> {
        if number == 0 {
            return Ok(());
        }
        let records = count(number, "record");
        let text = format!("... {records} more went by too fast to show; none was lost");
        writeln!(self.out, "{}", self.style.dim(&text))
    }

    /// That a plugin's sources do not build, with what the compiler says; or that there is no compiler.
    pub(super) fn not_built(&mut self, failure: &BuildError) -> io::Result<()> {
        if failure.is_missing_tool() {
            writeln!(self.out, "{}", self.style.dim(&failure.to_string()))?;
            return self.out.flush();
        }
        let bad = self.style.bad("The component before it serves on.");
        writeln!(self.out, "{failure}\n{bad}")?;
        self.out.flush()
    }

    /// What happened to a group or a plugin.
    pub(super) fn change(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::Group { id, members } => {
                writeln!(self.out, "{}", self.style.bold(&format!("group {id}")))?;
                for (number, standing) in members {
                    writeln!(self.out, "    member {number} {standing}")?;
                }
            }
            Change::Loaded { plugin, generation, before: None } => {
                let name = self.style.bold(&format!("plugin {plugin}"));
                writeln!(self.out, "{name} is loaded, generation {generation}")?;
            }
            Change::Loaded { plugin, generation, before: Some(before) } => {
                let name = self.style.bold(&format!("plugin {plugin}"));
                let now = self.style.good(&format!("is live in generation {generation}"));
                writeln!(self.out, "{name} {now}, was {before}")?;
            }
            Change::Refused { plugin, error, serves } => {
                let name = self.style.bold(&format!("plugin {plugin}"));
                let refused = self.style.bad("was refused");
                let serves = match serves {
                    Some(generation) => format!("; generation {generation} serves on"),
                    None => String::new(),
                };
                writeln!(self.out, "{name} {refused}: {error}{serves}")?;
            }
        }
        self.out.flush()
    }
}

/// A record's key and value, as they are shown.
fn key_and_value(key: Option<&[u8]>, value: Option<&[u8]>) -> (String, String) {
    let key = key.map_or_else(|| "no key".into(), |key| format!("key {}", preview(key, KEY)));
    (key, value.map_or_else(|| "(tombstone)".into(), |value| preview(value, VALUE)))
}

fn curl(url: &str) -> String {
    format!(
        r#"curl {url} -H 'content-type: application/json' -d '{{"value": {{"user": "ada", "text": "hello"}}}}'"#
    )
}

#[cfg(test)]
mod tests {
    use super::{super::watch::tests::delivery, *};
    use crate::admin::snapshot::example;

    fn written(write: impl FnOnce(&mut View<&mut Vec<u8>>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut View::new(&mut out, Style::plain())).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn seen(result: SeenResult, attempt: u32) -> Seen {
        let mut delivery = delivery(17);
        delivery.attempt = attempt;
        delivery.record.key = Some("ada".into());
        let generation = example::generation("print", 0x0a);
        Seen { group: "my-topic-group-1".into(), delivery, generation, result }
    }

    #[test]
    fn the_welcome_has_the_addresses_and_a_curl_to_try() {
        let welcome = Welcome {
            send: Some("http://127.0.0.1:8081/send-message".into()),
            status: "http://127.0.0.1:8082".into(),
            broker: "keyway-data".into(),
            plugins: "plugins".into(),
            handles: true,
        };
        let text = written(|view| view.welcome(&welcome));
        assert!(text.contains("  status page      http://127.0.0.1:8082\n"), "{text}");
        assert!(
            text.contains(
                "  curl http://127.0.0.1:8081/send-message -H 'content-type: application/json' \
                 -d '{\"value\": {\"user\": \"ada\", \"text\": \"hello\"}}'\n"
            ),
            "{text}"
        );
        assert!(text.contains("Every record that is handled shows up below."), "{text}");
        let text = written(|view| view.welcome(&Welcome { handles: false, ..welcome.clone() }));
        assert!(text.contains("No group is configured, so no record is handled"), "{text}");
    }

    #[test]
    fn a_handled_record_shows_where_it_was_who_handled_it_and_what_came_out() {
        let handled = |emitted, first| SeenResult::Handled { emitted, first };
        let nothing = "my-topic/0@17  key ada  v\n    handled  my-topic-group-1 member 1 with print@0a0a0a0a0a0a\n";
        let text = written(|view| view.record(&seen(handled(0, Vec::new()), 1), Some(1)));
        assert_eq!(text, nothing);
        let tombstone = NewRecord { value: None, ..NewRecord::new("audit", "") };
        let keyed = NewRecord { key: Some("ada".into()), ..NewRecord::new("out", "hello, v") };
        let first = vec![keyed, tombstone];
        let text = written(|view| view.record(&seen(handled(4, first), 1), Some(1)));
        let expected = "  my-topic-group-1 member 1 with print@0a0a0a0a0a0a
    to out  key ada  hello, v
    to audit  no key  (tombstone)
    and 2 more records\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_record_that_is_not_handled_says_why() {
        let text =
            written(|view| view.record(&seen(SeenResult::Failed("trap: x".into()), 2), None));
        assert!(text.contains("    failed: trap: x  my-topic-group-1 member - with"), "{text}");
        assert!(text.ends_with("print@0a0a0a0a0a0a, attempt 2\n"), "{text}");
    }

    #[test]
    fn what_cannot_be_built_here_is_one_line() {
        let missing = BuildError::Missing {
            folder: "plugins/geohash".into(),
            what: "`go`".into(),
            purpose: "compiles Go",
            install: "Install Go.".into(),
        };
        assert_eq!(
            written(|view| view.not_built(&missing)),
            "plugins/geohash is not built: `go` is not installed, which compiles Go. Install Go.\n"
        );
    }
}
