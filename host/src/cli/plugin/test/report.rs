//! What a test prints: each record with what came of it and what that took, and how it all ended.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use bytesize::ByteSize;
use serde::Serialize;

use super::{
    data::Data,
    ending::{Difference, Emitted, Ending, Word},
    expectation::Verdict,
};
use crate::{
    cli::text::{Style, count, preview, time},
    handler::Delivery,
    plugin::Call,
};

/// Characters of a key and of a value on a line.
const KEY: usize = 30;
const VALUE: usize = 100;
/// Emitted records that are shown of each.
const EMITTED: usize = 10;
/// Characters of a reason.
const REASON: usize = 300;

/// Prints, and keeps count.
pub(super) struct Report<W> {
    out: W,
    style: Style,
    json: bool,
    /// The file of what is expected.
    expectation: Option<String>,
    outcomes: BTreeMap<&'static str, u64>,
    times: Vec<Duration>,
    memory: u64,
    failed: u64,
    different: u64,
}

/// One record as JSON.
#[derive(Serialize)]
struct Line<'a> {
    record: String,
    attempt: u32,
    #[serde(flatten)]
    ending: &'a Ending,
    took_us: u64,
    /// How long it took to make the instance; `null`: it was there.
    start_us: Option<u64>,
    /// Of the instance, after the call.
    memory_bytes: Option<u64>,
    /// `null`: nothing is expected.
    as_expected: Option<bool>,
    differences: &'a [Difference],
}

/// How it ended, as JSON.
#[derive(Serialize)]
struct Summary<'a> {
    records: usize,
    outcomes: &'a BTreeMap<&'static str, u64>,
    median_us: Option<u64>,
    most_us: Option<u64>,
    memory_bytes: u64,
    different: u64,
}

impl<W: Write> Report<W> {
    pub(super) fn new(out: W, style: Style, json: bool, expectation: Option<String>) -> Self {
        let (outcomes, times) = (BTreeMap::new(), Vec::new());
        Self { out, style, json, expectation, outcomes, times, memory: 0, failed: 0, different: 0 }
    }

    /// What is tested, with what.
    pub(super) fn begin(&mut self, what: &str, with: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(self.out, "{}; {with}\n", self.style.bold(what))
    }

    /// A record, and what came of it.
    pub(super) fn record(
        &mut self,
        delivery: &Delivery,
        call: &Call<Ending>,
        verdict: Option<&Verdict>,
    ) -> io::Result<()> {
        *self.outcomes.entry(call.outcome.outcome.as_str()).or_default() += 1;
        self.times.push(call.took);
        self.memory = self.memory.max(call.memory.unwrap_or(0));
        self.failed += u64::from(call.outcome.outcome == Word::Failed);
        self.different += u64::from(verdict.is_some_and(|verdict| *verdict != Verdict::Met));
        if self.json {
            return self.json_line(delivery, call, verdict);
        }
        let record = &delivery.record;
        let at = self.style.bold(&record.place().to_string());
        let (key, value) = (key(record.key.as_deref()), value(record.value.as_deref()));
        writeln!(self.out, "{at}  {key}  {value}")?;
        writeln!(
            self.out,
            "    {}  {}",
            self.ending(&call.outcome),
            self.style.dim(&taken(delivery, call))
        )?;
        let emitted = call.outcome.emitted.as_deref().unwrap_or_default();
        for emitted in emitted.iter().take(EMITTED) {
            writeln!(self.out, "    {}", line(emitted))?;
        }
        if let Some(more) = emitted.len().checked_sub(EMITTED + 1) {
            let more = format!("and {}", count(more as u64 + 1, "more record"));
            writeln!(self.out, "    {}", self.style.dim(&more))?;
        }
        self.verdict(verdict)
    }

    /// How it all ended; an error says how many records did not end as they should.
    pub(super) fn end(&mut self, beyond: Option<(usize, usize)>) -> io::Result<Result<(), String>> {
        let records = self.times.len();
        self.times.sort_unstable();
        let median = self.times.get(records.saturating_sub(1) / 2).copied();
        let most = self.times.last().copied();
        if self.json {
            let micros = |time: Option<Duration>| time.map(micros);
            let summary = Summary {
                records,
                outcomes: &self.outcomes,
                median_us: micros(median),
                most_us: micros(most),
                memory_bytes: self.memory,
                different: self.different,
            };
            writeln!(self.out, "{}", json(&summary))?;
        } else {
            let outcomes: Vec<_> =
                self.outcomes.iter().map(|(word, count)| format!("{count} {word}")).collect();
            let took = match (median, most) {
                (Some(median), Some(most)) => {
                    format!(
                        ": {}; {} in the median, {} at most, {} of memory",
                        outcomes.join(", "),
                        time(median),
                        time(most),
                        ByteSize(self.memory)
                    )
                }
                _ => String::new(),
            };
            writeln!(self.out, "\n{}{took}", count(records as u64, "record"))?;
        }
        Ok(self.judge(beyond))
    }

    fn judge(&self, beyond: Option<(usize, usize)>) -> Result<(), String> {
        let records = self.times.len() as u64;
        let Some(file) = &self.expectation else {
            return match self.failed {
                0 => Ok(()),
                failed => Err(format!("{failed} of {} failed", count(records, "record"))),
            };
        };
        let accept = "--update makes what they do now the expectation";
        match (self.different, beyond) {
            (0, None) => Ok(()),
            (0, Some((line, more))) => Err(format!(
                "{file}:{line}: there is no record for {} from here on; {accept}",
                count(more as u64, "line")
            )),
            (different, _) => Err(format!(
                "{different} of {} not as {file} says; {accept}",
                count(records, "record")
            )),
        }
    }

    fn json_line(
        &mut self,
        delivery: &Delivery,
        call: &Call<Ending>,
        verdict: Option<&Verdict>,
    ) -> io::Result<()> {
        let line = Line {
            record: delivery.record.place().to_string(),
            attempt: delivery.attempt,
            ending: &call.outcome,
            took_us: micros(call.took),
            start_us: call.start.map(micros),
            memory_bytes: call.memory,
            as_expected: verdict.map(|verdict| *verdict == Verdict::Met),
            differences: match verdict {
                Some(Verdict::Differs(_, differences)) => differences,
                _ => &[],
            },
        };
        writeln!(self.out, "{}", json(&line))
    }

    fn ending(&self, ending: &Ending) -> String {
        let word = ending.outcome.as_str();
        let emitted = ending.emitted.as_ref().map_or(0, Vec::len) as u64;
        let text = match ending.outcome {
            Word::Handled if emitted == 0 => self.style.good(word),
            Word::Handled => self.style.good(&format!("{word}, {} out", count(emitted, "record"))),
            Word::Key => {
                let key = ending.key.as_ref().map(|Data(key)| preview(key, VALUE));
                self.style.good(&format!(
                    "key {}, partition {}",
                    key.unwrap_or_default(),
                    ending.partition.unwrap_or(0)
                ))
            }
            Word::Partition => {
                self.style.good(&format!("partition {}", ending.partition.unwrap_or(0)))
            }
            Word::Spread => self.style.good("no key, spread over the partitions"),
            Word::Retry => self.style.warning(word),
            Word::Rejected | Word::Refused | Word::Failed => self.style.bad(word),
        };
        let after = match ending.after.flatten() {
            Some(after) => format!(" (again after {after} ms)"),
            None => String::new(),
        };
        match &ending.reason {
            Some(reason) => format!("{text}: {}{after}", preview(reason.as_bytes(), REASON)),
            None => text,
        }
    }

    fn verdict(&mut self, verdict: Option<&Verdict>) -> io::Result<()> {
        let file = self.expectation.as_deref().unwrap_or_default();
        match verdict {
            None | Some(Verdict::Met) => Ok(()),
            Some(Verdict::NothingExpected) => {
                let text = format!("{file} has no line for it");
                writeln!(self.out, "    {}", self.style.bad(&text))
            }
            Some(Verdict::Differs(number, differences)) => {
                for Difference { what, expected, got } in differences {
                    let text = format!("{what} is not as {file}:{number} says");
                    writeln!(self.out, "    {}", self.style.bad(&text))?;
                    for (sign, text) in [("-", expected), ("+", got)] {
                        let text = format!("{sign} {}", preview(text.as_bytes(), text.len()));
                        let text = if sign == "-" {
                            self.style.bad(&text)
                        } else {
                            self.style.good(&text)
                        };
                        writeln!(self.out, "      {text}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// What the call took.
fn taken(delivery: &Delivery, call: &Call<Ending>) -> String {
    let mut parts = Vec::new();
    if delivery.attempt != 1 {
        parts.push(format!("attempt {}", delivery.attempt));
    }
    parts.push(time(call.took));
    parts.extend(call.memory.map(|memory| ByteSize(memory).to_string()));
    parts.extend(call.start.map(|start| format!("fresh instance {}", time(start))));
    parts.join(", ")
}

/// An emitted record.
fn line(emitted: &Emitted) -> String {
    let data = |data: &Option<Option<Data>>| data.clone().flatten().map(|Data(bytes)| bytes);
    let partition = emitted.partition.flatten().map(|partition| format!("/{partition}"));
    let mut text = format!(
        "to {}{}  {}  {}",
        emitted.topic.as_deref().unwrap_or_default(),
        partition.unwrap_or_default(),
        key(data(&emitted.key).as_deref()),
        value(data(&emitted.value).as_deref())
    );
    for header in emitted.headers.iter().flatten() {
        let bytes = header.value.as_ref().map(|Data(bytes)| &**bytes);
        let name = preview(header.key.as_bytes(), KEY);
        text +=
            &format!("; {name} = {}", bytes.map_or("-".to_owned(), |bytes| preview(bytes, KEY)));
    }
    if let Some(timestamp) = emitted.timestamp.flatten() {
        text += &format!("; at {timestamp}");
    }
    text
}

fn key(key: Option<&[u8]>) -> String {
    key.map_or_else(|| "no key".into(), |key| format!("key {}", preview(key, KEY)))
}

fn value(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "(tombstone)".into(), |value| preview(value, VALUE))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn json(shown: &impl Serialize) -> String {
    serde_json::to_string(shown).expect("it has no key but texts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        handler::{Failure, Outcome},
        record::{NewRecord, Record},
    };

    fn delivery() -> Delivery {
        let record = Record {
            topic: "t".into(),
            partition: 0,
            offset: 7,
            timestamp: None,
            key: Some("ada".into()),
            value: Some("hello".into()),
            headers: Vec::new(),
        };
        Delivery { record, attempt: 1 }
    }

    fn call(outcome: Outcome) -> Call<Ending> {
        let outcome = Ending::of_outcome(outcome);
        let start = Some(Duration::from_micros(1250));
        Call { outcome, took: Duration::from_micros(41), start, memory: Some(1 << 20) }
    }

    fn printed(json: bool, expectation: Option<&str>) -> (String, Result<(), String>) {
        let mut report =
            Report::new(Vec::new(), Style::plain(), json, expectation.map(str::to_owned));
        report.begin("p@0a0a0a0a0a0a: handler", "2 records of records.jsonl").unwrap();
        let got = call(Outcome::Handled(vec![NewRecord::new("out", "HELLO")]));
        let difference = Difference {
            what: "value of emitted record 1".into(),
            expected: "1".into(),
            got: "2".into(),
        };
        let verdict = expectation.map(|_| Verdict::Differs(3, vec![difference]));
        report.record(&delivery(), &got, verdict.as_ref()).unwrap();
        let trap = call(Outcome::Failed(Failure::Trap("unreachable\n".into())));
        let verdict = expectation.map(|_| Verdict::Met);
        report.record(&delivery(), &trap, verdict.as_ref()).unwrap();
        let ended = report.end(None).unwrap();
        (String::from_utf8(report.out).unwrap(), ended)
    }

    #[test]
    fn each_record_is_shown_with_what_came_of_it_and_what_is_otherwise_than_expected() {
        let (text, ended) = printed(false, Some("e.jsonl"));
        assert_eq!(
            text,
            "\
p@0a0a0a0a0a0a: handler; 2 records of records.jsonl

t/0@7  key ada  hello
    handled, 1 record out  41 µs, 1.0 MiB, fresh instance 1.2 ms
    to out  no key  HELLO
    value of emitted record 1 is not as e.jsonl:3 says
      - 1
      + 2
t/0@7  key ada  hello
    failed: trap: unreachable\\n  41 µs, 1.0 MiB, fresh instance 1.2 ms

2 records: 1 failed, 1 handled; 41 µs in the median, 41 µs at most, 1.0 MiB of memory
"
        );
        assert!(ended.unwrap_err().starts_with("1 of 2 records not as e.jsonl says; --update"));
    }

    #[test]
    fn without_an_expectation_a_failure_is_what_is_wrong() {
        assert_eq!(printed(false, None).1, Err("1 of 2 records failed".to_owned()));
    }

    #[test]
    fn as_json_each_record_is_a_line_and_so_is_the_end() {
        let (text, _) = printed(true, Some("e.jsonl"));
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[0],
            serde_json::json!({
                "record": "t/0@7", "attempt": 1, "outcome": "handled",
                "emitted": [{
                    "topic": "out", "partition": null, "timestamp": null, "key": null, "value": "HELLO", "headers": [],
                }],
                "took_us": 41, "start_us": 1250, "memory_bytes": 1 << 20, "as_expected": false,
                "differences": [{"what": "value of emitted record 1", "expected": "1", "got": "2"}],
            })
        );
        assert_eq!(lines[1]["failure"], "trap");
        assert_eq!((&lines[2]["records"], &lines[2]["different"]), (&2.into(), &1.into()));
    }
}
