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
    config::{Config, PluginUse},
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
}

#[derive(Debug, Serialize)]
struct Import {
    name: String,
    /// `always`, `allow.http`: what the use allows, `never`.
    granted: &'static str,
}

/// One use in the configuration.
#[derive(Debug, Serialize)]
struct Use {
    owner: String,
    role: String,
    /// What its outgoing HTTP may reach.
    http: Vec<String>,
    /// What would have to be written to give it what it asks for.
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
        let asks_for_http = found.imports.iter().any(|import| import.grant == Grant::Http);
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
            uses: uses(&name, asks_for_http, config),
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
        if self.uses.is_empty() {
            let role = if self.roles == ["key selector"] { "key-selector" } else { "handler" };
            let write = format!("{role} = {{ plugin = {:?} }}", self.name);
            writeln!(out, "Nothing in the configuration uses it; to use it, write {write}")?;
        }
        Ok(())
    }
}

impl Use {
    fn print(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let reaches = match &self.http[..] {
            [] => String::new(),
            targets => format!("; its HTTP may reach {}", targets.join(", ")),
        };
        writeln!(out, "{} uses it as {}{reaches}", self.owner, self.role)?;
        match &self.write {
            Some(write) => writeln!(
                out,
                "  {} it asks for wasi:http, which may reach nothing there; to grant it, write {write}",
                style.warning("note:")
            ),
            None => Ok(()),
        }
    }
}

/// The uses of the plugin in the configuration.
fn uses(name: &str, asks_for_http: bool, config: &Config) -> Vec<Use> {
    let used = |owner: String, role: Role, used: &PluginUse| Use {
        owner,
        role: role.to_string(),
        http: used.allow.http.iter().map(ToString::to_string).collect(),
        write: (asks_for_http && used.allow.http.is_empty())
            .then(|| "allow = { http = [\"https://HOST\"] }".to_owned()),
    };
    let groups = config.groups.iter().filter(|group| *group.handler.plugin == *name);
    let topics =
        config.topics.iter().filter_map(|topic| Some((topic, topic.key_selector.as_ref()?)));
    let topics = topics.filter(|(_, selector)| *selector.plugin == *name);
    groups
        .map(|group| used(format!("group {}", group.id), Role::Handler, &group.handler))
        .chain(topics.map(|(topic, selector)| {
            used(format!("topic {}", topic.name), Role::Selector, selector)
        }))
        .collect()
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

    fn printed(file: &str) -> String {
        let report = Report::new(Path::new(file), inspection(), &example::config());
        let mut out = Vec::new();
        report.print(&mut out, Style::plain()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn everything_is_told_with_what_to_write_for_what_is_not_granted() {
        assert_eq!(
            printed("plugins/print.wasm"),
            "print@abababababab
  role      handler
  language  Rust (rustc 1.95.0)
  size      2.0 KiB in all; 1.0 KiB of code in 1 module, 1.0 MiB of memory to begin with
  digest    abababababababababababababababababababababababababababababababab
  exports   keyway:plugin/handler@0.1.0
  IMPORTS                           GRANTED
  wasi:io/poll@0.2.6                always
  wasi:http/outgoing-handler@0.2.6  allow.http
group my-topic-group-1 uses it as handler
  note: it asks for wasi:http, which may reach nothing there; to grant it, write allow = { http = [\"https://HOST\"] }
"
        );
    }

    #[test]
    fn a_plugin_that_nothing_uses_is_told_how_to_be_used() {
        let text = printed("elsewhere/other.wasm");
        assert!(text.ends_with("to use it, write handler = { plugin = \"other\" }\n"), "{text}");
    }
}
