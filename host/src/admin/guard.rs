//! Keeps web pages of other origins out: a browser on this machine reaches a loopback port, and so does every page in
//! it.
//!
//! Two ways in are closed. A page that posts to the port directly (request forgery) is told by `Sec-Fetch-Site` and
//! `Origin`. A page whose own name is made to resolve to 127.0.0.1 (DNS rebinding) looks like the same origin, but
//! keeps its name in `Host`: a port that listens on loopback therefore answers to the names of loopback only. No
//! CORS header is ever sent. Programs that are no browser send none of these headers and are let through.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, StatusCode, header, uri::Authority};

use super::problem::Problem;

/// Whether a request may be served by the port that listens on `listen`.
pub(super) fn check(
    listen: SocketAddr,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let host = text(headers, "host").and_then(|host| host.parse::<Authority>().ok());
    if listen.ip().is_loopback()
        && let Some(host) = &host
        && !is_loopback(host)
    {
        return Err(refused(format!(
            "this port listens on loopback and answers to localhost, 127.0.0.1 and [::1], not to {host}"
        )));
    }
    if method.is_safe() || is_same_site(host.as_ref(), headers) {
        return Ok(());
    }
    Err(refused("the request comes from a page of another origin".into()))
}

fn is_same_site(host: Option<&Authority>, headers: &HeaderMap) -> bool {
    let site =
        text(headers, "sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let origin = text(headers, header::ORIGIN.as_str()).is_none_or(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some() && authority == host.map(Authority::as_str)
    });
    site && origin
}

fn is_loopback(host: &Authority) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A header as text; one that is not text can match nothing, which is what an empty one does.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

fn refused(detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "cross-site-request", detail)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn allowed(listen: &str, method: Method, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        check(listen.parse().unwrap(), &method, &headers).is_ok()
    }

    const LOOPBACK: &str = "127.0.0.1:8082";
    const ANYWHERE: &str = "0.0.0.0:8082";

    #[test]
    fn programs_that_are_no_browser_may_post() {
        assert!(allowed(LOOPBACK, Method::POST, &[("host", "127.0.0.1:8082")]));
        assert!(allowed(LOOPBACK, Method::POST, &[]));
        assert!(allowed(ANYWHERE, Method::POST, &[("host", "keyway.internal:8082")]));
    }

    #[test]
    fn the_status_page_itself_may_post() {
        for host in ["localhost:8082", "127.0.0.1:8082", "[::1]:8082"] {
            let origin: &'static str = Box::leak(format!("http://{host}").into_boxed_str());
            let headers = [("host", host), ("origin", origin), ("sec-fetch-site", "same-origin")];
            assert!(allowed(LOOPBACK, Method::POST, &headers), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_may_not_post() {
        let host = ("host", "localhost:8082");
        for header in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "http://localhost:8081"),
            ("origin", "https://example.com"),
            ("origin", "null"),
        ] {
            assert!(!allowed(LOOPBACK, Method::POST, &[host, header]), "{header:?}");
            assert!(!allowed(ANYWHERE, Method::POST, &[host, header]), "{header:?}");
        }
    }

    #[test]
    fn a_name_that_was_made_to_resolve_to_loopback_is_refused_even_for_reading() {
        let headers = [("host", "rebound.example:8082"), ("origin", "http://rebound.example:8082")];
        assert!(!allowed(LOOPBACK, Method::GET, &headers));
        assert!(!allowed("[::1]:8082", Method::POST, &headers));
    }
}
