//! What is tested: where the component is, or what builds it, and how the configuration uses it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use crate::{
    cli::{Error, plugin::build::TARGET_DIRECTORY, settings::Settings},
    config::{Allow, Config, Isolation, Limits, PluginUse},
    plugin::{
        self, Role,
        build::{self, Language},
    },
};

/// Where a tested component is built to, below the directory for such. Not where a gateway would find it.
const BUILT: &str = "test";
/// What stands for the group and the topic of a plugin that nothing uses.
const TOPIC: &str = "test";
const OUTPUT_TOPIC: &str = "output";
const PARTITIONS: u32 = 3;

/// A plugin by its files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// The component.
    pub(super) component: PathBuf,
    /// What it is built from first.
    pub(super) folder: Option<PathBuf>,
    /// Where its tests are, if there are any.
    tests: PathBuf,
}

/// Whose use of the plugin is tested.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// A group's id, or a topic's name.
    pub(super) owner: Option<String>,
    pub(super) role: Option<Role>,
}

/// A plugin as it is used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Use {
    pub(super) role: Role,
    /// Whose it is, such as `group my-topic-group-1`; `None`: nobody's.
    pub(super) owner: Option<String>,
    pub(super) plugin: PluginUse,
    pub(super) output_topic: Option<Arc<str>>,
    pub(super) isolation: Isolation,
    /// Of the topic that a key selector decides for.
    pub(super) partitions: u32,
    /// The topic of records that do not say theirs.
    pub(super) topic: Arc<str>,
}

impl Subject {
    /// What `given` names: a component, a source folder, or one of those in the directory of plugins by its name alone.
    pub(super) fn find(given: &Path, settings: &Settings) -> Result<Self, Error> {
        if let Some(found) = Self::at(given)? {
            return Ok(found);
        }
        if given.components().count() != 1 || given.extension().is_some() {
            return Err(Error::Usage(format!("there is no {}", given.display())));
        }
        let directory = settings.load()?.plugins.directory.clone();
        let (folder, file) = (directory.join(given), directory.join(given).with_extension("wasm"));
        for candidate in [&folder, &file] {
            if let Some(found) = Self::at(candidate)? {
                return Ok(found);
            }
        }
        let (given, folder, file) = (given.display(), folder.display(), file.display());
        let text =
            format!("there is no plugin {given}: no folder {given}, no {folder} and no {file}");
        Err(Error::Usage(text))
    }

    fn at(path: &Path) -> Result<Option<Self>, Error> {
        if path.is_dir() {
            let usage = |error: build::BuildError| Error::Usage(error.to_string());
            if Language::of(path).is_none() {
                return Err(usage(build::BuildError::NoSources(path.into())));
            }
            let name = build::plugin_name(path).map_err(usage)?;
            let component = Path::new(TARGET_DIRECTORY).join(BUILT).join(format!("{name}.wasm"));
            let tests = path.join("tests");
            return Ok(Some(Self { component, folder: Some(path.into()), tests }));
        }
        if !path.is_file() {
            return Ok(None);
        }
        if path.extension().is_none_or(|extension| extension != "wasm") {
            let text =
                format!("{} is no component: its name does not end in .wasm", path.display());
            return Err(Error::Usage(text));
        }
        let tests = path.with_extension("").join("tests");
        Ok(Some(Self { component: path.into(), folder: None, tests }))
    }

    pub(super) fn name(&self) -> String {
        self.component.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A file of its tests; it need not be there.
    pub(super) fn test_file(&self, name: &str) -> PathBuf {
        self.tests.join(name)
    }

    /// The configuration that its tests have, where they have one.
    pub(super) fn settings(&self, settings: &Settings) -> Option<Settings> {
        let file = self.test_file("keyway.toml");
        file.is_file().then(|| settings.or(file))
    }

    /// Builds it, where it has sources that are newer.
    ///
    /// # Errors
    /// It does not build.
    pub(super) fn build(&self) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        if build::is_up_to_date(folder, &self.component) {
            return Ok(());
        }
        // It may take its time, and nothing else is shown yet.
        writeln!(io::stderr(), "building {}", folder.display())?;
        let (began, into) = (SystemTime::now(), self.component.parent().unwrap_or(Path::new("")));
        build::build(std::slice::from_ref(folder), Path::new(TARGET_DIRECTORY), into)
            .map_err(|error| Error::Failed(error.to_string()))?;
        // A component that is as it was is not written again, and would be older than its sources for ever.
        let built = File::options().append(true).open(&self.component);
        built.and_then(|component| component.set_modified(began)).ok(); // then it is built once more
        Ok(())
    }

    /// What the component can be.
    ///
    /// # Errors
    /// A gateway would refuse it.
    pub(super) fn roles(&self) -> Result<Vec<Role>, Error> {
        let failed =
            |cause: String| Error::Failed(format!("{}: {cause}", self.component.display()));
        let bytes =
            fs::read(&self.component).map_err(|error: io::Error| failed(error.to_string()))?;
        let found = plugin::inspect(&bytes).map_err(failed)?;
        match found.refused {
            Some(reason) => Err(failed(format!("a gateway would refuse it: {reason}"))),
            None => Ok(found.roles),
        }
    }
}

impl Use {
    /// How `config` uses the plugin `name`, which can be `roles`; the first use of it where there is more than one.
    ///
    /// # Errors
    /// It cannot be what is wanted, or nothing of the wanted name could use it.
    pub(super) fn find(
        name: &str,
        roles: &[Role],
        wanted: &Wanted,
        config: &Config,
    ) -> Result<Self, Error> {
        let as_handler = || Self::as_handler(name, wanted.owner.as_deref(), config);
        let as_selector = || Self::as_selector(name, wanted.owner.as_deref(), config);
        if let Some(role) = wanted.role.filter(|role| !roles.contains(role)) {
            let can = roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            return Err(Error::Usage(format!("{name} is no {role}, but a {can}")));
        }
        let wants = |role| wanted.role.is_none_or(|wanted| wanted == role) && roles.contains(&role);
        let handler = wants(Role::Handler).then(as_handler).flatten();
        let found = handler.or_else(|| wants(Role::Selector).then(as_selector).flatten());
        match (found, &wanted.owner) {
            (Some(found), _) => Ok(Self { plugin: renamed(found.plugin, name), ..found }),
            (None, Some(owner)) => Err(Error::Usage(unknown_owner(owner, config))),
            (None, None) => {
                let role = wanted.role.or(roles.first().copied()).unwrap_or(Role::Handler);
                Ok(Self::of_nobody(name, role))
            }
        }
    }

    fn as_handler(name: &str, owner: Option<&str>, config: &Config) -> Option<Self> {
        let group = config.groups.iter().find(|group| match owner {
            Some(owner) => *group.id == *owner,
            None => *group.handler.plugin == *name,
        })?;
        Some(Self {
            owner: Some(format!("group {}", group.id)),
            plugin: group.handler.clone(),
            output_topic: group.output_topic.clone(),
            isolation: group.isolation,
            topic: group.topics.first()?.clone(),
            ..Self::of_nobody(name, Role::Handler)
        })
    }

    fn as_selector(name: &str, owner: Option<&str>, config: &Config) -> Option<Self> {
        let selector = |topic: &crate::config::Topic| topic.key_selector.clone();
        let topic = config.topics.iter().find(|topic| match owner {
            Some(owner) => *topic.name == *owner,
            None => selector(topic).is_some_and(|selector| *selector.plugin == *name),
        })?;
        let nobody = Self::of_nobody(name, Role::Selector);
        Some(Self {
            owner: Some(format!("topic {}", topic.name)),
            plugin: selector(topic).unwrap_or_else(|| nobody.plugin.clone()),
            partitions: topic.partitions,
            topic: topic.name.clone(),
            ..nobody
        })
    }

    /// As a configuration has it that says nothing but its name.
    fn of_nobody(name: &str, role: Role) -> Self {
        Self {
            role,
            owner: None,
            plugin: PluginUse {
                plugin: name.into(),
                config: Default::default(),
                limits: Limits::default(),
                allow: Allow::default(),
            },
            output_topic: (role == Role::Handler).then(|| OUTPUT_TOPIC.into()),
            isolation: Isolation::None,
            partitions: PARTITIONS,
            topic: TOPIC.into(),
        }
    }
}

/// Another plugin in the place of the one that is configured.
fn renamed(used: PluginUse, name: &str) -> PluginUse {
    PluginUse { plugin: name.into(), ..used }
}

fn unknown_owner(owner: &str, config: &Config) -> String {
    let groups = config.groups.iter().map(|group| &*group.id);
    let names: Vec<_> = groups.chain(config.topics.iter().map(|topic| &*topic.name)).collect();
    let there = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    format!("nothing called {owner:?} in the configuration can use it; there is {there}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::example;

    fn find(
        name: &str,
        roles: &[Role],
        owner: Option<&str>,
        role: Option<Role>,
    ) -> Result<Use, String> {
        let wanted = Wanted { owner: owner.map(str::to_owned), role };
        Use::find(name, roles, &wanted, &example::config()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plugin_is_tested_as_the_configuration_uses_it() {
        let used = find("print", &[Role::Handler], None, None).unwrap();
        assert_eq!(used.owner.as_deref(), Some("group my-topic-group-1"));
        assert_eq!((&*used.topic, used.output_topic), ("my-topic", None));
        let used = find("json-key", &[Role::Selector], None, None).unwrap();
        assert_eq!(used.owner.as_deref(), Some("topic my-topic"));
        assert_eq!(used.partitions, 3);
    }

    #[test]
    fn another_plugin_may_stand_in_for_the_one_that_is_configured() {
        let used = find("new", &[Role::Handler], Some("my-topic-group-1"), None).unwrap();
        assert_eq!((&*used.plugin.plugin, used.role), ("new", Role::Handler));
        let used = find("new", &[Role::Handler, Role::Selector], Some("my-topic"), None).unwrap();
        assert_eq!((&*used.plugin.plugin, used.role), ("new", Role::Selector));
    }

    #[test]
    fn what_nothing_uses_has_the_defaults_and_somewhere_to_write() {
        let used = find("new", &[Role::Handler], None, None).unwrap();
        assert_eq!((used.owner, used.output_topic.as_deref()), (None, Some("output")));
        assert_eq!(used.plugin.limits, Limits::default());
        let both = [Role::Handler, Role::Selector];
        assert_eq!(find("new", &both, None, None).unwrap().role, Role::Handler);
        assert_eq!(find("new", &both, None, Some(Role::Selector)).unwrap().role, Role::Selector);
    }

    #[test]
    fn what_cannot_be_tested_so_is_said() {
        let error = find("new", &[Role::Handler], None, Some(Role::Selector)).unwrap_err();
        assert_eq!(error, "new is no key selector, but a handler");
        let error = find("new", &[Role::Handler], Some("nobody"), None).unwrap_err();
        assert!(
            error.contains("nothing called \"nobody\"") && error.contains("my-topic-group-1"),
            "{error}"
        );
    }
}
