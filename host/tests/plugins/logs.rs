//! What a plugin says, on the gateway's log.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use keyway::config::Isolation;

use crate::fixture::{Fixture, configured, handle, using};

/// Everything that was logged, by all tests of this process.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(crate) fn capture() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Log::default();
            let writer = log.clone();
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
            log
        })
    }

    /// The lines that name `owner`.
    pub(crate) fn of(&self, owner: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .filter(|line| line.contains(&format!("owner={owner:?}")))
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test]
async fn print_logs_the_record_with_its_prefix_under_its_name_and_owner() {
    let log = Log::capture();
    let fixture = Fixture::new().with(&["print"]);
    let plugin = configured("print", "prefix", "seen");
    let host = &fixture.host;
    let handler = host.handler("group print", &plugin, None, Isolation::None, 1).await.unwrap();
    handle(&handler, "hello\nERROR forged").await;
    let [line] = &log.of("group print")[..] else { panic!("not one line") };
    assert!(line.contains(" INFO plugin: "), "{line}");
    assert!(line.contains(r"seen my-topic/0@0 key=k value=hello\nERROR forged"), "{line}");
    assert!(line.contains("plugin=print"), "{line}");
}

#[tokio::test]
async fn standard_error_is_on_the_log_line_by_line() {
    let log = Log::capture();
    let fixture = Fixture::new().with(&["flaky"]);
    let host = &fixture.host;
    let handler =
        host.handler("group panics", &using("flaky"), None, Isolation::None, 1).await.unwrap();
    handle(&handler, r#"{"do": "trap", "reason": "boom"}"#).await;
    let lines = log.of("group panics");
    assert!(lines.iter().any(|line| line.contains("panicked at")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains(" WARN ") && line.contains(" boom")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_line_is_cut_at_its_bound() {
    let log = Log::capture();
    let fixture = Fixture::new().with(&["print"]);
    let host = &fixture.host;
    let handler =
        host.handler("group long", &using("print"), None, Isolation::None, 1).await.unwrap();
    handle(&handler, &"x".repeat(1 << 20)).await;
    let [line] = &log.of("group long")[..] else { panic!("not one line") };
    assert!(line.len() < 10_000 && line.contains("more bytes)"), "{} bytes", line.len());
}
