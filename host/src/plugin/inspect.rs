//! What a component says of itself: read from its bytes, with nothing compiled and nothing run.
//!
//! A component whose code is not valid is found by the compiler, when it is loaded, and not here.

use std::collections::BTreeSet;

use wasmparser::{BinaryReader, BinaryReaderError, Parser, Payload, ProducersSectionReader};

use super::{
    component::{digest, recognize},
    interface::{self, Grant},
    status::Role,
};

/// What is to be said of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// SHA-256 of its bytes, which is its generation.
    pub digest: [u8; 32],
    /// Its bytes.
    pub size: u64,
    /// What it can be; none where it is refused.
    pub roles: Vec<Role>,
    /// Why a gateway would refuse it.
    pub refused: Option<String>,
    /// What it exports, by name.
    pub exports: Vec<String>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Core modules in it.
    pub modules: usize,
    /// Bytes of their code.
    pub code: u64,
    /// Bytes of memory that an instance begins with.
    pub memory: u64,
    /// The language that it was written in, where its tools tell.
    pub language: Option<&'static str>,
    /// What it was made with, as its tools say.
    pub producers: BTreeSet<Producer>,
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The interface, with its version.
    pub name: String,
    /// What becomes of it.
    pub grant: Grant,
}

/// One entry of a `producers` section
/// (<https://github.com/WebAssembly/tool-conventions/blob/main/ProducersSection.md>).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// `language`, `processed-by` or `sdk`.
    pub field: String,
    /// The language or the tool.
    pub name: String,
    /// Its version, perhaps empty.
    pub version: String,
}

/// Tells what `bytes` are.
///
/// # Errors
/// They are no component; the text says what they are.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, String> {
    recognize(bytes)?;
    let mut found = Found::default();
    found.read(bytes).map_err(|error| format!("it is not a valid component: {error}"))?;
    let interface = interface::inspect(&refs(&found.imports), &refs(&found.exports));
    let (roles, refused) = match interface {
        Ok(interface) => (interface.roles, None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    let import = |name: String| Import { grant: interface::grant(&name), name };
    Ok(Inspection {
        digest: digest(bytes),
        size: bytes.len() as u64,
        roles,
        refused,
        imports: found.imports.into_iter().map(import).collect(),
        exports: found.exports,
        modules: found.modules,
        code: found.code,
        memory: found.memory,
        language: language(&found.producers),
        producers: found.producers,
    })
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// What is gathered on the way through the sections.
#[derive(Default)]
struct Found {
    imports: Vec<String>,
    exports: Vec<String>,
    modules: usize,
    code: u64,
    memory: u64,
    producers: BTreeSet<Producer>,
}

impl Found {
    fn read(&mut self, bytes: &[u8]) -> Result<(), BinaryReaderError> {
        let mut depth = 0_usize; // of modules and components in the component
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ModuleSection { .. } => {
                    depth += 1;
                    self.modules += 1;
                }
                Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        self.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        self.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::CodeSectionStart { size, .. } => self.code += u64::from(size),
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory?;
                        let page = 1_u64 << memory.page_size_log2.unwrap_or(16).min(16);
                        self.memory =
                            self.memory.saturating_add(memory.initial.saturating_mul(page));
                    }
                }
                Payload::CustomSection(section) if section.name() == "producers" => {
                    // A section of a tool's own that cannot be read takes nothing from the component.
                    self.read_producers(section.data()).ok();
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_producers(&mut self, bytes: &[u8]) -> Result<(), BinaryReaderError> {
        for field in ProducersSectionReader::new(BinaryReader::new(bytes, 0))? {
            let field = field?;
            for value in field.values {
                let value = value?;
                self.producers.insert(Producer {
                    field: field.name.into(),
                    name: value.name.into(),
                    version: value.version.into(),
                });
            }
        }
        Ok(())
    }
}

/// A runtime of another language is written in C, C++ or Rust and says so too: the tool that put a program into it counts
/// before every language. Where symbols were stripped, only the tool that made the bindings is left.
fn language(producers: &BTreeSet<Producer>) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 15] = [
        ("componentize-py", "Python"),
        ("componentize-js", "JavaScript"),
        ("componentizejs", "JavaScript"),
        ("starlingmonkey", "JavaScript"),
        ("quickjs", "JavaScript"),
        ("jco", "JavaScript"),
        ("tinygo", "Go"),
        ("go", "Go"),
        ("wit-bindgen-go", "Go"),
        ("rust", "Rust"),
        ("wit-bindgen-rust", "Rust"),
        ("c_plus_plus", "C++"),
        ("c++", "C++"),
        ("c", "C"),
        ("wit-bindgen-c", "C"),
    ];
    let names: Vec<String> =
        producers.iter().map(|producer| producer.name.to_ascii_lowercase()).collect();
    let is = |name: &str, known: &str| match known {
        "go" | "rust" | "wit-bindgen-c" => name == known,
        // C99, C11, C17
        "c" => name
            .strip_prefix('c')
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit())),
        _ => name.starts_with(known),
    };
    KNOWN
        .into_iter()
        .find(|(known, _)| names.iter().any(|name| is(name, known)))
        .map(|(_, language)| language)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> Option<&'static str> {
        let producer = |name: &&str| Producer {
            field: "processed-by".into(),
            name: (*name).into(),
            version: String::new(),
        };
        language(&names.iter().map(producer).collect())
    }

    #[test]
    fn the_language_is_the_programs_and_not_that_of_its_runtime() {
        assert_eq!(said(&["Rust", "rustc", "wit-component", "wit-bindgen-rust"]), Some("Rust"));
        assert_eq!(said(&["C11", "clang", "componentize-py"]), Some("Python"));
        assert_eq!(said(&["Rust", "C_plus_plus_17", "ComponentizeJS"]), Some("JavaScript"));
        assert_eq!(said(&["Go", "Go cmd/compile"]), Some("Go"));
        assert_eq!(said(&["C_plus_plus_14", "clang"]), Some("C++"));
        assert_eq!(said(&["C11", "clang"]), Some("C"));
        assert_eq!(said(&["wit-bindgen-c", "wit-bindgen-rust", "wit-component"]), Some("Rust"));
        assert_eq!(said(&["cargo", "clang", "wit-component"]), None);
        assert_eq!(said(&[]), None);
    }

    #[test]
    fn a_component_is_told_by_its_names_and_sizes() {
        let component = wat::parse_str(
            r#"(component
                (import "wasi:io/poll@0.2.6" (instance))
                (import "acme:secrets/store" (instance))
                (component (import "wasi:cli/run@0.2.0" (instance)))
                (core module (memory 2) (func (export "f") nop)))"#,
        )
        .unwrap();
        let found = inspect(&component).unwrap();
        let imports: Vec<_> =
            found.imports.iter().map(|import| (import.name.as_str(), import.grant)).collect();
        let expected =
            [("wasi:io/poll@0.2.6", Grant::Always), ("acme:secrets/store", Grant::Never)];
        assert_eq!(imports, expected, "and not those of what is in it");
        assert_eq!((found.modules, found.memory, found.size), (1, 2 << 16, component.len() as u64));
        assert!(found.code > 0);
        assert!(found.refused.unwrap().contains("acme:secrets/store"));
    }

    #[test]
    fn what_is_no_component_is_an_error_at_every_length() {
        let component = wat::parse_str("(component (core module (func nop)))").unwrap();
        assert!(inspect(&component).is_ok());
        for length in 0..8 {
            assert!(inspect(&component[..length]).is_err(), "{length}");
        }
        for length in 8..component.len() {
            inspect(&component[..length]).ok(); // whatever it says, it says something
        }
        assert!(inspect(b"hello").unwrap_err().contains("text"));
    }
}
