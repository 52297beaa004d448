//! What a guest may call, one file each. All of it is linked for every plugin; what a use is granted is in its state.

pub(super) mod clock;
pub(super) mod config;
pub(super) mod http;
pub(super) mod logging;
pub(super) mod messaging;
pub(super) mod metrics;
pub(super) mod stdio;

use wasmtime::component::Linker;

use super::instance::State;

/// A linker with everything that a plugin may import.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    clock::link(&mut linker)?;
    config::link(&mut linker)?;
    http::link(&mut linker)?;
    logging::link(&mut linker)?;
    messaging::link(&mut linker)?;
    metrics::link(&mut linker)?;
    Ok(linker)
}
