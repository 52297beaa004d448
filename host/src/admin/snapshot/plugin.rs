//! Plugins, their generations, and where each generation began.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::View;
use crate::{
    handler,
    plugin::{
        By, CanaryStatus, Comparisons, Fate, Figures, GenerationStatus, PluginStatus,
        RefusedStatus, Role, ShadowStatus,
    },
};

/// A plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name: the file name without `.wasm`.
    pub name: String,
    /// What it can be: `handler`, `selector`.
    pub roles: Vec<String>,
    /// The generation that serves; `null` when none ever loaded.
    pub generation: Option<String>,
    /// The whole digest of that generation, as 64 hexadecimal digits.
    pub digest: Option<String>,
    /// Since when it serves, as RFC 3339.
    pub since: Option<String>,
    /// What was wrong with the file that was refused last; `null` once a good one has replaced it.
    pub last_error: Option<String>,
    /// Every generation that served, oldest first; one that served twice is there twice.
    pub generations: Vec<Generation>,
    /// Generations that were refused and never served, oldest first.
    pub refused: Vec<Refused>,
    /// Canaries that were ended, oldest first.
    pub aborted: Vec<Refused>,
    /// Generations that were rolled back from or gave way to a canary, and are not taken from the file before another one has been there.
    pub rolled_back_from: Vec<String>,
    /// What is wrong with the history on disk; `null`: nothing.
    pub history_error: Option<String>,
    /// Who uses it in this process.
    pub uses: Vec<Use>,
}

/// A generation in a plugin's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The first twelve hexadecimal digits of its digest.
    pub generation: String,
    /// When it began to serve, as RFC 3339.
    pub since: String,
    /// When it ended to, as RFC 3339; `null`: it serves.
    pub until: Option<String>,
    /// Who let it serve: `file`, `rollback`, `canary`.
    pub by: String,
    /// What became of it: `serving`, `replaced`, `rolled-back`.
    pub state: String,
    /// How many bytes are kept of it; `null`: it cannot be rolled back to.
    pub bytes: Option<u64>,
    /// The first record of each partition that it was given, or that it decided as a key selector.
    pub first_offsets: Vec<FirstOffset>,
}

/// A generation that never served, or a canary that was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The first twelve hexadecimal digits of its digest.
    pub generation: String,
    /// When it was last, as RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// Where a generation began on one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstOffset {
    /// The group that handled it; `null`: a key selector decided it.
    pub group: Option<String>,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

/// One use of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Use {
    /// Whose it is, such as `group my-topic-group-1`.
    pub owner: String,
    /// As what: `handler`, `selector`.
    pub role: String,
    /// What is configured, without the values: they may be secrets.
    pub config: Vec<String>,
    /// Instances that are kept or at work.
    pub instances: usize,
    /// Records that the plugin was called for, since the gateway started.
    pub calls: u64,
    /// Of them, those that trapped, ran out of time or broke another bound.
    pub failures: u64,
    /// The generation that is tried with a share of its records; `null`: none.
    pub canary: Option<Canary>,
    /// The generation that is run on its records and compared; `null`: none.
    pub shadow: Option<Shadow>,
}

/// A canary beside the generation that serves, since it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// The first twelve hexadecimal digits of its digest.
    pub generation: String,
    /// When it began, as RFC 3339.
    pub since: String,
    /// How many of 100 keys are its.
    pub percent: u8,
    /// What the serving generation did with the others.
    pub serving: Side,
    /// What it did.
    pub canary: Side,
}

/// A shadow of the generation that serves, since it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// The first twelve hexadecimal digits of its digest.
    pub generation: String,
    /// When it began, as RFC 3339.
    pub since: String,
    /// Attempts that ended in the same way, with the same output.
    pub equal: u64,
    /// Those that ended in another, or with other output.
    pub different: u64,
    /// Those at which it trapped, ran out of time or broke another bound.
    pub failed: u64,
    /// Those that it was not given, because it had enough to do.
    pub shed: u64,
}

/// What one side of a canary has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Attempts that have ended.
    pub attempts: u64,
    /// Of them, those that were handled.
    pub handled: u64,
    /// Those to be tried again, as the handler asked for.
    pub retried: u64,
    /// Those that the handler refused.
    pub rejected: u64,
    /// Those that trapped, ran out of time or broke another bound.
    pub failed: u64,
    /// Records that were emitted.
    pub emitted: u64,
    /// The share of attempts that were not handled, in percent.
    pub failure_rate: f64,
    /// How long an attempt takes, in microseconds.
    pub mean_us: f64,
}

/// Every plugin that the view knows, by name.
pub fn plugins(view: &View) -> Vec<Plugin> {
    let mut plugins: Vec<_> = view.plugins.iter().map(plugin).collect();
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    plugins
}

fn plugin(status: &PluginStatus) -> Plugin {
    let refused = |refused: &RefusedStatus| Refused {
        generation: refused.generation.short(),
        at: rfc_3339(refused.at),
        reason: refused.reason.clone(),
    };
    let uses = status.uses.iter().map(|usage| Use {
        owner: usage.owner.clone(),
        role: role_name(usage.role).to_owned(),
        config: usage.config.clone(),
        instances: usage.instances,
        calls: usage.calls,
        failures: usage.failures,
        canary: usage.canary.as_ref().map(canary),
        shadow: usage.shadow.as_ref().map(shadow),
    });
    Plugin {
        name: status.name.to_string(),
        roles: status.roles.iter().map(|role| role_name(*role).to_owned()).collect(),
        generation: status.generation.as_ref().map(handler::Generation::short),
        digest: status.generation.as_ref().map(handler::Generation::long),
        since: status.since.map(rfc_3339),
        last_error: status.last_error.clone(),
        generations: status.generations.iter().map(generation).collect(),
        refused: status.refused.iter().map(refused).collect(),
        aborted: status.aborted.iter().map(refused).collect(),
        rolled_back_from: status.rolled_back_from.iter().map(handler::Generation::short).collect(),
        history_error: status.history_error.clone(),
        uses: uses.collect(),
    }
}

fn canary(status: &CanaryStatus) -> Canary {
    Canary {
        generation: status.generation.short(),
        since: rfc_3339(status.since),
        percent: status.percent,
        serving: side(&status.serving),
        canary: side(&status.canary),
    }
}

fn shadow(status: &ShadowStatus) -> Shadow {
    let Comparisons { equal, different, failed } = status.compared;
    Shadow {
        generation: status.generation.short(),
        since: rfc_3339(status.since),
        equal,
        different,
        failed,
        shed: status.shed,
    }
}

/// Rates and times to a tenth.
fn side(figures: &Figures) -> Side {
    let tenth = |number: f64| (number * 10.0).round() / 10.0;
    Side {
        attempts: figures.attempts,
        handled: figures.handled,
        retried: figures.retried,
        rejected: figures.rejected,
        failed: figures.failed,
        emitted: figures.emitted,
        failure_rate: tenth(figures.failure_rate()),
        mean_us: tenth(figures.mean().as_secs_f64() * 1e6),
    }
}

fn generation(status: &GenerationStatus) -> Generation {
    let first_offsets = status.first_offsets.iter().map(|first| FirstOffset {
        group: first.group.as_deref().map(str::to_owned),
        topic: first.topic.to_string(),
        partition: first.partition,
        offset: first.offset,
    });
    let by = match status.by {
        By::File => "file",
        By::Rollback => "rollback",
        By::Canary => "canary",
    };
    let state = match status.fate {
        Fate::Serving => "serving",
        Fate::Replaced => "replaced",
        Fate::RolledBack => "rolled-back",
    };
    Generation {
        generation: status.generation.short(),
        since: rfc_3339(status.since),
        until: status.until.map(rfc_3339),
        by: by.to_owned(),
        state: state.to_owned(),
        bytes: status.kept,
        first_offsets: first_offsets.collect(),
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Handler => "handler",
        Role::Selector => "selector",
    }
}

pub(super) fn rfc_3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::{super::example, *};

    #[test]
    fn a_plugin_has_the_shape_that_the_interface_promises() {
        let plugins = plugins(&example::view());
        let names: Vec<_> = plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        assert_eq!(names, ["json-key", "print"]);
        assert_eq!(
            serde_json::to_value(&plugins[1]).unwrap(),
            serde_json::json!({
                "name": "print",
                "roles": ["handler"],
                "generation": "0a0a0a0a0a0a",
                "digest": "0a".repeat(32),
                "since": "2023-11-14T22:13:20.000Z",
                "last_error": "plugins/print.wasm: not a component",
                "generations": [{
                    "generation": "0a0a0a0a0a0a",
                    "since": "2023-11-14T22:13:20.000Z",
                    "until": null,
                    "by": "file",
                    "state": "serving",
                    "bytes": 1000,
                    "first_offsets": [
                        {"group": "my-topic-group-1", "topic": "my-topic", "partition": 0, "offset": 17},
                    ],
                }],
                "refused": [{
                    "generation": "0c0c0c0c0c0c",
                    "at": "2023-11-14T22:13:20.000Z",
                    "reason": "plugins/print.wasm: not a component",
                }],
                "aborted": [],
                "rolled_back_from": ["0d0d0d0d0d0d"],
                "history_error": null,
                "uses": [{
                    "owner": "group my-topic-group-1",
                    "role": "handler",
                    "config": ["prefix"],
                    "instances": 1,
                    "calls": 40,
                    "failures": 2,
                    "canary": {
                        "generation": "0e0e0e0e0e0e",
                        "since": "2023-11-14T22:13:20.000Z",
                        "percent": 5,
                        "serving": {
                            "attempts": 19, "handled": 19, "retried": 0, "rejected": 0, "failed": 0, "emitted": 19,
                            "failure_rate": 0.0, "mean_us": 50.0,
                        },
                        "canary": {
                            "attempts": 3, "handled": 2, "retried": 0, "rejected": 0, "failed": 1, "emitted": 2,
                            "failure_rate": 33.3, "mean_us": 100.0,
                        },
                    },
                    "shadow": {
                        "generation": "0f0f0f0f0f0f",
                        "since": "2023-11-14T22:13:20.000Z",
                        "equal": 30, "different": 1, "failed": 0, "shed": 4,
                    },
                }],
            })
        );
    }
}
