//! `keyway plugin`

pub(super) mod build;
mod canary;
mod inspect;
mod list;
mod new;
mod preview;
mod rollback;
mod shadow;
mod test;

use clap::Subcommand;

use super::{Error, settings::Settings};
use crate::admin::snapshot;

#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    /// Write a small plugin as a place to begin
    New(new::New),
    /// Build plugins from their sources, in whatever language
    Build(build::Build),
    /// Run a plugin without a gateway: on records of a file, a topic or dead letters, against what is expected
    Test(test::Test),
    /// Show the plugins of a running gateway, who uses them, and what their generations were
    List(list::List),
    /// Show what a component exports, what it asks for, and what the configuration grants it
    Inspect(inspect::Inspect),
    /// Have a plugin go back to an older generation, for all that use it, until a new file comes
    Rollback(rollback::Rollback),
    /// Try another generation of a handler with a share of the keys, beside the one that serves
    Canary(canary::Canary),
    /// Run another generation of a handler on the records that the one that serves handles, and compare
    Shadow(shadow::Shadow),
    /// Show records of which a shadow makes something else
    Diff(shadow::Diff),
    /// Show where records would go under another key selector, and which would move to another partition
    Preview(preview::Preview),
    /// Let the generation that is tried serve
    Promote(canary::Promote),
    /// End the trial of a generation
    Abort(canary::Abort),
}

impl Plugin {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        match self {
            Self::New(new) => new.run(settings),
            Self::Build(build) => build.run(settings),
            Self::Test(test) => test.run(settings),
            Self::List(list) => list.run(settings),
            Self::Inspect(inspect) => inspect.run(settings),
            Self::Rollback(rollback) => rollback.run(settings),
            Self::Canary(canary) => canary.run(settings),
            Self::Shadow(shadow) => shadow.run(settings),
            Self::Diff(diff) => diff.run(settings),
            Self::Preview(preview) => preview.run(settings),
            Self::Promote(promote) => promote.run(settings),
            Self::Abort(abort) => abort.run(settings),
        }
    }
}

/// `NAME@GENERATION`, or that there is none.
pub(super) fn generation(plugin: &snapshot::PluginGeneration) -> String {
    match &plugin.generation {
        Some(generation) => format!("{}@{generation}", plugin.plugin),
        None => format!("{} (not loaded here)", plugin.plugin),
    }
}
