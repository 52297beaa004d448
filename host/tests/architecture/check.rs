//! Compares what a file names with what the tables allow.

use crate::source::{self, Reference};

/// The tables.
pub(crate) struct Shape {
    pub(crate) imports: &'static [Imports],
    pub(crate) insides: &'static [&'static str],
    pub(crate) names: &'static [Names],
}

/// What a part of the crate may import of the others.
pub(crate) struct Imports {
    pub(crate) part: &'static str,
    pub(crate) may_import: &'static [&'static str],
}

/// Who may name a crate.
pub(crate) struct Names {
    pub(crate) krate: &'static str,
    pub(crate) only_in: &'static [&'static str],
}

/// What is wrong with one file, a line each: `FILE:LINE: what, and the rule`.
pub(crate) fn imports(shape: &Shape, module: &[String], text: &str, file: &str) -> Vec<String> {
    let module = module.join("::");
    let row = shape
        .imports
        .iter()
        .filter(|row| within(&module, row.part))
        .max_by_key(|row| row.part.len());
    let Some(row) = row else {
        return vec![format!(
            "{file}:1: `{module}` is in no table of host/tests/architecture: say what it may import"
        )];
    };
    let mut violations: Vec<String> = source::references(&split(&module), text)
        .into_iter()
        .filter_map(|Reference { line, path }| {
            let wrong = match path.split_first()? {
                (first, rest) if first == "crate" => wrong_import(shape, row, &rest.join("::"))?,
                (krate, _) => wrong_name(shape, &module, krate)?,
            };
            Some(format!("{file}:{line}: {wrong}"))
        })
        .collect();
    violations.dedup();
    violations
}

fn wrong_import(shape: &Shape, row: &Imports, path: &str) -> Option<String> {
    let Imports { part, may_import } = row;
    if path.is_empty() || within(path, part) || may_import.contains(&"*") {
        return None;
    }
    if path == "*" || path.ends_with("::*") && !within(part, path.trim_end_matches("::*")) {
        return Some(format!(
            "`{part}` imports all of `crate::{path}`; across parts, name what is imported"
        ));
    }
    let inside = shape.insides.iter().find(|inside| within(path, inside));
    // A module's bare name opens nothing: what is then named through it is a path of its own.
    let allowed = may_import.iter().any(|entry| {
        within(entry, path)
            || within(path, entry) && inside.is_none_or(|inside| within(entry, inside))
    });
    (!allowed).then(|| match may_import {
        [] => format!("`{part}` names `crate::{path}`; it may import no other part"),
        _ => format!("`{part}` names `crate::{path}`; it may import only {}", listed(may_import)),
    })
}

fn wrong_name(shape: &Shape, module: &str, krate: &str) -> Option<String> {
    let fits = |name: &str| match name.strip_suffix('*') {
        Some(beginning) => krate.starts_with(beginning),
        None => krate == name,
    };
    let rule = shape.names.iter().find(|rule| fits(rule.krate))?;
    let allowed = rule.only_in.iter().any(|part| within(module, part));
    (!allowed)
        .then(|| format!("`{module}` names the crate `{krate}`; only {} may", listed(rule.only_in)))
}

/// Whether `path` is `part` or below it.
fn within(path: &str, part: &str) -> bool {
    path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn split(module: &str) -> Vec<String> {
    module.split("::").map(str::to_owned).collect()
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        imports: &[
            Imports { part: "record", may_import: &[] },
            Imports { part: "broker", may_import: &["record"] },
            Imports { part: "broker::kafka", may_import: &["broker", "record"] },
            Imports { part: "plugin", may_import: &["record"] },
            Imports { part: "http", may_import: &["broker", "plugin::Role"] },
            Imports { part: "app", may_import: &["*"] },
            Imports { part: "cli", may_import: &["broker", "broker::kafka"] },
            Imports { part: "lib", may_import: &[] },
        ],
        insides: &["broker::embedded", "broker::kafka"],
        names: &[
            Names { krate: "rdkafka*", only_in: &["broker::kafka"] },
            Names { krate: "axum", only_in: &["http"] },
        ],
    };

    fn wrong(module: &str, text: &str) -> Vec<String> {
        imports(&SHAPE, &split(module), text, "x.rs")
    }

    #[test]
    fn what_the_tables_allow_is_let_through() {
        for (module, text) in [
            ("record", "use bytes::Bytes; use super::record::Header; mod tests { use super::*; }"),
            ("broker", "pub mod kafka; use crate::record::Record; pub use kafka::Kafka;"),
            (
                "broker::kafka::client",
                "use crate::broker::{Broker, Health}; use rdkafka_sys::x; use super::*;",
            ),
            ("http::problem", "use crate::{broker::Broker, plugin::Role}; use axum::Router;"),
            ("http", "use crate::plugin::{self, Role}; fn f(_: plugin::Role) {}"),
            ("app", "use crate::{broker::kafka::Kafka, http, plugin::*};"),
            ("cli::connect", "use crate::broker::kafka::Kafka;"),
            ("http", "pub(crate) fn f() {} pub(in crate::http) fn g() {}"),
            ("lib", "pub mod broker; pub mod http;"),
        ] {
            assert_eq!(wrong(module, text), [""; 0], "{module}");
        }
    }

    #[test]
    fn each_violation_is_named_with_its_file_line_and_rule() {
        for (module, text, message) in [
            (
                "record",
                "\nuse crate::broker::Broker;",
                "x.rs:2: `record` names `crate::broker::Broker`; it may import no other part",
            ),
            (
                "http",
                "use crate::plugin::{\n  Role,\n  Engine };",
                "x.rs:3: `http` names `crate::plugin::Engine`; it may import only `broker`, `plugin::Role`",
            ),
            (
                "http",
                "fn f() { crate::broker::kafka::f() }",
                "x.rs:1: `http` names `crate::broker::kafka::f`; it may import only `broker`, `plugin::Role`",
            ),
            (
                "http",
                "use crate::broker; fn f() { broker::embedded::f() }",
                "x.rs:1: `http` names `crate::broker::embedded::f`; it may import only `broker`, `plugin::Role`",
            ),
            (
                "http",
                "use crate::plugin; fn f() { plugin::load() }",
                "x.rs:1: `http` names `crate::plugin::load`; it may import only `broker`, `plugin::Role`",
            ),
            (
                "cli",
                "use crate::broker::embedded::E;",
                "x.rs:1: `cli` names `crate::broker::embedded::E`; it may import only `broker`, `broker::kafka`",
            ),
            (
                "broker::kafka",
                "use super::embedded::Log;",
                "x.rs:1: `broker::kafka` names `crate::broker::embedded::Log`; it may import only `broker`, `record`",
            ),
            (
                "plugin",
                "use super::super::record::*;",
                "x.rs:1: `plugin` imports all of `crate::record::*`; across parts, name what is imported",
            ),
            (
                "plugin",
                "use crate::*;",
                "x.rs:1: `plugin` imports all of `crate::*`; across parts, name what is imported",
            ),
            (
                "plugin",
                "fn f() -> rdkafka_sys::X {}",
                "x.rs:1: `plugin` names the crate `rdkafka_sys`; only `broker::kafka` may",
            ),
            (
                "broker",
                "use ::axum as web;",
                "x.rs:1: `broker` names the crate `axum`; only `http` may",
            ),
            (
                "lib",
                "mod http; pub use http::serve;",
                "x.rs:1: `lib` names `crate::http::serve`; it may import no other part",
            ),
            (
                "new",
                "",
                "x.rs:1: `new` is in no table of host/tests/architecture: say what it may import",
            ),
        ] {
            assert_eq!(wrong(module, text), [message], "{module}: {text}");
        }
    }
}
