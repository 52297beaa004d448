//! `keyway send`

use std::{
    io::{self, BufRead, IsTerminal, Read, Write},
    time::Duration,
};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, settings::Settings, text::preview};

/// How long the gateway may take to acknowledge one record; it gives up on its broker before that.
const TIME: Duration = Duration::from_secs(60);
/// Bytes of a record that is read from standard input.
const MOST_BYTES: u64 = 16 << 20;
/// Characters of a key on the screen.
const KEY: usize = 40;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyway send '{\"user\": \"ada\", \"text\": \"hello\"}'
  keyway send --topic my-topic --key ada hello
  seq 10 | keyway send")]
pub(super) struct Send {
    /// The record's value, as text; without it every line of standard input becomes a record
    #[arg(conflicts_with = "tombstone", allow_hyphen_values = true)]
    value: Option<String>,
    /// The topic [default: the gateway's default-topic]
    #[arg(short, long)]
    topic: Option<String>,
    /// The key
    #[arg(short, long, allow_hyphen_values = true)]
    key: Option<String>,
    /// The partition; without it the topic's key selector decides, else the key, else records are spread
    #[arg(short, long)]
    partition: Option<u32>,
    /// A header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<Header>,
    /// Send a record without a value: a tombstone
    #[arg(long)]
    tombstone: bool,
    /// The gateway's data port [default: as configured, else http://127.0.0.1:8081]
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// Print the gateway's answers as they are, one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Header {
    key: String,
    value: String,
}

/// The body of a request to `/send-message`.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    headers: &'a [Header],
}

/// What the gateway answers.
#[derive(Deserialize)]
struct Sent {
    topic: String,
    partition: u32,
    offset: u64,
    key: Option<Value>,
    selected_by: String,
}

impl Send {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let base = match &self.http {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => Settings::http_url(&*settings.load()?),
        };
        let gateway = Gateway::new(base);
        if self.value.is_some() || self.tombstone {
            return self.send(&gateway, self.value.as_deref());
        }
        let stdin = io::stdin().lock();
        if stdin.is_terminal() {
            tracing::warn!("Every line from here on is a record; Ctrl-D ends.");
        }
        self.send_lines(&gateway, stdin)
    }

    fn send_lines(&self, gateway: &Gateway, mut lines: impl BufRead) -> Result<(), Error> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let bytes = (&mut lines)
                .take(MOST_BYTES + 1)
                .read_until(b'\n', &mut line)
                .map_err(|error| Error::Failed(format!("cannot read standard input: {error}")))?;
            if bytes == 0 {
                break;
            }
            if bytes as u64 > MOST_BYTES {
                return Err(Error::Failed(format!(
                    "line {number} is longer than {MOST_BYTES} bytes"
                )));
            }
            let text = std::str::from_utf8(&line).map_err(|error| {
                Error::Failed(format!(
                    "line {number} is not UTF-8 ({error}); bytes of any kind can be posted as \
                     application/octet-stream"
                ))
            })?;
            let text = text.strip_suffix('\n').unwrap_or(text);
            self.send(gateway, Some(text.strip_suffix('\r').unwrap_or(text)))?;
        }
        Ok(())
    }

    fn send(&self, gateway: &Gateway, value: Option<&str>) -> Result<(), Error> {
        let message = Message {
            topic: self.topic.as_deref(),
            key: self.key.as_deref(),
            value,
            partition: self.partition,
            headers: &self.headers,
        };
        let answer = gateway.post(&message)?;
        let out = &mut io::stdout().lock();
        if self.json {
            return Ok(writeln!(out, "{answer}")?);
        }
        let sent: Sent = serde_json::from_str(&answer)
            .map_err(|error| Error::Failed(format!("{} is no Keyway: {error}", gateway.url)))?;
        Ok(writeln!(out, "{}", describe(&sent))?)
    }
}

fn describe(sent: &Sent) -> String {
    let key = match &sent.key {
        Some(Value::String(key)) => format!("key {}", preview(key.as_bytes(), KEY)),
        Some(_) => "a key that is not text".into(),
        None => "no key".into(),
    };
    let chosen = match sent.selected_by.as_str() {
        "none" => "spread over the partitions",
        "caller" => "chosen by the caller",
        selector => &format!("chosen by {selector}"),
    };
    let Sent { topic, partition, offset, .. } = sent;
    format!("{topic}, partition {partition}, offset {offset} ({key}, {chosen})")
}

fn header(text: &str) -> Result<Header, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok(Header { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err("a header is NAME=VALUE".into()),
    }
}

struct Gateway {
    url: String,
    agent: ureq::Agent,
}

impl Gateway {
    fn new(base: String) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIME))
            .build();
        Self { url: format!("{base}/send-message"), agent: config.into() }
    }

    /// The text of the gateway's answer, on one line.
    fn post(&self, message: &Message<'_>) -> Result<String, Error> {
        let failed = |cause: String| Error::Failed(format!("{}: {cause}", self.url));
        let mut response = self.agent.post(&self.url).send_json(message).map_err(|error| {
            failed(format!("{error}; start a gateway with `keyway dev` or `keyway run`"))
        })?;
        let status = response.status();
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|error| failed(format!("status {status}, {error}")))?;
        if status.is_success() {
            return Ok(text.trim_end().to_owned());
        }
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("no detail was given");
        Err(failed(format!("status {status}, {detail}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_given_is_not_sent_and_a_tombstone_is_null() {
        let message =
            Message { topic: None, key: None, value: None, partition: None, headers: &[] };
        assert_eq!(serde_json::to_value(message).ok(), Some(json!({"value": null})));
    }

    #[test]
    fn a_header_is_split_at_its_first_equals_sign() {
        let expected = Header { key: "a".into(), value: "b=c".into() };
        assert_eq!(header("a=b=c"), Ok(expected));
        assert!(header("a").is_err());
        assert!(header("=b").is_err());
    }

    #[test]
    fn where_a_record_went_is_one_line() {
        let sent = |key: Option<&str>, selected_by: &str| {
            describe(&Sent {
                topic: "my-topic".into(),
                partition: 2,
                offset: 17,
                key: key.map(Into::into),
                selected_by: selected_by.into(),
            })
        };
        assert_eq!(
            sent(Some("ada"), "json-key@0b0b0b0b0b0b"),
            "my-topic, partition 2, offset 17 (key ada, chosen by json-key@0b0b0b0b0b0b)"
        );
        assert_eq!(
            sent(None, "none"),
            "my-topic, partition 2, offset 17 (no key, spread over the partitions)"
        );
    }
}
