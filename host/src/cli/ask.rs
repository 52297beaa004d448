//! Questions to a running gateway, or to Kafka where no gateway runs.

use std::{
    io::{BufRead, BufReader, Write},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::mpsc;
use ureq::{Body, http::Response};

use super::{Error, settings::Settings};
use crate::{
    admin::snapshot::View,
    app,
    broker::{Broker, BrokerError},
    config::{self, Config},
};

/// How long a gateway may take for one answer; it gives up on its broker before that.
const TIME: Duration = Duration::from_secs(10);
/// How long it may take to do something: what is in flight may have to end first, a component may have to be compiled.
const DO_TIME: Duration = Duration::from_secs(45);
/// How long a broker that was only asked may take to close.
const CLOSE: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const MOST_BYTES: u64 = 64 << 20;

/// Whom to ask, and how to print what they say.
#[derive(Debug, Args)]
pub(super) struct Ask {
    /// The gateway's admin port [default: as configured, else http://127.0.0.1:8082]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Print JSON, in the shapes of the gateway's API
    #[arg(long)]
    pub(super) json: bool,
}

/// Takes what is told line by line while something is done.
pub(super) trait Lines<T> {
    /// One line, as it was told and what it says.
    fn line(&mut self, text: &str, line: T) -> Result<(), Error>;
}

/// What came back, in one of the shapes of [`crate::admin::snapshot`].
#[derive(Debug)]
pub(super) struct Answer {
    /// As it was given: its fields are in the order of their shape.
    text: String,
    json: bool,
}

impl Ask {
    /// Asks the gateway for `/api/v1/{path}`. Where none answers at the address that is configured and the broker is
    /// Kafka, asks it instead, with `without_gateway`.
    pub(super) fn ask<T: Serialize>(
        self,
        settings: &Settings,
        path: &str,
        without_gateway: impl AsyncFnOnce(&dyn Broker, &View) -> Result<T, BrokerError>,
    ) -> Result<Answer, Error> {
        if let Some(url) = &self.admin {
            return Ok(Answer { text: get(url, path)?, json: self.json });
        }
        let config = settings.load()?;
        let text = match get(&Settings::admin_url(&config), path) {
            Ok(text) => text,
            Err(failure @ Failure::Refused { .. }) => return Err(failure.into()),
            // Nobody there, or somebody else: a gateway that found its port taken took another.
            Err(failure) => match &config.broker {
                config::Broker::Kafka { .. } => ask_broker(config, async |broker, view| {
                    let answer = without_gateway(broker, view).await;
                    answer.map_err(|error| format!("Kafka: {error}"))
                })?,
                config::Broker::Embedded { .. } => return Err(failure.into()),
            },
        };
        Ok(Answer { text, json: self.json })
    }

    /// Has the gateway do what `POST /api/v1/{path}` does, and hands over each line that it tells. Where none answers at
    /// the address that is configured and the broker is Kafka, does it here, with `without_gateway`; the first Ctrl-C
    /// then ends that in its own time.
    pub(super) fn order<T: DeserializeOwned + Serialize + Send + 'static>(
        self,
        settings: &Settings,
        path: &str,
        lines: &mut impl Lines<T>,
        without_gateway: impl AsyncFnOnce(Arc<dyn Broker>, Arc<Config>, mpsc::Sender<T>),
    ) -> Result<(), Error> {
        if let Some(url) = &self.admin {
            return read_lines(post_at_length(url, path, None)?, lines);
        }
        let config = settings.load()?;
        match post_at_length(&Settings::admin_url(&config), path, None) {
            Ok(body) => read_lines(body, lines),
            Err(failure @ Failure::Refused { .. }) => Err(failure.into()),
            Err(failure) => match &config.broker {
                config::Broker::Kafka { .. } => order_broker(config, lines, without_gateway),
                config::Broker::Embedded { .. } => Err(failure.into()),
            },
        }
    }

    /// Has it done here, with `here`, where the broker is Kafka, or where no gateway has the embedded one open at the
    /// address that is configured; otherwise by the gateway. The first Ctrl-C ends that.
    pub(super) fn order_here<T: DeserializeOwned + Serialize + Send + 'static>(
        self,
        settings: &Settings,
        path: &str,
        body: &impl Serialize,
        lines: &mut impl Lines<T>,
        here: impl AsyncFnOnce(Arc<dyn Broker>, Arc<Config>, mpsc::Sender<T>),
    ) -> Result<(), Error> {
        let request =
            serde_json::to_value(body).map_err(|error| Error::Failed(error.to_string()))?;
        if let Some(url) = &self.admin {
            return read_lines(post_at_length(url, path, Some(&request))?, lines);
        }
        let config = settings.load()?;
        if matches!(config.broker, config::Broker::Kafka { .. }) {
            return order_broker(config, lines, here);
        }
        match post_at_length(&Settings::admin_url(&config), path, Some(&request)) {
            Ok(body) => read_lines(body, lines),
            Err(failure @ Failure::Refused { .. }) => Err(failure.into()),
            Err(_nobody) => order_broker(config, lines, here),
        }
    }

    /// Asks the gateway for what only a gateway knows.
    pub(super) fn ask_gateway(self, settings: &Settings, path: &str) -> Result<Answer, Error> {
        Ok(Answer { text: get(&self.url(settings)?, path)?, json: self.json })
    }

    /// Has the gateway do what only a gateway can.
    pub(super) fn post_gateway(
        self,
        settings: &Settings,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, Error> {
        Ok(Answer { text: post(&self.url(settings)?, path, body, DO_TIME)?, json: self.json })
    }

    /// Has the gateway do something. Where none answers at the address that is configured, does it on the broker itself,
    /// with `without_gateway`.
    pub(super) fn post<T: Serialize>(
        self,
        settings: &Settings,
        path: &str,
        body: &impl Serialize,
        without_gateway: impl AsyncFnOnce(&dyn Broker, &View) -> Result<T, String>,
    ) -> Result<Answer, Error> {
        let answer = post(&self.url(settings)?, path, body, DO_TIME);
        let text = match answer {
            Ok(text) => text,
            Err(failure @ Failure::Refused { .. }) => return Err(failure.into()),
            Err(failure) if self.admin.is_some() => return Err(failure.into()),
            Err(_nobody) => ask_broker(settings.load()?, without_gateway)?,
        };
        Ok(Answer { text, json: self.json })
    }

    fn url(&self, settings: &Settings) -> Result<String, Error> {
        match &self.admin {
            Some(url) => Ok(url.clone()),
            None => Ok(Settings::admin_url(&*settings.load()?)),
        }
    }
}

impl Answer {
    /// Prints the answer: as it is where JSON is wanted, else as `print` does.
    pub(super) fn print<T: DeserializeOwned>(
        self,
        out: &mut dyn Write,
        print: impl FnOnce(&mut dyn Write, &[T]) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        if self.json {
            return Ok(writeln!(out, "{}", self.text)?);
        }
        Ok(print(out, &self.read()?)?)
    }

    /// The answer as a list; one about one thing is a list of one.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        let list = match self.text.starts_with('[') {
            true => serde_json::from_str(&self.text),
            false => serde_json::from_str(&self.text).map(|one| vec![one]),
        };
        list.map_err(|error| {
            Error::Failed(format!(
                "the gateway's answer is not understood, it may be of another version; --json shows it: {error}"
            ))
        })
    }
}

/// The path of one thing in a list of them, or of the list.
pub(super) fn path(list: &str, name: Option<&str>) -> String {
    name.map_or_else(|| list.to_owned(), |name| format!("{list}/{}", escaped(name)))
}

/// A path with parameters behind it.
pub(super) fn query(path: &str, parameters: &[(&str, String)]) -> String {
    let pairs: Vec<_> =
        parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

fn escaped(text: &str) -> String {
    // What may stand in a path segment or a query as it is, by RFC 3986; the names of topics have nothing else.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A broker for a question, where no gateway runs. The one place of the command line that makes one.
async fn broker_without_gateway(config: &Config) -> Result<Arc<dyn Broker>, Error> {
    app::broker(config).await.map_err(|error| Error::Failed(error.to_string()))
}

fn ask_broker<T: Serialize>(
    config: Arc<Config>,
    question: impl AsyncFnOnce(&dyn Broker, &View) -> Result<T, String>,
) -> Result<String, Error> {
    super::run::runtime()?.block_on(async {
        let broker = broker_without_gateway(&config).await?;
        let answer = question(&*broker, &View::idle(config)).await;
        broker.close(CLOSE).await;
        let answer = answer.map_err(Error::Failed)?;
        serde_json::to_string(&answer).map_err(|error| Error::Failed(error.to_string()))
    })
}

fn order_broker<T: Serialize + Send + 'static>(
    config: Arc<Config>,
    lines: &mut impl Lines<T>,
    order: impl AsyncFnOnce(Arc<dyn Broker>, Arc<Config>, mpsc::Sender<T>),
) -> Result<(), Error> {
    super::run::runtime()?.block_on(async {
        let interrupted = super::signals::shutdown()?;
        let broker = broker_without_gateway(&config).await?;
        let (tell, told) = mpsc::channel(8);
        let hand_over = async {
            // Gone when this block ends: that asks for an end.
            let (mut told, mut interrupted) = (told, pin!(interrupted));
            loop {
                let line = tokio::select! {
                    line = told.recv() => line,
                    () = &mut interrupted => None,
                };
                let Some(line) = line else { return Ok(()) };
                let text = serde_json::to_string(&line);
                lines.line(&text.map_err(|error| Error::Failed(error.to_string()))?, line)?;
            }
        };
        let ((), handed_over) =
            tokio::join!(order(broker.clone(), config.clone(), tell), hand_over);
        broker.close(CLOSE).await;
        handed_over
    })
}

/// Hands over the lines of an answer as they come.
fn read_lines<T: DeserializeOwned>(body: Body, lines: &mut impl Lines<T>) -> Result<(), Error> {
    for text in BufReader::new(body.into_reader()).lines() {
        let text = text.map_err(|error| {
            Error::Failed(format!(
                "the gateway's answer ends early: {error}; run it again to go on"
            ))
        })?;
        let line = serde_json::from_str(&text).map_err(|error| {
            Error::Failed(format!(
                "the gateway's answer is not understood, it may be of another version: {error}"
            ))
        })?;
        lines.line(&text, line)?;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "no gateway answers at {url} ({cause}); start one with `keyway dev` or `keyway run`, or give the status \
         page's address, as it printed it, with --admin"
    )]
    NoGateway { url: String, cause: String },
    #[error("{url}: {detail}")]
    Refused { url: String, detail: String },
    #[error(
        "what answers at {url} is no Keyway ({cause}); give the status page's address, as the gateway printed it, \
         with --admin"
    )]
    NoKeyway { url: String, cause: String },
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

fn url(base: &str, path: &str) -> String {
    format!("{}/api/v1/{path}", base.trim_end_matches('/'))
}

fn get(base: &str, path: &str) -> Result<String, Failure> {
    text(base, answered(base, agent(TIME).get(url(base, path)).call())?)
}

fn post(base: &str, path: &str, body: &impl Serialize, time: Duration) -> Result<String, Failure> {
    text(base, answered(base, agent(time).post(url(base, path)).send_json(body))?)
}

fn agent(time: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(time))
        .build()
        .into()
}

fn answered(
    base: &str,
    answer: Result<Response<Body>, ureq::Error>,
) -> Result<Response<Body>, Failure> {
    answer.map_err(|error| Failure::NoGateway { url: base.to_owned(), cause: error.to_string() })
}

/// The body of an answer that takes as long as what it tells of.
fn post_at_length(base: &str, path: &str, body: Option<&Value>) -> Result<Body, Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(TIME))
        .timeout_recv_response(Some(TIME))
        .build()
        .into();
    let request = agent.post(url(base, path));
    let response = match body {
        Some(body) => request.send_json(body),
        None => request.send_empty(),
    };
    let response = answered(base, response)?;
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    let status = response.status();
    let cause = || format!("status {status}");
    text(base, response)
        .and_then(|_| Err(Failure::NoKeyway { url: base.to_owned(), cause: cause() }))
}

/// The text of an answer of JSON; one that tells of a problem is an error.
fn text(base: &str, mut response: Response<Body>) -> Result<String, Failure> {
    let status = response.status();
    let no_keyway = |cause| Failure::NoKeyway { url: base.to_owned(), cause };
    let text = response
        .body_mut()
        .with_config()
        .limit(MOST_BYTES)
        .read_to_string()
        .map_err(|error| no_keyway(format!("status {status}, {error}")))?;
    let body: Value = serde_json::from_str(&text)
        .map_err(|error| no_keyway(format!("status {status}, no JSON: {error}")))?;
    if status.is_success() {
        return Ok(text);
    }
    match body["detail"].as_str() {
        Some(detail) => Err(Failure::Refused { url: base.to_owned(), detail: detail.to_owned() }),
        None => Err(no_keyway(format!("status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{path, query};

    #[test]
    fn names_are_escaped_in_paths() {
        assert_eq!(path("topics", None), "topics");
        assert_eq!(path("topics", Some("my.topic-1")), "topics/my.topic-1");
        assert_eq!(path("groups", Some("a/b ?ä")), "groups/a%2Fb%20%3F%C3%A4");
        assert_eq!(query("dead-letters", &[]), "dead-letters");
        let asked = [("key", "a&b".to_owned()), ("limit", "3".to_owned())];
        assert_eq!(query("dead-letters", &asked), "dead-letters?key=a%26b&limit=3");
    }
}
