//! What a plugin in C or Go is made of besides its own code: bindings to the world in `wit/world.wit`, written into the
//! project before it is compiled, and the step from the module that the compiler makes to a component.
//!
//! Both are crates in Keyway, so that a compiler is all that has to be installed. The bindings are written again by every
//! build and belong into no repository.

use std::{fs, path::Path};

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_bindgen_core::{
    Files, WorldGenerator,
    wit_parser::{Resolve, WorldId},
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::{BuildError, at};

/// Where bindings are written, below the source folder.
pub(super) const BINDINGS: &str = "bindings";

/// The world of a plugin.
pub(super) struct World {
    resolve: Resolve,
    world: WorldId,
}

impl World {
    /// Reads the only world of `folder/wit`.
    pub(super) fn read(folder: &Path) -> Result<Self, BuildError> {
        let wrong = |reason| BuildError::World { folder: folder.into(), reason };
        let directory = folder.join("wit");
        if !directory.is_dir() {
            let reason = "is not there; it holds world.wit, which says what the plugin is, and what that names in deps/";
            return Err(wrong(reason.into()));
        }
        let mut resolve = Resolve::default();
        let (package, _) =
            resolve.push_dir(&directory).map_err(|error| wrong(format!("{error:#}")))?;
        let world =
            resolve.select_world(&[package], None).map_err(|error| wrong(format!("{error:#}")))?;
        Ok(Self { resolve, world })
    }

    /// Writes the bindings that `generator` makes of it into `folder`. A file that is as it should be is left alone, so that
    /// compilers see no change.
    pub(super) fn write_bindings(
        mut self,
        folder: &Path,
        mut generator: Box<dyn WorldGenerator>,
    ) -> Result<(), BuildError> {
        let mut files = Files::default();
        generator.generate(&mut self.resolve, self.world, &mut files).map_err(|error| {
            BuildError::World { folder: folder.into(), reason: format!("{error:#}") }
        })?;
        for (name, content) in files.iter() {
            let file = folder.join(BINDINGS).join(name);
            if fs::read(&file).is_ok_and(|present| present == content) {
                continue;
            }
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent).map_err(at(parent))?;
            }
            fs::write(&file, content).map_err(at(&file))?;
        }
        Ok(())
    }

    /// Puts the world into a module, for compilers to which the bindings give no way to do so.
    pub(super) fn embed(&self, folder: &Path, module: &mut Vec<u8>) -> Result<(), BuildError> {
        embed_component_metadata(module, &self.resolve, self.world, StringEncoding::UTF8)
            .map_err(|error| no_component(folder, &error))
    }
}

/// Makes the component of a module that has its world in it and calls WASI by its first preview, as the C libraries of
/// both languages do.
pub(super) fn component(folder: &Path, module: &[u8]) -> Result<Vec<u8>, BuildError> {
    let encode = || {
        ComponentEncoder::default()
            .module(module)?
            .validate(true)
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?
            .encode()
    };
    encode().map_err(|error| no_component(folder, &error))
}

fn no_component(folder: &Path, error: &dyn std::fmt::Display) -> BuildError {
    BuildError::NoComponent { folder: folder.into(), reason: format!("{error:#}") }
}
