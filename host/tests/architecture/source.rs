//! Reads a source file as far as the rules need it: which paths does it name, and on which line.
//!
//! Not a parser of Rust. Comments and literals are skipped, `use` trees are spread out, `self`, `super`, names that a
//! `use` brought in and child modules are followed, so that a path comes out absolute: `crate`, then modules, for the
//! crate's own; the crate's name, then the rest, for another's.

use std::collections::BTreeMap;

/// A path that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// From 1.
    pub(crate) line: usize,
    /// Absolute; a glob ends in `*`.
    pub(crate) path: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

/// Every path of two parts or more, and every import, in the order of the file. `module` is the file's own module
/// (without `crate`).
pub(crate) fn references(module: &[String], text: &str) -> Vec<Reference> {
    let tokens = tokens(text);
    let mut scopes = Scopes::new(module);
    read(&tokens, &mut scopes, &mut |_| {}); // names may be used above the line that brings them in
    let mut references = Vec::new();
    scopes.back_to(module);
    read(&tokens, &mut scopes, &mut |reference| references.push(reference));
    references
}

/// The modules of one file, and the names that are known in each.
struct Scopes {
    here: Vec<String>,
    names: BTreeMap<(Vec<String>, String), Vec<String>>,
}

impl Scopes {
    fn new(module: &[String]) -> Self {
        let mut scopes = Self { here: Vec::new(), names: BTreeMap::new() };
        scopes.back_to(module);
        scopes
    }

    fn back_to(&mut self, module: &[String]) {
        // The items of the library's root are `crate::...`; its file goes by a name only in the rules.
        let root = module == ["lib"];
        self.here = if root { Vec::new() } else { module.to_vec() };
        self.here.insert(0, "crate".to_owned());
    }

    fn declare_module(&mut self, name: &str) {
        let path = joined(&self.here, name);
        self.names.insert((self.here.clone(), name.to_owned()), path);
    }

    fn bring_in(&mut self, name: &str, path: Vec<String>) {
        self.names.insert((self.here.clone(), name.to_owned()), path);
    }

    /// Makes a path absolute. A name is looked up in the modules around it too: more than Rust would, never less.
    fn absolute(&self, path: &[String]) -> Vec<String> {
        let (first, rest) = path.split_first().expect("a path has a first part");
        let mut base = match first.as_str() {
            "crate" | "keyway" => vec!["crate".to_owned()],
            "self" => self.here.clone(),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let kept = self.here.len().saturating_sub(up).max(1);
                return [&self.here[..kept], &path[up..]].concat();
            }
            name => (1..=self.here.len())
                .rev()
                .find_map(|depth| self.names.get(&(self.here[..depth].to_vec(), name.to_owned())))
                .cloned()
                .unwrap_or_else(|| vec![name.to_owned()]),
        };
        base.extend_from_slice(rest);
        base
    }
}

fn joined(path: &[String], name: &str) -> Vec<String> {
    let mut path = path.to_vec();
    path.push(name.to_owned());
    path
}

fn read(tokens: &[Token], scopes: &mut Scopes, found: &mut impl FnMut(Reference)) {
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token| token.text.as_str());
    let mut opened_by_module = Vec::new(); // one entry an open brace
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "mod" if is_name(text(at + 1)) && text(at + 2) == ";" => {
                scopes.declare_module(text(at + 1));
                at += 3;
            }
            "mod" if is_name(text(at + 1)) && text(at + 2) == "{" => {
                scopes.declare_module(text(at + 1));
                scopes.here.push(text(at + 1).to_owned());
                opened_by_module.push(true);
                at += 3;
            }
            "{" => {
                opened_by_module.push(false);
                at += 1;
            }
            "}" => {
                if opened_by_module.pop() == Some(true) {
                    scopes.here.pop();
                }
                at += 1;
            }
            "use" if text(at + 1) != "<" => at = read_use(tokens, at + 1, &[], scopes, found), // `use<..>` captures
            "crate" if text(at.wrapping_sub(1)) == "extern" => {
                found(Reference { line: tokens[at].line, path: vec![text(at + 1).to_owned()] });
                at += 2;
            }
            first if is_name(first) && !matches!(text(at.wrapping_sub(1)), "." | "::") => {
                let start = at;
                let mut path = vec![first.to_owned()];
                while text(at + 1) == "::" && is_name(text(at + 2)) {
                    path.push(text(at + 2).to_owned());
                    at += 2;
                }
                if path.len() > 1 {
                    let path = scopes.absolute(&path);
                    found(Reference { line: tokens[start].line, path });
                }
                at += 1;
            }
            "::" if is_name(text(at + 1))
                && !is_name(text(at.wrapping_sub(1)))
                && text(at.wrapping_sub(1)) != ">" =>
            {
                found(Reference { line: tokens[at].line, path: vec![text(at + 1).to_owned()] });
                at += 2;
            }
            _ => at += 1,
        }
    }
}

/// Reads one tree of a `use`, below `prefix`, from `at` on; returns where it ends.
fn read_use(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    scopes: &mut Scopes,
    found: &mut impl FnMut(Reference),
) -> usize {
    let text = |at: usize| tokens.get(at).map_or(";", |token: &Token| token.text.as_str());
    let mut path = prefix.to_vec();
    let mut global = prefix.first().is_some_and(|first| first == "::");
    loop {
        match text(at) {
            "::" if path.is_empty() => {
                global = true;
                path.push("::".to_owned());
                at += 1;
            }
            "::" => at += 1,
            "{" => {
                at += 1;
                while !matches!(text(at), "}" | ";") {
                    at = read_use(tokens, at, &path, scopes, found);
                    at += usize::from(text(at) == ",");
                }
                return at + usize::from(text(at) == "}");
            }
            part if is_name(part) || part == "*" => {
                let line = tokens[at].line;
                path.push(part.to_owned());
                at += 1;
                if text(at) == "::" {
                    continue;
                }
                path.pop_if(|last| last == "self" && !prefix.is_empty());
                let mut name = path.last().cloned().unwrap_or_default();
                if text(at) == "as" {
                    name = text(at + 1).to_owned();
                    at += 2;
                }
                let path = if global { path[1..].to_vec() } else { scopes.absolute(&path) };
                if is_name(&name) && path.len() + usize::from(global) > 0 {
                    scopes.bring_in(&name, path.clone());
                }
                found(Reference { line, path });
                return at;
            }
            _ => return at + usize::from(text(at) == ";"),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names and punctuation with their lines; comments, literals and lifetimes are left out.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' || ["b\"", "c\""].iter().any(|prefix| rest.starts_with(prefix)) {
            string(rest)
        } else if first == '\'' || rest.starts_with("b'") {
            character_or_lifetime(rest)
        } else if first.is_alphabetic() || first == '_' {
            let name = rest.strip_prefix("r#").unwrap_or(rest);
            let length =
                name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            tokens.push(Token { line, text: name[..length].to_owned() });
            rest.len() - name.len() + length
        } else if first.is_ascii_digit() {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            tokens.push(Token { line, text: "::".to_owned() });
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(Token { line, text: first.to_string() });
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a raw string, where `text` begins with one.
fn raw_string(text: &str) -> Option<usize> {
    let body = ["r", "br", "cr"].iter().find_map(|prefix| {
        let body = text.strip_prefix(prefix)?;
        body.trim_start_matches('#').starts_with('"').then_some(body)
    })?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let open = text.len() - body.len() + hashes + 1;
    Some(text[open..].find(&end).map_or(text.len(), |at| open + at + end.len()))
}

/// The length of a string with its quotes and prefix.
fn string(text: &str) -> usize {
    let open = text.find('"').expect("the caller saw the quote") + 1;
    let mut escaped = false;
    for (at, c) in text[open..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return open + at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `'a'`, `'\n'`, `b'x'`, or of the `'a` of a lifetime.
fn character_or_lifetime(text: &str) -> usize {
    let open = text.find('\'').expect("the caller saw the quote") + 1;
    let mut inside = text[open..].chars();
    match (inside.next(), inside.next()) {
        (Some('\\'), Some(escaped)) => {
            let escape = open + 1 + escaped.len_utf8();
            text[escape..].find('\'').map_or(text.len(), |at| escape + at + 1)
        }
        (Some(c), Some('\'')) => open + c.len_utf8() + 1,
        _ => text[open..]
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(text.len(), |at| open + at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(module: &str, text: &str) -> Vec<String> {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        references(&module, text)
            .into_iter()
            .map(|reference| format!("{} {}", reference.line, reference.path.join("::")))
            .collect()
    }

    #[test]
    fn a_use_tree_is_spread_out() {
        let text = "use crate::{\n    broker::{self, kafka::Kafka as K},\n    record,\n};\npub use ::rdkafka::{client::Client, *};";
        assert_eq!(
            found("app", text),
            [
                "2 crate::broker",
                "2 crate::broker::kafka::Kafka",
                "3 crate::record",
                "5 rdkafka::client::Client",
                "5 rdkafka::*"
            ]
        );
    }

    #[test]
    fn super_and_self_are_followed_through_inline_modules() {
        let text = "mod tests { use super::super::plugin::Engine; fn f() { self::g(); } } fn f() { super::http::serve() }";
        assert_eq!(
            found("dispatch::lanes", text),
            [
                "1 crate::dispatch::plugin::Engine",
                "1 crate::dispatch::lanes::tests::g",
                "1 crate::dispatch::http::serve"
            ]
        );
        assert_eq!(found("produce", "use super::plugin::Engine;"), ["1 crate::plugin::Engine"]);
    }

    #[test]
    fn a_name_that_was_brought_in_is_followed_wherever_it_stands() {
        let text = "fn f() { port::kafka::connect() }\nuse crate::broker as port;";
        assert_eq!(found("http", text), ["1 crate::broker::kafka::connect", "2 crate::broker"]);
    }

    #[test]
    fn the_binary_names_the_library_by_its_name() {
        assert_eq!(found("main", "fn main() { keyway::cli::run() }"), ["1 crate::cli::run"]);
        assert_eq!(
            found("lib", "mod broker; pub use broker::Broker;"),
            ["1 crate::broker::Broker"]
        );
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let text = r####"
            // use rdkafka::A;
            /* use rdkafka::B; /* rdkafka::C */ rdkafka::D */
            /// [`rdkafka::E`]
            const A: &str = "use rdkafka::F; \" rdkafka::G";
            const B: &str = r#"rdkafka::H " rdkafka::I"#;
            const C: (char, u8, char) = ('"', b'"', '\'');
            fn f<'a>(x: &'a rusqlite::Connection) -> u8 { b"rdkafka::J"[0] }
        "####;
        assert_eq!(found("record", text), ["8 rusqlite::Connection"]);
    }

    #[test]
    fn paths_in_types_macros_and_attributes_are_seen() {
        let text = "#[wasmtime::x]\nfn f(v: Vec<crate::http::Y>) -> <T as hyper::S>::R {\n::axum::x!(); a.crate_::<u8>() }";
        assert_eq!(
            found("record", text),
            ["1 wasmtime::x", "2 crate::http::Y", "2 hyper::S", "3 axum"]
        );
    }
}
