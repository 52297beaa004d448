//! `wasmcloud:messaging/consumer`: what a handler of wasmCloud's interface publishes, held to its limits and its
//! allow-list as it comes.
//!
//! Invariant: what is published takes effect with the record that is handled, or not at all.

use wasmtime::component::{HasSelf, Linker};

use super::super::{
    bindings::wasmcloud::messaging::{
        consumer,
        types::{self, BrokerMessageResult},
    },
    instance::State,
    output,
};
use crate::{config::Limits, handler::Failure, record::NewRecord};

const NO_REPLY: &str =
    "Keyway has no request and reply; a handler publishes, and another group may handle the answer";
const NO_RECORD: &str = "a record is published while one is handled, and at no other time";

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    consumer::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
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

impl types::Host for State {}

impl consumer::Host for State {
    fn request(
        &mut self,
        _subject: String,
        _body: Vec<u8>,
        _timeout_ms: u32,
    ) -> Result<BrokerMessageResult, String> {
        Err(NO_REPLY.into())
    }

    /// A record that may not be emitted ends the call, so that no handler can take it for written.
    fn publish(&mut self, message: BrokerMessageResult) -> wasmtime::Result<Result<(), String>> {
        let Some(published) = &mut self.published else { return Ok(Err(NO_RECORD.into())) };
        if message.reply_to.is_some() {
            return Ok(Err(NO_REPLY.into()));
        }
        let settings = &self.settings;
        let topic =
            output::topic(Some(&message.subject), &settings.allow, settings.output_topic.as_ref())?;
        let record = NewRecord::new(topic, self.arena.keep(message.body));
        published.add(record, &settings.limits)?;
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
