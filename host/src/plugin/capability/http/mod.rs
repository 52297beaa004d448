//! `wasi:http/outgoing-handler`: requests of a guest, to where `allow.http` of its use lets them go.
//!
//! `policy` decides, and knows no socket; `client` sends, on a thread that runs no guest; `wasmtime-wasi-http` is what the
//! guest talks to. A guest that waits for an answer holds no thread.
//!
//! Invariant: a request ends with the call that made it, whatever the guest has kept of it.

mod client;
mod policy;

use std::{collections::BTreeSet, sync::Arc};

use tokio::runtime;
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use self::{
    client::Client,
    policy::{Policy, Refusal},
};
use super::super::instance::{Settings, State};
use crate::config::HttpTarget;

/// Bytes of the headers of one request, as they are kept.
const HEADERS: usize = 16 << 10;
/// Bytes that a guest may write of a body before some of it is sent.
const CHUNK: usize = 32 << 10;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

/// The outgoing HTTP of one use of a plugin; a shadow has none.
pub(in super::super) struct Outgoing(Option<Client>);

impl Outgoing {
    /// For a use that allows `targets`, over sockets of `network`.
    pub(in super::super) fn new(targets: &BTreeSet<HttpTarget>, network: runtime::Handle) -> Self {
        Self(Some(Client::new(Policy::new(targets), network)))
    }

    /// For a shadow, which may send nothing.
    pub(in super::super) fn of_shadow() -> Self {
        Self(None)
    }
}

/// The outgoing HTTP of one instance.
pub(in super::super) struct Http {
    context: WasiHttpCtx,
    calls: Calls,
}

/// What `wasmtime-wasi-http` asks for each request.
struct Calls {
    settings: Arc<Settings>,
    /// Ends the requests of the call that runs; made with the first of them.
    running: Option<(CancellationToken, DropGuard)>,
}

impl Http {
    pub(in super::super) fn new(settings: Arc<Settings>) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(HEADERS);
        Self { context, calls: Calls { settings, running: None } }
    }

    /// Ends what the call has begun.
    pub(in super::super) fn end_call(&mut self) {
        self.calls.running = None;
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Http { context, calls } = &mut self.http;
        WasiHttpCtxView { hooks: calls, table: &mut self.table, ctx: context }
    }
}

type Answer = Result<(hyper::Response<WasiBody>, BoxFuture<Result<(), Error>>), Error>;
type BoxFuture<T> = Box<dyn Future<Output = T> + Send>;

impl WasiHttpHooks for Calls {
    /// The client puts it there itself, from what the policy has judged.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn send_request(
        &mut self,
        request: hyper::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: BoxFuture<Result<(), Error>>,
    ) -> BoxFuture<Answer> {
        let (ends, _) = self.running.get_or_insert_with(|| {
            let ends = CancellationToken::new();
            (ends.clone(), ends.drop_guard())
        });
        let settings = self.settings.clone();
        let refused = Arc::new(move |refusal: &Refusal| {
            settings.log.line(tracing::Level::WARN, "wasi:http", &refusal.to_string());
        });
        let options = options.unwrap_or_default();
        let sent = match &self.settings.http.0 {
            Some(client) => client.send(request, options, ends.clone(), refused.clone()),
            None => Err(Refusal::Shadow),
        };
        match sent {
            Ok(answer) => Box::new(async move {
                let response = answer.await?;
                Ok((response, Box::new(async { Ok(()) }) as BoxFuture<_>))
            }),
            Err(refusal) => {
                refused(&refusal);
                Box::new(async move { Err(refusal.into()) })
            }
        }
    }
}
