//! The Java programs beside this, run with Parallel Consumer's classes.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use tempfile::NamedTempFile;

/// A running program. It ends when its standard input does.
pub(crate) struct Java {
    process: Child,
    errors: NamedTempFile,
    said: Arc<Mutex<Vec<String>>>,
    listening: JoinHandle<()>,
}

impl Java {
    /// Starts a program with the class path that it needs. Its input is `input`, or else is open until [`Java::end`].
    pub(crate) fn start(
        classes: &str,
        program: &str,
        arguments: &[&str],
        input: Option<File>,
    ) -> Self {
        let errors = NamedTempFile::new().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(program);
        let mut process = Command::new("java")
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]) // what starts fastest
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classes])
            .arg(source)
            .args(arguments)
            .stdin(input.map_or_else(Stdio::piped, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(errors.reopen().unwrap())
            .spawn()
            .expect("there is a java, or the test would have skipped");
        let said = Arc::default();
        let listening = listen(process.stdout.take().unwrap(), &said);
        Self { process, errors, said, listening }
    }

    /// The lines that it has printed so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Ends its input, and waits until it has ended itself; gives all lines that it printed.
    pub(crate) fn end(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.complaints());
        self.listening.join().unwrap();
        Arc::try_unwrap(self.said).unwrap().into_inner().unwrap()
    }

    /// What it complained about so far.
    pub(crate) fn complaints(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.errors.path()).unwrap()).into_owned()
    }
}

fn listen(output: impl Read + Send + 'static, said: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let said = said.clone();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            said.lock().unwrap().push(line);
        }
    })
}
