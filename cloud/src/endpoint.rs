//! Where a service is: scheme, host, port.

use std::fmt::{self, Formatter};
use std::str::FromStr;

/// Where a service is. Paths are the requests' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
}

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no endpoint: write `http://HOST`, `https://HOST`, each with `:PORT` where it is another than usual")]
pub struct InvalidEndpoint(String);

impl Endpoint {
    /// HTTPS on its usual port.
    #[must_use]
    pub fn https(host: impl Into<String>) -> Self {
        Self { tls: true, host: host.into(), port: 443 }
    }

    /// HTTP on its usual port.
    #[must_use]
    pub fn http(host: impl Into<String>) -> Self {
        Self { tls: false, host: host.into(), port: 80 }
    }

    /// Whether it is spoken to by TLS.
    #[must_use]
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// As it stands in the header `Host`.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let wrong = || InvalidEndpoint(text.chars().take(200).collect());
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let usual = if tls { 443 } else { 80 };
        let (host, port) = if let Some(inside) = rest.strip_prefix('[') {
            let (host, after) = inside.split_once(']').ok_or_else(wrong)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (host, after.strip_prefix(':').or(if after.is_empty() { Some("") } else { None }).ok_or_else(wrong)?)
        } else {
            rest.split_once(':').unwrap_or((rest, ""))
        };
        let port = if port.is_empty() { usual } else { port.parse().map_err(|_| wrong())? };
        let proper = !host.is_empty()
            && port != 0
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'));
        if !proper {
            return Err(wrong());
        }
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_and_written() {
        for (text, shown) in [
            ("http://169.254.169.254", "http://169.254.169.254"),
            ("http://169.254.169.254:80/", "http://169.254.169.254"),
            ("https://autoscaling.eu-west-1.amazonaws.com", "https://autoscaling.eu-west-1.amazonaws.com"),
            ("http://[fd00:ec2::254]:8080", "http://[fd00:ec2::254]:8080"),
            ("http://[fd00:ec2::254]", "http://[fd00:ec2::254]"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for bad in ["", "ftp://a", "http://", "http://a:0", "http://a/b", "http://u:p@a", "http://a b", "http://[a]"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
