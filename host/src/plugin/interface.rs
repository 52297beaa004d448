//! What a component is and wants, judged by the names it exports and imports. Pure: no engine, no file.

use super::{capability::logging::cut, status::Role};

/// The packages whose interfaces a handler or a key selector may be built for, in the version that this gateway speaks.
const SPOKEN: [(&str, &str); 3] = [
    ("keyway:plugin", "0.1.0"),
    ("wasi:messaging", "0.2.0-draft"),
    ("wasmcloud:messaging", "0.2.0"),
];
/// What makes a component a handler, the first that it has.
const HANDLERS: [(&str, HandlerInterface); 3] = [
    ("keyway:plugin/handler", HandlerInterface::Keyway),
    ("wasi:messaging/incoming-handler", HandlerInterface::Wasi),
    ("wasmcloud:messaging/handler", HandlerInterface::WasmCloud),
];
/// What every plugin may import. A name that ends in `/` stands for all interfaces of that package.
const GRANTED: [(&str, Grant); 17] = [
    ("keyway:plugin/metrics", Grant::Always),
    ("keyway:plugin/types", Grant::Always),
    ("wasi:cli/", Grant::Always),
    ("wasi:clocks/", Grant::Always),
    ("wasi:config/store", Grant::Always),
    ("wasi:filesystem/", Grant::Always),
    ("wasi:http/outgoing-handler", Grant::Http),
    ("wasi:http/types", Grant::Always),
    ("wasi:io/", Grant::Always),
    ("wasi:logging/logging", Grant::Always),
    ("wasi:messaging/producer", Grant::Topics),
    ("wasi:messaging/request-reply", Grant::Always), // each call is an error
    ("wasi:messaging/types", Grant::Always),
    ("wasi:random/", Grant::Always),
    ("wasi:sockets/", Grant::Always), // all are closed, but Python's runtime does not load without them
    ("wasmcloud:messaging/consumer", Grant::Topics),
    ("wasmcloud:messaging/types", Grant::Always),
];

/// What becomes of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Every plugin has it. There is nothing in `wasi:sockets` and the parts of `wasi:cli` and `wasi:filesystem`:
    /// language runtimes want them.
    Always,
    /// It reaches what `allow.http` of the use lets it reach, which without a word is nothing.
    Http,
    /// It reaches the group's `output-topic` and what `allow.topics` of the use lets it reach.
    Topics,
    /// A plugin that imports it is refused.
    Never,
}

/// What a component offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// What it can be, at least one.
    pub(super) roles: Vec<Role>,
    /// How it is called as a handler, where it is one.
    pub(super) handler: Option<HandlerInterface>,
    /// Whether it wants `init` to be called.
    pub(super) lifecycle: bool,
}

/// The interface that a handler is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandlerInterface {
    Keyway,
    Wasi,
    WasmCloud,
}

/// Reads the names; an error says in words what a plugin may not be.
pub(super) fn inspect(imports: &[&str], exports: &[&str]) -> Result<Interface, String> {
    for name in imports.iter().chain(exports) {
        supported(name)?;
    }
    let forbidden: Vec<&str> =
        imports.iter().copied().filter(|name| grant(name) == Grant::Never).collect();
    if !forbidden.is_empty() {
        return Err(format!(
            "it imports {}, which this gateway does not grant; a plugin may import {}",
            listed(&forbidden),
            GRANTED
                .map(|(name, _)| if name.ends_with('/') { format!("{name}*") } else { name.into() })
                .join(", ")
        ));
    }
    let exported = |interface: &str| exports.iter().any(|name| unversioned(name) == interface);
    let handler = HANDLERS.iter().find(|(name, _)| exported(name)).map(|(_, handler)| *handler);
    let selector = exported(Role::Selector.interface());
    let roles: Vec<Role> = handler
        .map(|_| Role::Handler)
        .into_iter()
        .chain(selector.then_some(Role::Selector))
        .collect();
    if roles.is_empty() {
        return Err(format!(
            "it exports neither {} nor {}, but {}",
            Role::Handler.interface(),
            Role::Selector.interface(),
            if exports.is_empty() { "nothing".into() } else { listed(exports) }
        ));
    }
    Ok(Interface { roles, handler, lifecycle: exported("keyway:plugin/lifecycle") })
}

impl Role {
    /// The interface that makes a component this, without its version.
    pub(super) fn interface(self) -> &'static str {
        match self {
            Self::Handler => "keyway:plugin/handler",
            Self::Selector => "keyway:plugin/selector",
        }
    }
}

/// The first ten of the names, and how many more there are: a component may have thousands.
fn listed(names: &[&str]) -> String {
    let (shown, more) = names.split_at(names.len().min(10));
    let shown = shown.iter().map(|name| cut(name, 200)).collect::<Vec<_>>().join(", ");
    if more.is_empty() { shown } else { format!("{shown} and {} more", more.len()) }
}

fn unversioned(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

/// What becomes of an import of this name.
pub(super) fn grant(import: &str) -> Grant {
    let interface = unversioned(import);
    let known = GRANTED.iter().find(|(granted, _)| {
        if granted.ends_with('/') { interface.starts_with(granted) } else { interface == *granted }
    });
    known.map_or(Grant::Never, |(_, grant)| *grant)
}

/// Versions that differ only in the last number are compatible; a draft is with itself alone.
fn supported(name: &str) -> Result<(), String> {
    let Some((package, rest)) = name.split_once('/') else { return Ok(()) };
    let Some((_, version)) = SPOKEN.iter().find(|(spoken, _)| *spoken == package) else {
        return Ok(());
    };
    let given = rest.split_once('@').map_or("", |(_, version)| version);
    let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    let is_draft = version.contains('-') || given.contains('-');
    let fits = if is_draft { given == *version } else { minor(given) == minor(version) };
    if fits {
        return Ok(());
    }
    Err(format!("it is built for {package}@{given}, this gateway supports {package}@{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: &str = "keyway:plugin/handler@0.1.0";
    const SELECTOR: &str = "keyway:plugin/selector@0.1.0";

    #[test]
    fn exports_make_the_roles() {
        let roles = |exports: &[&str]| inspect(&[], exports).map(|interface| interface.roles);
        assert_eq!(roles(&[HANDLER]), Ok(vec![Role::Handler]));
        assert_eq!(roles(&[SELECTOR, HANDLER]), Ok(vec![Role::Handler, Role::Selector]));
        let error = roles(&["wasi:cli/run@0.2.0"]).unwrap_err();
        assert!(
            error.contains("keyway:plugin/handler") && error.contains("wasi:cli/run@0.2.0"),
            "{error}"
        );
        assert!(roles(&[]).unwrap_err().ends_with("but nothing"));
    }

    #[test]
    fn a_handler_of_another_host_is_a_handler_and_its_own_interface_comes_first() {
        const WASI: &str = "wasi:messaging/incoming-handler@0.2.0-draft";
        const WASMCLOUD: &str = "wasmcloud:messaging/handler@0.2.0";
        let handler = |exports: &[&str]| inspect(&[], exports).unwrap().handler;
        assert_eq!(handler(&[WASMCLOUD]), Some(HandlerInterface::WasmCloud));
        assert_eq!(handler(&[WASI]), Some(HandlerInterface::Wasi));
        assert_eq!(handler(&[WASMCLOUD, HANDLER]), Some(HandlerInterface::Keyway));
        assert_eq!(handler(&[SELECTOR]), None);
        assert_eq!(inspect(&[], &[WASMCLOUD, SELECTOR]).unwrap().roles.len(), 2);
        assert_eq!(grant("wasmcloud:messaging/consumer@0.2.0"), Grant::Topics);
        assert_eq!(grant("wasi:messaging/producer@0.2.0-draft"), Grant::Topics);
    }

    #[test]
    fn the_lifecycle_is_optional() {
        let lifecycle = |exports: &[&str]| inspect(&[], exports).unwrap().lifecycle;
        assert!(!lifecycle(&[HANDLER]));
        assert!(lifecycle(&[HANDLER, "keyway:plugin/lifecycle@0.1.0"]));
    }

    #[test]
    fn every_import_that_is_not_granted_is_named() {
        let imports =
            ["wasi:io/poll@0.2.6", "wasi:keyvalue/store@0.2.0", "acme:secrets/store", "bare"];
        let error = inspect(&imports, &[HANDLER]).unwrap_err();
        assert!(error.contains("wasi:keyvalue/store@0.2.0, acme:secrets/store, bare,"), "{error}");
        let granted = [
            "wasi:cli/stderr@0.2.6",
            "wasi:logging/logging@0.1.0-draft",
            "keyway:plugin/types@0.1.0",
        ];
        assert!(inspect(&granted, &[HANDLER]).is_ok());
    }

    #[test]
    fn another_version_of_the_interface_is_refused_with_both_versions_named() {
        let error = inspect(&[], &["keyway:plugin/handler@0.2.0"]).unwrap_err();
        assert!(
            error.contains("keyway:plugin@0.2.0") && error.contains("keyway:plugin@0.1.0"),
            "{error}"
        );
        let error = inspect(&[], &["wasmcloud:messaging/handler@0.1.0"]).unwrap_err();
        assert!(error.contains(
            "wasmcloud:messaging@0.1.0, this gateway supports wasmcloud:messaging@0.2.0"
        ));
        let error = inspect(&[], &["wasi:messaging/incoming-handler@0.2.0"]).unwrap_err();
        assert!(
            error.contains("this gateway supports wasi:messaging@0.2.0-draft"),
            "a draft is no release: {error}"
        );
        assert!(inspect(&[], &["keyway:plugin/handler@0.1.7"]).is_ok());
        assert!(inspect(&[], &["keyway:plugin/handler"]).is_err());
    }
}
