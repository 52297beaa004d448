//! The configuration as commands need it: loaded when one does, every mistake at once.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use super::Error;
use crate::config::{self, Config};

/// Where the admin port of a gateway is, when nothing says otherwise.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);

/// Where the configuration is.
#[derive(Debug)]
pub(super) struct Settings {
    path: Option<PathBuf>,
}

impl Settings {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// The same, with this file where none was named.
    pub(super) fn or(&self, file: PathBuf) -> Self {
        Self::new(Some(self.path.clone().unwrap_or(file)))
    }

    /// The file that is read, which need not be there.
    pub(super) fn file(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| config::FILE.into())
    }

    /// Everything that the file and the environment say.
    ///
    /// # Errors
    /// Whatever is wrong with them, all of it, as wrong usage.
    pub(super) fn load(&self) -> Result<Arc<Config>, Error> {
        self.load_from_file().map(|loaded| Arc::new(loaded.config))
    }

    /// The same, and the file that it came from.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub(super) fn load_from_file(&self) -> Result<config::Loaded, Error> {
        Config::load(self.path.as_deref(), std::env::vars_os())
            .map_err(|errors| Error::Usage(errors.to_string()))
    }

    /// The URL of the gateway's admin port.
    pub(super) fn admin_url(config: &Config) -> String {
        url(config.admin.listen.unwrap_or(ADMIN))
    }

    /// The URL of the gateway's data port.
    pub(super) fn http_url(config: &Config) -> String {
        url(config.http.listen)
    }
}

/// A URL that reaches what listens on `address`: one that listens everywhere listens on loopback too.
pub(super) fn url(address: SocketAddr) -> String {
    let reachable: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(reachable, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_on_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:8081", "http://127.0.0.1:8081"),
            ("[::]:8081", "http://[::1]:8081"),
            ("10.1.2.3:80", "http://10.1.2.3:80"),
        ] {
            assert_eq!(url(listen.parse().unwrap()), reached);
        }
    }
}
