//! The entries of `allow.http`: what a plugin's outgoing HTTP may reach. Text, what it means, and what it covers.

use std::{fmt, net::IpAddr, sync::Arc};

use super::report::Fault;

/// One entry of `allow.http`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpTarget {
    /// Requests to this scheme, host and port.
    Origin(HttpOrigin),
    /// Names of origins may have these addresses, although they are private.
    Network(HttpNetwork),
}

/// Where requests may go: `https://api.example.com`, `http://10.0.0.7:8080`, `https://*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpOrigin {
    /// Whether it is `https`, and not `http`.
    pub secure: bool,
    /// Which host, or hosts.
    pub host: HttpHost,
    /// Which port.
    pub port: u16,
}

/// Which hosts an entry of `allow.http` stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpHost {
    /// The one of this name, in lower case.
    Name(Arc<str>),
    /// Every host below this domain, and not the domain itself.
    Below(Arc<str>),
    /// The one of this address.
    Address(IpAddr),
}

/// Addresses: `10.0.0.0/8`, `127.0.0.1`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpNetwork {
    /// The first address of the network.
    pub address: IpAddr,
    /// How many of its bits, from the left, are those of every address in it.
    pub prefix: u8,
}

impl HttpTarget {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        match text.split_once("://") {
            Some((scheme, rest)) => origin(scheme, rest).map(Self::Origin),
            None => network(text).map(Self::Network),
        }
    }
}

impl HttpOrigin {
    /// Whether a request to this origin is one to here. The host is a name in any case, or an address.
    pub fn covers(&self, secure: bool, host: &str, port: u16) -> bool {
        let named = match &self.host {
            HttpHost::Name(name) => host.eq_ignore_ascii_case(name),
            HttpHost::Below(domain) => below(host, domain),
            HttpHost::Address(address) => {
                host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical() == *address)
            }
        };
        named && self.secure == secure && self.port == port
    }
}

impl HttpNetwork {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let kept = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & kept == address.to_bits() & kept
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let kept = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & kept == address.to_bits() & kept
            }
            _ => false,
        }
    }
}

/// `a.example.com` is below `example.com`.
fn below(host: &str, domain: &str) -> bool {
    let Some(label) = host.len().checked_sub(domain.len()).and_then(|at| host.get(..at)) else {
        return false;
    };
    label.len() > 1 && label.ends_with('.') && host[label.len()..].eq_ignore_ascii_case(domain)
}

fn origin(scheme: &str, rest: &str) -> Result<HttpOrigin, Fault> {
    let secure = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(Fault::new("not an origin", "begin it with \"https://\" or \"http://\"")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err(Fault::new(
            "more than an origin",
            "give scheme, host and port alone, such as \"https://api.example.com\", which holds for every path",
        ));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None if secure => 443,
        None => 80,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => {
            return Err(Fault::new("not an origin", "give a port from 1 to 65535, or none"));
        }
    };
    Ok(HttpOrigin { secure, host: host_of(host)?, port })
}

fn host_of(text: &str) -> Result<HttpHost, Fault> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = bracketed.unwrap_or(text).parse::<IpAddr>()
        && address.is_ipv6() == bracketed.is_some()
    {
        return Ok(HttpHost::Address(address.to_canonical()));
    }
    let (name, is_below) = match text.strip_prefix("*.") {
        Some(domain) => (domain, true),
        None => (text, false),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // What ends in a number would be an address, in one of the old ways to write one.
    let ends_in_number = name.rsplit('.').next().is_none_or(|last| {
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x")
    });
    if name.len() > 253 || ends_in_number || !name.split('.').all(is_label) {
        return Err(Fault::new(
            "not an origin",
            "give a host's name, \"*.\" and a domain for all hosts below it, or an IP address (one of IPv6 in brackets)",
        ));
    }
    if is_below && !name.contains('.') {
        return Err(Fault::new(
            "too many hosts",
            "give at least two names behind the \"*\", such as \"https://*.example.com\"",
        ));
    }
    let name = name.to_ascii_lowercase().into();
    Ok(if is_below { HttpHost::Below(name) } else { HttpHost::Name(name) })
}

fn network(text: &str) -> Result<HttpNetwork, Fault> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let fault = || {
        Fault::new(
            "neither an origin nor an address",
            "give an origin such as \"https://api.example.com\", or the private addresses that the hosts of origins may \
             have, such as \"10.0.0.0/8\"",
        )
    };
    let address: IpAddr = address.parse().map_err(|_| fault())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(fault)?,
    };
    Ok(HttpNetwork { address, prefix })
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(origin) => origin.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "https://" } else { "http://" })?;
        match &self.host {
            HttpHost::Name(name) => f.write_str(name),
            HttpHost::Below(domain) => write!(f, "*.{domain}"),
            HttpHost::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            HttpHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }?;
        let usual = if self.secure { 443 } else { 80 };
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Display for HttpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        write!(f, "{}", self.address)?;
        if self.prefix == bits { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> HttpOrigin {
        match HttpTarget::parse(text) {
            Ok(HttpTarget::Origin(origin)) => origin,
            other => panic!("{text} is {other:?}"),
        }
    }

    fn network(text: &str) -> HttpNetwork {
        match HttpTarget::parse(text) {
            Ok(HttpTarget::Network(network)) => network,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn an_origin_covers_its_scheme_host_and_port_and_nothing_else() {
        let api = origin("https://API.example.com");
        assert!(api.covers(true, "api.example.com", 443));
        assert!(api.covers(true, "Api.Example.Com", 443));
        for (secure, host, port) in [
            (false, "api.example.com", 443),
            (true, "api.example.com", 8443),
            (true, "example.com", 443),
            (true, "a.api.example.com", 443),
            (true, "api.example.com.", 443),
            (true, "api.example.com.evil.org", 443),
        ] {
            assert!(!api.covers(secure, host, port), "{secure} {host} {port}");
        }
        assert!(origin("http://10.0.0.7:8080/").covers(false, "10.0.0.7", 8080));
        assert!(origin("http://[::1]:8080").covers(false, "::1", 8080));
        assert!(origin("http://10.0.0.7").covers(false, "::ffff:10.0.0.7", 80));
    }

    #[test]
    fn a_star_stands_for_every_host_below_and_not_for_the_domain() {
        let star = origin("https://*.example.com");
        assert!(star.covers(true, "a.example.com", 443));
        assert!(star.covers(true, "A.b.EXAMPLE.com", 443));
        for host in
            ["example.com", ".example.com", "evilexample.com", "com", "", "a.example.com.evil"]
        {
            assert!(!star.covers(true, host, 443), "{host}");
        }
    }

    #[test]
    fn a_network_contains_what_its_prefix_says() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(network("10.0.0.0/8").contains(address("10.255.0.1")));
        assert!(network("10.0.0.0/8").contains(address("::ffff:10.255.0.1")));
        assert!(!network("10.0.0.0/8").contains(address("11.0.0.1")));
        assert!(network("127.0.0.1").contains(address("127.0.0.1")));
        assert!(!network("127.0.0.1").contains(address("127.0.0.2")));
        assert!(network("0.0.0.0/0").contains(address("1.2.3.4")));
        assert!(!network("0.0.0.0/0").contains(address("::1")));
        assert!(network("::/0").contains(address("fe80::1")));
        assert!(network("fd00::/8").contains(address("fd12::1")));
        assert!(!network("fd00::/8").contains(address("fe80::1")));
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        for text in [
            "https://api.example.com",
            "http://api.example.com:8080",
            "https://*.example.com:8443",
            "http://[fd00::1]",
            "10.0.0.0/8",
            "fd00::1",
        ] {
            assert_eq!(HttpTarget::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(origin("http://a.b:80").to_string(), "http://a.b");
    }

    #[test]
    fn what_is_no_entry_is_refused_with_what_would_do() {
        for (text, says) in [
            ("api.example.com", "neither an origin nor an address"),
            ("10.0.0.0/33", "neither an origin nor an address"),
            ("ftp://a.b", "not an origin"),
            ("https://a.b/path", "more than an origin"),
            ("https://user@a.b", "more than an origin"),
            ("https://", "not an origin"),
            ("https://*", "not an origin"),
            ("https://*.com", "too many hosts"),
            ("https://a.*.b", "not an origin"),
            ("https://a.b:0", "not an origin"),
            ("https://a.b:x", "not an origin"),
            ("http://127.1", "not an origin"),
            ("http://0x7f000001", "not an origin"),
            ("http://::1", "not an origin"),
            ("https://b\u{fc}cher.example", "not an origin"),
        ] {
            let fault = HttpTarget::parse(text).unwrap_err();
            assert_eq!(fault.wrong, says, "{text}");
        }
    }
}
