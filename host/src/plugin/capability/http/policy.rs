//! Where requests may go. Pure: no socket, no name is looked up.
//!
//! A request is judged twice: by its URL, before anything is done, and by the addresses that its host turns out to have,
//! each time a connection is made. So a name that is allowed leads to a private address only where that address is
//! allowed too, whatever the name server says and whenever it says something else.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use hyper::{Method, Uri};
use wasmtime_wasi_http::Error;

use crate::config::{HttpHost, HttpNetwork, HttpOrigin, HttpTarget};

/// What a use of a plugin may reach.
#[derive(Debug)]
pub(super) struct Policy {
    origins: Vec<HttpOrigin>,
    networks: Vec<HttpNetwork>,
}

/// Why a request was not sent. As text it tells the operator what to write to allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("a request to {origin} is refused; to allow it, put {:?} into `allow.http`", .origin.to_string())]
    Origin { origin: HttpOrigin },
    #[error(
        "a request to {host} is refused, because its address {address} is not a public one; to allow it, put {:?} into \
         `allow.http` too", .address.to_string()
    )]
    Address { host: String, address: IpAddr },
    #[error("a request is refused: {0}")]
    Malformed(&'static str),
    #[error(
        "a request is refused, whatever `allow.http` says: this generation runs as a shadow, and what it asks for would be \
         done twice"
    )]
    Shadow,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Origin { .. } | Refusal::Shadow => Self::HttpRequestDenied,
            Refusal::Address { .. } => Self::DestinationIpProhibited,
            Refusal::Malformed(_) => Self::HttpRequestUriInvalid,
        }
    }
}

impl Policy {
    pub(super) fn new(targets: &BTreeSet<HttpTarget>) -> Self {
        let (mut origins, mut networks) = (Vec::new(), Vec::new());
        for target in targets {
            match target {
                HttpTarget::Origin(origin) => origins.push(origin.clone()),
                HttpTarget::Network(network) => networks.push(*network),
            }
        }
        Self { origins, networks }
    }

    /// Judges a request by its URL.
    pub(super) fn request(&self, method: &Method, uri: &Uri) -> Result<(), Refusal> {
        if method == Method::CONNECT {
            return Err(Refusal::Malformed("a tunnel (CONNECT) is no request"));
        }
        let origin = requested(uri)?;
        let host = match &origin.host {
            HttpHost::Address(address) => address.to_string(),
            HttpHost::Name(name) | HttpHost::Below(name) => name.to_string(),
        };
        let covered =
            self.origins.iter().any(|allowed| allowed.covers(origin.secure, &host, origin.port));
        if covered { Ok(()) } else { Err(Refusal::Origin { origin }) }
    }

    /// Judges an address that a host's name has. The host has passed [`Policy::request`].
    pub(super) fn address(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        let address = address.to_canonical();
        // Whoever allows localhost by name knows where it leads.
        let local = host.eq_ignore_ascii_case("localhost") && address.is_loopback();
        let named = || self.networks.iter().any(|network| network.contains(address));
        if local || is_public(address) || named() {
            return Ok(());
        }
        Err(Refusal::Address { host: host.into(), address })
    }
}

/// The origin of a request's URL.
fn requested(uri: &Uri) -> Result<HttpOrigin, Refusal> {
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(Refusal::Malformed("its scheme is neither http nor https")),
    };
    let authority = uri.authority().ok_or(Refusal::Malformed("its URL has no host"))?;
    if authority.as_str().contains('@') {
        return Err(Refusal::Malformed(
            "its URL has a user; give an `authorization` header instead",
        ));
    }
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() {
        return Err(Refusal::Malformed("its URL has no host"));
    }
    let host = match bare.parse::<IpAddr>() {
        Ok(address) => HttpHost::Address(address.to_canonical()),
        Err(_) => HttpHost::Name(bare.to_ascii_lowercase().into()),
    };
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None if secure => 443,
        None => 80,
    };
    Ok(HttpOrigin { secure, host, port })
}

/// Whether an address is one of the public internet, by the special-purpose registries of IANA. The standard library has
/// this as `is_global`, which is not stable.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a >= 240 // reserved
        || (a == 100 && b & 0xc0 == 64) // shared by carriers
        || (a, b, c) == (192, 0, 0) // of protocols
        || (a, b, c) == (192, 88, 99) // relays of 6to4, as was
        || (a == 198 && b & 0xfe == 18); // benchmarks
    !special
}

/// Only what is given out of 2000::/3 is public, and of that not what leads elsewhere or nowhere. An address that stands
/// for one of IPv4 is judged as that one.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low), // NAT64
        [0x2002, high, low, ..] => v4(high, low),               // 6to4
        [0x2001, second, ..] if second < 0x200 => false,        // Teredo, benchmarks, ORCHID
        [0x2001, 0xdb8, ..] => false,                           // documentation
        [0x3fff, second, ..] if second < 0x1000 => false,       // documentation
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(targets: &[HttpTarget]) -> Policy {
        Policy::new(&targets.iter().cloned().collect())
    }

    fn origin(secure: bool, host: HttpHost, port: u16) -> HttpTarget {
        HttpTarget::Origin(HttpOrigin { secure, host, port })
    }

    fn judged(policy: &Policy, uri: &str) -> Result<(), Refusal> {
        policy.request(&Method::GET, &uri.parse().unwrap())
    }

    #[test]
    fn a_request_goes_only_where_an_origin_covers_it() {
        let policy = policy(&[
            origin(true, HttpHost::Name("api.example.com".into()), 443),
            origin(false, HttpHost::Address([10, 0, 0, 7].into()), 8080),
            origin(true, HttpHost::Below("example.org".into()), 443),
        ]);
        for uri in [
            "https://api.example.com/a?b=c",
            "https://API.example.com:443/",
            "http://10.0.0.7:8080/",
            "http://[::ffff:10.0.0.7]:8080/",
            "https://a.example.org/",
        ] {
            assert_eq!(judged(&policy, uri), Ok(()), "{uri}");
        }
        for uri in [
            "http://api.example.com/",
            "https://api.example.com:8443/",
            "https://api.example.com./",
            "https://example.org/",
            "http://10.0.0.8:8080/",
            "http://167772167:8080/",
            "https://[::1]/",
        ] {
            assert!(matches!(judged(&policy, uri), Err(Refusal::Origin { .. })), "{uri}");
        }
        for uri in ["https://user@api.example.com/", "/path", "ftp://api.example.com/"] {
            assert!(matches!(judged(&policy, uri), Err(Refusal::Malformed(_))), "{uri}");
        }
        let tunnel = policy.request(&Method::CONNECT, &"https://api.example.com/".parse().unwrap());
        assert!(matches!(tunnel, Err(Refusal::Malformed(_))));
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        let refusal = judged(&policy(&[]), "https://Evil.example:8443/x").unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "a request to https://evil.example:8443 is refused; to allow it, put \"https://evil.example:8443\" into \
             `allow.http`"
        );
        let refusal = policy(&[]).address("db.internal", [10, 0, 0, 7].into()).unwrap_err();
        assert!(
            refusal.to_string().contains("put \"10.0.0.7\" into `allow.http` too"),
            "{refusal}"
        );
    }

    #[test]
    fn a_name_leads_to_a_private_address_only_where_that_is_named_too() {
        let network = HttpNetwork { address: [10, 0, 0, 0].into(), prefix: 8 };
        let named = policy(&[HttpTarget::Network(network)]);
        let none = policy(&[]);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(named.address("a.b", address("10.1.2.3")), Ok(()));
        assert_eq!(named.address("a.b", address("::ffff:10.1.2.3")), Ok(()));
        assert!(named.address("a.b", address("192.168.1.1")).is_err());
        assert!(none.address("a.b", address("10.1.2.3")).is_err());
        assert_eq!(none.address("localhost", address("127.0.0.1")), Ok(()));
        assert_eq!(none.address("localhost", address("::1")), Ok(()));
        assert!(none.address("localhost", address("10.1.2.3")).is_err());
        assert!(none.address("localhost.evil.org", address("127.0.0.1")).is_err());
    }

    #[test]
    fn an_address_of_a_special_purpose_is_not_public() {
        for public in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "2002:a00:1::",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }
}
