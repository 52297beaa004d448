//! `wasi:messaging`: messages, which a guest makes and gets by handle, and its `producer`.
//!
//! Invariant: what a guest holds in messages counts against the memory that it may have, since it can hold thousands.

use bytes::Bytes;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::{
    super::super::{
        bindings::wasi_messaging::wasi::messaging::{
            producer,
            request_reply::{self, HostRequestOptions, RequestOptions},
            types::{self, Client, Error, HostClient, HostMessage},
        },
        instance::State,
    },
    NO_REPLY,
};
use crate::record::{Header, NewRecord, Record};

/// The header that this interface has functions of its own for.
const CONTENT_TYPE: &str = "content-type";

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    producer::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    request_reply::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

/// A message that a guest holds.
#[derive(Debug, Default)]
#[allow(unreachable_pub, reason = "the generated code exports it again")]
pub struct Message {
    topic: Option<String>,
    content_type: Option<String>,
    data: Bytes,
    metadata: Vec<(String, String)>,
}

impl Message {
    /// What of a record goes through this interface.
    fn of(record: &Record) -> Self {
        let text = |header: &Header| {
            let value = std::str::from_utf8(header.value.as_deref()?).ok()?;
            Some((header.key.to_string(), value.to_owned()))
        };
        let mut metadata: Vec<_> = record.headers.iter().filter_map(text).collect();
        let content_type = metadata.iter().position(|(key, _)| key == CONTENT_TYPE);
        Self {
            topic: Some(record.topic.to_string()),
            content_type: content_type.map(|index| metadata.remove(index).1),
            data: record.value.clone().unwrap_or_default(),
            metadata,
        }
    }

    fn into_record(self, topic: String) -> NewRecord {
        let content_type = self.content_type.map(|value| (CONTENT_TYPE.to_owned(), value));
        let headers = content_type
            .into_iter()
            .chain(self.metadata)
            .map(|(key, value)| Header { key, value: Some(value.into()) })
            .collect();
        NewRecord { headers, ..NewRecord::new(topic, self.data) }
    }

    /// Bytes that it takes.
    fn size(&self) -> u64 {
        let texts = self.topic.iter().chain(&self.content_type).map(String::len).sum::<usize>();
        let pair = |(key, value): &(String, String)| {
            key.len() + value.len() + size_of::<(String, String)>()
        };
        let metadata = self.metadata.iter().map(pair).sum::<usize>();
        (size_of::<Self>() + texts + self.data.len() + metadata) as u64
    }
}

/// An error of this interface in words.
pub(in super::super::super) fn words(error: Error) -> String {
    match error {
        Error::Timeout => "timeout".into(),
        Error::Connection(reason) => format!("connection: {reason}"),
        Error::PermissionDenied(reason) => format!("permission denied: {reason}"),
        Error::Other(reason) => reason,
    }
}

impl State {
    /// `record` as a message for the guest.
    pub(in super::super::super) fn message(
        &mut self,
        record: &Record,
    ) -> wasmtime::Result<Resource<Message>> {
        self.hold(Message::of(record))
    }

    fn hold(&mut self, message: Message) -> wasmtime::Result<Resource<Message>> {
        self.limiter.take(message.size())?;
        Ok(self.table.push(message)?)
    }

    fn release(&mut self, message: Resource<Message>) -> wasmtime::Result<Message> {
        let message = self.table.delete(message)?;
        self.limiter.give_back(message.size());
        Ok(message)
    }

    fn change(
        &mut self,
        message: &Resource<Message>,
        change: impl FnOnce(&mut Message),
    ) -> wasmtime::Result<()> {
        let message = self.table.get_mut(message)?;
        let before = message.size();
        change(message);
        self.limiter.give_back(before);
        Ok(self.limiter.take(message.size())?)
    }
}

impl types::Host for State {}

impl HostClient for State {
    fn connect(&mut self, _name: String) -> wasmtime::Result<Result<Resource<Client>, Error>> {
        Ok(Ok(Resource::new_own(0))) // there is nothing behind it: any client is as good
    }

    fn disconnect(&mut self, _client: Resource<Client>) -> wasmtime::Result<Result<(), Error>> {
        Ok(Ok(()))
    }

    fn drop(&mut self, _client: Resource<Client>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl HostMessage for State {
    fn new(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<Message>> {
        self.hold(Message { data: data.into(), ..Message::default() })
    }

    fn topic(&mut self, message: Resource<Message>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&message)?.topic.clone())
    }

    fn content_type(&mut self, message: Resource<Message>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&message)?.content_type.clone())
    }

    fn set_content_type(
        &mut self,
        message: Resource<Message>,
        content_type: String,
    ) -> wasmtime::Result<()> {
        self.change(&message, |message| message.content_type = Some(content_type))
    }

    fn data(&mut self, message: Resource<Message>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&message)?.data.to_vec())
    }

    fn set_data(&mut self, message: Resource<Message>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.change(&message, |message| message.data = data.into())
    }

    fn metadata(
        &mut self,
        message: Resource<Message>,
    ) -> wasmtime::Result<Option<Vec<(String, String)>>> {
        let metadata = &self.table.get(&message)?.metadata;
        Ok((!metadata.is_empty()).then(|| metadata.clone()))
    }

    fn add_metadata(
        &mut self,
        message: Resource<Message>,
        key: String,
        value: String,
    ) -> wasmtime::Result<()> {
        self.change(&message, |message| {
            message.metadata.retain(|(given, _)| *given != key);
            message.metadata.push((key, value));
        })
    }

    fn set_metadata(
        &mut self,
        message: Resource<Message>,
        metadata: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.change(&message, |message| message.metadata = metadata)
    }

    fn remove_metadata(&mut self, message: Resource<Message>, key: String) -> wasmtime::Result<()> {
        self.change(&message, |message| message.metadata.retain(|(given, _)| *given != key))
    }

    fn drop(&mut self, message: Resource<Message>) -> wasmtime::Result<()> {
        self.release(message).map(drop)
    }
}

impl producer::Host for State {
    fn send(
        &mut self,
        _client: Resource<Client>,
        topic: String,
        message: Resource<Message>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let record = self.release(message)?.into_record(topic);
        Ok(self.publish(record)?.map_err(|reason| Error::Other(reason.into())))
    }
}

impl request_reply::Host for State {
    fn request(
        &mut self,
        _client: Resource<Client>,
        _topic: String,
        _message: Resource<Message>,
        _options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Result<Vec<Resource<Message>>, Error>> {
        Ok(Err(Error::Other(NO_REPLY.into())))
    }

    fn reply(
        &mut self,
        _reply_to: Resource<Message>,
        message: Resource<Message>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.release(message)?;
        Ok(Err(Error::Other(NO_REPLY.into())))
    }
}

impl HostRequestOptions for State {
    fn new(&mut self) -> wasmtime::Result<Resource<RequestOptions>> {
        Ok(Resource::new_own(0))
    }

    fn set_timeout_ms(
        &mut self,
        _options: Resource<RequestOptions>,
        _timeout_ms: u32,
    ) -> wasmtime::Result<()> {
        Ok(())
    }

    fn set_expected_replies(
        &mut self,
        _options: Resource<RequestOptions>,
        _expected_replies: u32,
    ) -> wasmtime::Result<()> {
        Ok(())
    }

    fn drop(&mut self, _options: Resource<RequestOptions>) -> wasmtime::Result<()> {
        Ok(())
    }
}
