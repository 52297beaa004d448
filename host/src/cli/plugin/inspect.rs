//! `keyway plugin inspect`: what a file is, what it asks for, and what of that the configuration gives it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use clap::Args;
use serde::Serialize;

use super::super::{
    Error,
    settings::Settings,
    text::{Style, Table, count},
};
use crate::{
    config::{Allow, Config, Group, PluginUse},
    handler::Generation,
    plugin::{self, Grant, Inspection, Role},
};

#[derive(Debug, Args)]
pub(in super::super) struct Inspect {
    /// The component, such as plugins/print.wasm
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    /// The plugin that it is under this name.
    name: String,
    generation: String,
    digest: String,
    bytes: u64,
    roles: Vec<String>,
    refused: Option<String>,
    language: Option<&'static str>,
    /// By `language`, `processed-by` and `sdk`: name and version.
    producers: BTreeMap<String, Vec<String>>,
    modules: usize,
    code_bytes: u64,
    memory_bytes: u64,
    exports: Vec<String>,
    imports: Vec<Import>,
    uses: Vec<Use>,
    /// What would have to be written to use it, where nothing does.
    write: Option<String>,
}

#[derive(Debug, Serialize)]
struct Import {
    name: String,
    /// `always`, `never`, or what of the use decides: `allow.http`, `allow.topics`.
    granted: &'static str,
}

/// One use in the configuration.
#[derive(Debug, Serialize)]
struct Use {
    owner: String,
    role: String,
    /// What its outgoing HTTP may reach.
    http: Vec<String>,
    /// Where its records may go, the `output-topic` first; a key selector has none.
    topics: Vec<String>,
    /// Of what it asks for, that which may reach nothing.
    ungranted: Vec<String>,
    /// What would have to be written to give it that.
    write: Option<String>,
}

impl Inspect {
    pub(super) fn run(self, settings: &Settings) -> Result<(), Error> {
        let config = settings.load()?;
        let failed = |cause: &dyn std::fmt::Display| {
            Error::Failed(format!("{}: {cause}", self.file.display()))
        };
        let bytes = fs::read(&self.file).map_err(|error| failed(&error))?;
        let found = plugin::inspect(&bytes).map_err(|cause| failed(&cause))?;
        let report = Report::new(&self.file, found, &config);
        let out = &mut io::stdout().lock();
        if self.json {
            let text = serde_json::to_string_pretty(&report).expect("it has no key but texts");
            writeln!(out, "{text}")?;
        } else {
            report.print(out, Style::of_stdout())?;
        }
        match &report.refused {
            Some(reason) => Err(failed(&format_args!("a gateway would refuse it: {reason}"))),
            None => Ok(()),
        }
    }
}

impl Report {
    fn new(file: &Path, found: Inspection, config: &Config) -> Self {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let generation = Generation { plugin: name.as_str().into(), digest: found.digest };
        let uses = uses(&name, &found.imports, config);
        let write = uses.is_empty().then(|| how_to_use(&name, &found));
        let mut producers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for producer in found.producers {
            let made = format!("{} {}", producer.name, producer.version).trim_end().to_owned();
            producers.entry(producer.field).or_default().push(made);
        }
        let import = |import: plugin::Import| {
            let granted = match import.grant {
                Grant::Always => "always",
                Grant::Http => "allow.http",
                Grant::Topics => "allow.topics",
                Grant::Never => "never",
            };
            Import { name: import.name, granted }
        };
        Self {
            file: file.display().to_string(),
            uses,
            write,
            name,
            generation: generation.short(),
            digest: generation.long(),
            bytes: found.size,
            roles: found.roles.iter().map(ToString::to_string).collect(),
            refused: found.refused,
            language: found.language,
            producers,
            modules: found.modules,
            code_bytes: found.code,
            memory_bytes: found.memory,
            exports: found.exports,
            imports: found.imports.into_iter().map(import).collect(),
        }
    }

    fn print(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let size = |bytes| ByteSize(bytes).to_string();
        let made = |field: &str| self.producers.get(field).map(|made| made.join(", "));
        writeln!(out, "{}", style.bold(&format!("{}@{}", self.name, self.generation)))?;
        let language = match (self.language, made("processed-by")) {
            (Some(language), Some(tools)) => format!("{language} ({tools})"),
            (Some(language), None) => language.to_owned(),
            (None, Some(tools)) => format!("it does not say ({tools})"),
            (None, None) => "it does not say".to_owned(),
        };
        let sizes = format!(
            "{} in all; {} of code in {}, {} of memory to begin with",
            size(self.bytes),
            size(self.code_bytes),
            count(self.modules as u64, "module"),
            size(self.memory_bytes)
        );
        let roles = if self.roles.is_empty() { "none".into() } else { self.roles.join(", ") };
        for (what, text) in [
            ("role", roles),
            ("language", language),
            ("size", sizes),
            ("digest", self.digest.clone()),
        ] {
            writeln!(out, "  {what:<8}  {text}")?;
        }
        for export in &self.exports {
            writeln!(out, "  {:<8}  {export}", "exports")?;
        }
        if !self.imports.is_empty() {
            let mut table = Table::new(&["IMPORTS", "GRANTED"]);
            for import in &self.imports {
                table.row(vec![import.name.clone(), import.granted.into()]);
            }
            table.write(out, "  ", style)?;
        }
        self.uses.iter().try_for_each(|used| used.print(out, style))?;
        match &self.write {
            Some(write) => {
                writeln!(out, "Nothing in the configuration uses it; to use it, write {write}")
            }
            None => Ok(()),
        }
    }
}

impl Use {
    /// A handler of a group.
    fn of_group(group: &Group, imports: &[plugin::Import]) -> Self {
        let allowed = group.handler.allow.topics.iter();
        let allowed = allowed.filter(|topic| Some(*topic) != group.output_topic.as_ref());
        let topics = group.output_topic.iter().chain(allowed).map(ToString::to_string).collect();
        Self::new(format!("group {}", group.id), Role::Handler, &group.handler, topics, imports)
    }

    fn new(
        owner: String,
        role: Role,
        used: &PluginUse,
        topics: Vec<String>,
        imports: &[plugin::Import],
    ) -> Self {
        let http: Vec<String> = used.allow.http.iter().map(ToString::to_string).collect();
        let ungranted = ungranted(role, imports, &http, &topics);
        let write = (!ungranted.is_empty()).then(|| allow(&ungranted, &used.allow));
        let ungranted = ungranted.into_iter().map(|import| import.name.clone()).collect();
        Self { owner, role: role.to_string(), http, topics, ungranted, write }
    }

    fn print(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let is_handler = self.role == Role::Handler.to_string();
        let reaches = match &self.http[..] {
            [] => String::new(),
            targets => format!("; its HTTP may reach {}", targets.join(", ")),
        };
        let emits = match &self.topics[..] {
            [] if is_handler => "; it may emit to no topic".to_owned(),
            [] => String::new(),
            topics => format!("; it may emit to {}", topics.join(", ")),
        };
        writeln!(out, "{} uses it as {}{reaches}{emits}", self.owner, self.role)?;
        let place = if is_handler { "below its [[groups]]" } else { "in its key-selector" };
        if let Some(write) = &self.write {
            let note = style.warning("note:");
            let asked = self.ungranted.join(" and ");
            writeln!(
                out,
                "  {note} it asks for {asked}, and may reach nothing there; to grant it, write {place}: {write}"
            )?;
        } else if is_handler && self.topics.is_empty() {
            writeln!(
                out,
                "  to have it emit, write {place}: output-topic = \"TOPIC\"; and for records that name another: \
                 allow = {{ topics = [\"TOPIC\"] }}"
            )?;
        }
        Ok(())
    }
}

/// The uses of the plugin in the configuration.
fn uses(name: &str, imports: &[plugin::Import], config: &Config) -> Vec<Use> {
    let groups = config.groups.iter().filter(|group| *group.handler.plugin == *name);
    let topics =
        config.topics.iter().filter_map(|topic| Some((topic, topic.key_selector.as_ref()?)));
    let topics = topics.filter(|(_, selector)| *selector.plugin == *name);
    groups
        .map(|group| Use::of_group(group, imports))
        .chain(topics.map(|(topic, selector)| {
            let owner = format!("topic {}", topic.name);
            Use::new(owner, Role::Selector, selector, Vec::new(), imports)
        }))
        .collect()
}

/// The imports that may reach something only where it is allowed, and may reach nothing.
fn ungranted<'a>(
    role: Role,
    imports: &'a [plugin::Import],
    http: &[String],
    topics: &[String],
) -> Vec<&'a plugin::Import> {
    let reaches_nothing = |import: &&plugin::Import| match import.grant {
        Grant::Http => http.is_empty(),
        // What a key selector publishes goes nowhere, whatever is allowed.
        Grant::Topics => topics.is_empty() && role == Role::Handler,
        Grant::Always | Grant::Never => false,
    };
    imports.iter().filter(reaches_nothing).collect()
}

/// The line that lets these imports reach something, beside what is allowed already.
fn allow(asked: &[&plugin::Import], allowed: &Allow) -> String {
    let asks_for = |grant| asked.iter().any(|import| import.grant == grant);
    let list = |key: &str, given: Vec<String>, is_asked: bool, example: &str| {
        let given = if given.is_empty() && is_asked { vec![example.to_owned()] } else { given };
        (!given.is_empty()).then(|| format!("{key} = {given:?}"))
    };
    let topics = allowed.topics.iter().map(ToString::to_string).collect();
    let http = allowed.http.iter().map(ToString::to_string).collect();
    let lists = [
        list("topics", topics, asks_for(Grant::Topics), "TOPIC"),
        list("http", http, asks_for(Grant::Http), "https://HOST"),
    ];
    format!("allow = {{ {} }}", lists.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// The lines that use a plugin which nothing uses, with what it asks for.
fn how_to_use(name: &str, found: &Inspection) -> String {
    let role = if found.roles == [Role::Selector] { Role::Selector } else { Role::Handler };
    let asked = ungranted(role, &found.imports, &[], &[]);
    let allow = (!asked.is_empty()).then(|| allow(&asked, &Allow::default()));
    match (role, allow) {
        (Role::Handler, None) => format!("handler = {{ plugin = {name:?} }}"),
        (Role::Handler, Some(allow)) => format!("handler = {{ plugin = {name:?} }} and {allow}"),
        (Role::Selector, None) => format!("key-selector = {{ plugin = {name:?} }}"),
        (Role::Selector, Some(allow)) => format!("key-selector = {{ plugin = {name:?}, {allow} }}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{admin::snapshot::example, plugin::Producer};

    fn inspection() -> Inspection {
        let import = |name: &str, grant| plugin::Import { name: name.into(), grant };
        let producer = |field: &str, name: &str, version: &str| Producer {
            field: field.into(),
            name: name.into(),
            version: version.into(),
        };
        Inspection {
            digest: [0xab; 32],
            size: 2048,
            roles: vec![Role::Handler],
            refused: None,
            exports: vec!["keyway:plugin/handler@0.1.0".into()],
            imports: vec![
                import("wasi:io/poll@0.2.6", Grant::Always),
                import("wasi:http/outgoing-handler@0.2.6", Grant::Http),
            ],
            modules: 1,
            code: 1024,
            memory: 1 << 20,
            language: Some("Rust"),
            producers: BTreeSet::from([
                producer("language", "Rust", ""),
                producer("processed-by", "rustc", "1.95.0"),
            ]),
        }
    }

    fn printed(file: &str, found: Inspection, config: &Config) -> String {
        let report = Report::new(Path::new(file), found, config);
        let mut out = Vec::new();
        report.print(&mut out, Style::plain()).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// A handler that imports this, as the group of the example uses it, where it may reach what `allow` sets.
    fn used(imports: &[(&str, Grant)], allow: impl FnOnce(&mut Group)) -> String {
        let import =
            |(name, grant): &(&str, Grant)| plugin::Import { name: (*name).into(), grant: *grant };
        let imports = imports.iter().map(import).collect();
        let mut config = Config::clone(&example::config());
        allow(&mut config.groups[0]);
        let text = printed("print.wasm", Inspection { imports, ..inspection() }, &config);
        text[text.find("group my-topic").unwrap()..].to_owned()
    }

    const HTTP: (&str, Grant) = ("wasi:http/outgoing-handler@0.2.6", Grant::Http);
    const PUBLISH: (&str, Grant) = ("wasmcloud:messaging/consumer@0.2.0", Grant::Topics);

    #[test]
    fn everything_is_told_with_what_to_write_for_what_is_not_granted() {
        assert_eq!(
            printed("plugins/print.wasm", inspection(), &example::config()),
            "print@abababababab
  role      handler
  language  Rust (rustc 1.95.0)
  size      2.0 KiB in all; 1.0 KiB of code in 1 module, 1.0 MiB of memory to begin with
  digest    abababababababababababababababababababababababababababababababab
  exports   keyway:plugin/handler@0.1.0
  IMPORTS                           GRANTED
  wasi:io/poll@0.2.6                always
  wasi:http/outgoing-handler@0.2.6  allow.http
group my-topic-group-1 uses it as handler; it may emit to no topic
  note: it asks for wasi:http/outgoing-handler@0.2.6, and may reach nothing there; to grant it, write below its [[groups]]: allow = { http = [\"https://HOST\"] }
"
        );
    }

    #[test]
    fn where_records_may_go_is_told_and_what_to_write_where_they_may_go_nowhere() {
        assert_eq!(
            used(&[], |_| ()),
            "group my-topic-group-1 uses it as handler; it may emit to no topic
  to have it emit, write below its [[groups]]: output-topic = \"TOPIC\"; and for records that name another: allow = { topics = [\"TOPIC\"] }
"
        );
        let granted = used(&[PUBLISH], |group| {
            group.output_topic = Some("out".into());
            group.handler.allow.topics = ["audit".into(), "out".into()].into();
        });
        let expected = "group my-topic-group-1 uses it as handler; it may emit to out, audit\n";
        assert_eq!(granted, expected);
        let publishes = used(&[PUBLISH], |_| ());
        let expected = "it asks for wasmcloud:messaging/consumer@0.2.0, and may reach nothing there; to grant it, write below its [[groups]]: allow = { topics = [\"TOPIC\"] }\n";
        assert!(publishes.ends_with(expected), "{publishes}");
    }

    #[test]
    fn the_line_to_write_has_all_that_is_asked_for_and_what_is_granted_already() {
        let both = used(&[HTTP, PUBLISH], |_| ());
        let expected = "allow = { topics = [\"TOPIC\"], http = [\"https://HOST\"] }\n";
        assert!(both.ends_with(expected), "{both}");
        let one = used(&[HTTP, PUBLISH], |group| {
            group.handler.allow.topics = ["audit".into()].into();
        });
        let expected = "it asks for wasi:http/outgoing-handler@0.2.6, and may reach nothing there; to grant it, write below its [[groups]]: allow = { topics = [\"audit\"], http = [\"https://HOST\"] }\n";
        assert!(one.ends_with(expected), "{one}");
    }

    #[test]
    fn a_plugin_that_nothing_uses_is_told_how_to_be_used() {
        let unused = |found| printed("elsewhere/other.wasm", found, &example::config());
        let text = unused(inspection());
        let expected = "to use it, write handler = { plugin = \"other\" } and allow = { http = [\"https://HOST\"] }\n";
        assert!(text.ends_with(expected), "{text}");
        let text = unused(Inspection { imports: Vec::new(), ..inspection() });
        assert!(text.ends_with("write handler = { plugin = \"other\" }\n"), "{text}");
        let text = unused(Inspection { roles: vec![Role::Selector], ..inspection() });
        let expected =
            "key-selector = { plugin = \"other\", allow = { http = [\"https://HOST\"] } }\n";
        assert!(text.ends_with(expected), "{text}");
    }
}
