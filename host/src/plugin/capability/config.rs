//! `wasi:config/store`: the `config` table of the plugin's use.

use wasmtime::component::Linker;
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use super::super::instance::State;
use crate::config::PluginUse;

/// The values that the guest sees.
pub(in super::super) fn variables(plugin: &PluginUse) -> WasiConfigVariables {
    plugin.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_config::add_to_linker(linker, |state: &mut State| {
        WasiConfig::from(&*state.settings.variables)
    })
}
