//! `wasmcloud:messaging/consumer`.

use wasmtime::component::{HasSelf, Linker};

use super::{
    super::super::{
        bindings::wasmcloud::messaging::{
            consumer,
            types::{self, BrokerMessageResult},
        },
        instance::State,
    },
    NO_REPLY,
};
use crate::record::NewRecord;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    consumer::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
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

    fn publish(&mut self, message: BrokerMessageResult) -> wasmtime::Result<Result<(), String>> {
        if message.reply_to.is_some() {
            return Ok(Err(NO_REPLY.into()));
        }
        let body = self.arena.keep(message.body);
        Ok(self.publish(NewRecord::new(message.subject, body))?.map_err(Into::into))
    }
}
