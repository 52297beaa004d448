//! What handlers that were built for other hosts publish, held to its limits and its allow-list as it comes. Each of the
//! interfaces has a file of its own.
//!
//! Invariant: what is published takes effect with the record that is handled, or not at all.

pub(in super::super) mod wasi;
mod wasmcloud;

use wasmtime::component::Linker;

use super::super::{instance::State, output};
use crate::{config::Limits, handler::Failure, record::NewRecord};

const NO_REPLY: &str =
    "Keyway has no request and reply; a handler publishes, and another group may handle the answer";
const NO_RECORD: &str = "a record is published while one is handled, and at no other time";

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::link(linker)?;
    wasmcloud::link(linker)
}

/// Records that the call under way has published so far.
#[derive(Debug, Default)]
pub(in super::super) struct Published {
    records: Vec<NewRecord>,
    bytes: u64,
}

impl Published {
    /// The records, in order.
    pub(in super::super) fn into_records(self) -> Vec<NewRecord> {
        self.records
    }

    fn add(&mut self, record: NewRecord, limits: &Limits) -> Result<(), Failure> {
        let given = self.records.len() as u64 + 1;
        if given > limits.emit {
            return Err(Failure::Emit { unit: "records", given, limit: limits.emit });
        }
        self.bytes += record.size() as u64;
        if self.bytes > limits.emit_bytes {
            let (given, limit) = (self.bytes, limits.emit_bytes);
            return Err(Failure::Emit { unit: "bytes", given, limit });
        }
        self.records.push(record);
        Ok(())
    }
}

impl State {
    /// Publishes `record` to the topic that it names. One that may not be emitted ends the call, so that no handler can
    /// take it for written: the outer error. The inner one is for the guest.
    fn publish(&mut self, record: NewRecord) -> Result<Result<(), &'static str>, Failure> {
        let Some(published) = &mut self.published else { return Ok(Err(NO_RECORD)) };
        let settings = &self.settings;
        let topic =
            output::topic(Some(&record.topic), &settings.allow, settings.output_topic.as_ref())?;
        published.add(NewRecord { topic, ..record }, &settings.limits)?;
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_bounded_as_it_comes() {
        let limits = Limits { emit: 3, emit_bytes: 100, ..Limits::default() };
        let mut published = Published::default();
        let mut add = |bytes: usize| published.add(NewRecord::new("t", vec![0; bytes]), &limits);
        assert_eq!(add(50), Ok(()));
        assert_eq!(add(51), Err(Failure::Emit { unit: "bytes", given: 101, limit: 100 }));
        let mut published = Published::default();
        let mut add = |bytes: usize| published.add(NewRecord::new("t", vec![0; bytes]), &limits);
        assert_eq!([add(1), add(0), add(99)], [Ok(()), Ok(()), Ok(())]);
        assert_eq!(add(0), Err(Failure::Emit { unit: "records", given: 4, limit: 3 }));
        assert_eq!(published.into_records().len(), 3);
    }
}
