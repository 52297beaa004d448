//! A plugin's file as checked, compiled code, ready to be instantiated: one generation.

use sha2::{Digest, Sha256};
use wasmtime::{
    Store,
    component::{Instance, InstancePre, Linker},
};

use super::{
    bindings::exports::{
        keyway::plugin::{handler, lifecycle, selector},
        wasmcloud::messaging::handler as wasmcloud,
    },
    bindings::wasi_messaging::exports::wasi::messaging::incoming_handler as wasi,
    cache::Cache,
    instance::State,
    interface::{self, HandlerInterface},
    status::Role,
};
use crate::handler::Generation;

/// One loaded generation of a plugin.
pub(super) struct Component {
    pub(super) generation: Generation,
    /// What it can be.
    pub(super) roles: Vec<Role>,
    code: InstancePre<State>,
    handler: Option<HandlerIndices>,
    selector: Option<selector::GuestIndices>,
    lifecycle: Option<lifecycle::GuestIndices>,
}

/// The exports of one instance.
pub(super) struct Guests {
    pub(super) handler: Option<HandlerGuest>,
    pub(super) selector: Option<selector::Guest>,
}

enum HandlerIndices {
    Keyway(handler::GuestIndices),
    Wasi(wasi::GuestIndices),
    WasmCloud(wasmcloud::GuestIndices),
}

/// A handler, by the interface that it is built for.
pub(super) enum HandlerGuest {
    Keyway(handler::Guest),
    Wasi(wasi::Guest),
    WasmCloud(wasmcloud::Guest),
}

/// The digest of a component's bytes: what tells one generation from another.
pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl Component {
    /// Compiles `bytes`, or takes what the cache has, and checks it. Takes as long as the compiler does. An error says
    /// in words what is wrong with the bytes.
    pub(super) fn load(
        linker: &Linker<State>,
        cache: &Cache,
        generation: Generation,
        bytes: &[u8],
    ) -> Result<Self, String> {
        let engine = linker.engine();
        let compiled = match cache.load(engine, &generation) {
            Some(compiled) => compiled,
            None => {
                recognize(bytes)?;
                let compiled = wasmtime::component::Component::from_binary(engine, bytes).map_err(
                    |error| format!("it is not a valid component: {}", error.root_cause()),
                )?;
                cache.store(&compiled, &generation);
                compiled
            }
        };
        let ty = compiled.component_type();
        let imports: Vec<_> = ty.imports(engine).map(|(name, _)| name).collect();
        let exports: Vec<_> = ty.exports(engine).map(|(name, _)| name).collect();
        let interface = interface::inspect(&imports, &exports)?;
        let code = linker.instantiate_pre(&compiled).map_err(|error| words(&error))?;
        let indices = |error: wasmtime::Error| words(&error);
        Ok(Self {
            generation,
            handler: interface
                .handler
                .map(|handler| HandlerIndices::new(handler, &code))
                .transpose()
                .map_err(indices)?,
            selector: interface
                .roles
                .contains(&Role::Selector)
                .then(|| selector::GuestIndices::new(&code))
                .transpose()
                .map_err(indices)?,
            lifecycle: interface
                .lifecycle
                .then(|| lifecycle::GuestIndices::new(&code))
                .transpose()
                .map_err(indices)?,
            roles: interface.roles,
            code,
        })
    }

    /// The engine that the code is for.
    pub(super) fn engine(&self) -> &wasmtime::Engine {
        self.code.engine()
    }

    /// Instantiates it in `store` and calls `init`, when there is one. The inner error is what `init` said.
    pub(super) async fn start(
        &self,
        store: &mut Store<State>,
    ) -> wasmtime::Result<Result<Guests, String>> {
        let instance = self.code.instantiate_async(&mut *store).await?;
        if let Some(lifecycle) = &self.lifecycle {
            let lifecycle = lifecycle.load(&mut *store, &instance)?;
            if let Err(reason) = lifecycle.call_init(&mut *store).await? {
                return Ok(Err(reason));
            }
        }
        let handler = self
            .handler
            .as_ref()
            .map(|indices| indices.load(&mut *store, &instance))
            .transpose()?;
        let selector = self
            .selector
            .as_ref()
            .map(|indices| indices.load(&mut *store, &instance))
            .transpose()?;
        Ok(Ok(Guests { handler, selector }))
    }
}

impl HandlerIndices {
    fn new(handler: HandlerInterface, code: &InstancePre<State>) -> wasmtime::Result<Self> {
        Ok(match handler {
            HandlerInterface::Keyway => Self::Keyway(handler::GuestIndices::new(code)?),
            HandlerInterface::Wasi => Self::Wasi(wasi::GuestIndices::new(code)?),
            HandlerInterface::WasmCloud => Self::WasmCloud(wasmcloud::GuestIndices::new(code)?),
        })
    }

    fn load(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> wasmtime::Result<HandlerGuest> {
        Ok(match self {
            Self::Keyway(indices) => HandlerGuest::Keyway(indices.load(store, instance)?),
            Self::Wasi(indices) => HandlerGuest::Wasi(indices.load(store, instance)?),
            Self::WasmCloud(indices) => HandlerGuest::WasmCloud(indices.load(store, instance)?),
        })
    }
}

/// Refuses what is no component at all, in plainer words than the compiler has.
pub(super) fn recognize(bytes: &[u8]) -> Result<(), String> {
    const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
    const MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";
    if bytes.is_empty() {
        return Err("it is empty".into());
    }
    if bytes.starts_with(&MODULE) {
        return Err("it is a core WebAssembly module, not a component: build it for wasm32-wasip2, or make it one \
                    with `wasm-tools component new`"
            .into());
    }
    if bytes.len() < COMPONENT.len() && COMPONENT.starts_with(bytes) {
        return Err("it is not a valid component: it ends within its first bytes".into());
    }
    if !bytes.starts_with(&COMPONENT) {
        let text = std::str::from_utf8(&bytes[..bytes.len().min(64)]).is_ok();
        let found = if text { "it is text" } else { "it does not begin as one" };
        return Err(format!("it is not a WebAssembly component: {found}"));
    }
    Ok(())
}

/// The whole chain of an error on one line.
fn words(error: &wasmtime::Error) -> String {
    format!("{error:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_called_what_it_is() {
        let refused = |bytes: &[u8]| recognize(bytes).unwrap_err();
        assert!(refused(b"").contains("empty"));
        assert!(refused(b"(component)").contains("text"));
        assert!(refused(b"\0asm\x01\0\0\0rest").contains("core WebAssembly module"));
        assert!(refused(b"\0asm\x0d").contains("ends within"));
        assert!(refused(b"\x7fELF\x02\x01\x01\0\xff\xff").contains("does not begin as one"));
        assert!(recognize(b"\0asm\x0d\0\x01\0rest").is_ok());
    }
}
