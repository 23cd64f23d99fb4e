//! The HTTP proxy on the way to the controller: from the file, or from the environment as other programs take it.
//!
//! Invariant: user and password are a [`Secret`] from the moment they are read, and a configuration file cannot hold them.

use std::net::IpAddr;
use std::path::PathBuf;

use longshore_core::secret::Secret;

use super::Address;

/// An HTTP proxy that connections to the controller are asked of with `CONNECT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How this agent proves that it may use the proxy.
    pub credentials: Option<Credentials>,
    /// Where the proxy was set, for messages: `field `proxy`` or an environment variable.
    pub set_by: &'static str,
}

/// User and password for the proxy, as `user:password`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// In a file, which is read for each connection, so that it can be replaced.
    File(PathBuf),
    /// In the URL of an environment variable.
    Given(Secret),
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.host, self.port)
        }
    }
}

/// What the environment says of proxies.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    proxy: Option<(&'static str, String)>,
    exceptions: String,
}

impl Environment {
    /// Keeps a variable if it is one of those that other programs use. Lowercase names go first, as they do elsewhere.
    pub(super) fn take(&mut self, name: &str, value: &str) {
        match name {
            "https_proxy" if !value.is_empty() => self.proxy = Some(("https_proxy", value.to_owned())),
            "HTTPS_PROXY" if !value.is_empty() && self.proxy.is_none() => {
                self.proxy = Some(("HTTPS_PROXY", value.to_owned()));
            }
            "no_proxy" => value.clone_into(&mut self.exceptions),
            "NO_PROXY" if self.exceptions.is_empty() => value.clone_into(&mut self.exceptions),
            _ => {}
        }
    }

    /// The proxy for this controller, if the environment names one and does not except it. An error never holds the value,
    /// in which a password may stand.
    pub(super) fn proxy(&self, controller: &Address) -> Result<Option<Proxy>, (String, String)> {
        let Some((variable, url)) = &self.proxy else { return Ok(None) };
        if excepted(&self.exceptions, controller) {
            return Ok(None);
        }
        let (proxy, userinfo) = parse(url).map_err(|message| ((*variable).to_owned(), message))?;
        let credentials = userinfo.map(|userinfo| Credentials::Given(Secret::new(decoded(userinfo))));
        Ok(Some(Proxy { credentials, set_by: variable, ..proxy }))
    }
}

/// The proxy of the configuration file. `none` stands for no proxy, whatever the environment says.
pub(super) fn of_file(url: &str, credentials: Option<PathBuf>) -> Result<Option<Proxy>, String> {
    if url == "none" {
        return Ok(None);
    }
    let (proxy, userinfo) = parse(url)?;
    if userinfo.is_some() {
        return Err(
            "user and password may not stand in it; write them to a file of mode 0600 as `user:password` and set \
                    `proxy_credentials_file`"
                .to_owned(),
        );
    }
    Ok(Some(Proxy { credentials: credentials.map(Credentials::File), ..proxy }))
}

/// Host, port and what stands before `@`. The text is not repeated in the error.
fn parse(url: &str) -> Result<(Proxy, Option<&str>), String> {
    let unlike = || "is not of the form http://HOST:PORT".to_owned();
    if url.starts_with("https://") {
        return Err(
            "is a proxy over TLS, which is not supported; give one of the form http://HOST:PORT (what goes through it \
                    is encrypted by the agent)"
                .to_owned(),
        );
    }
    let rest = url.strip_prefix("http://").or_else(|| (!url.contains("://")).then_some(url)).ok_or_else(unlike)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (userinfo, place) = rest.rsplit_once('@').map_or((None, rest), |(userinfo, place)| (Some(userinfo), place));
    let (host, port) = super::file::host_and_port(place).ok_or_else(unlike)?;
    Ok((Proxy { host, port, credentials: None, set_by: "field `proxy`" }, userinfo))
}

/// Percent-encoding undone; what is none stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a list as in `NO_PROXY` names the controller: `*`, names with all that is below them, addresses, networks
/// (`10.0.0.0/8`), each with or without a port. This machine itself never needs a proxy.
fn excepted(list: &str, controller: &Address) -> bool {
    let host = controller.host.trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let (name, port) = match super::file::host_and_port(entry) {
            Some((name, port)) if entry.parse::<IpAddr>().is_err() => (name, Some(port)),
            _ => (entry.trim_start_matches('[').trim_end_matches(']').to_owned(), None),
        };
        let name = name.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        let matches = match address {
            Some(address) => name.parse() == Ok(address) || within(&name, address),
            None => host == name || host.strip_suffix(&name).is_some_and(|above| above.ends_with('.')),
        };
        matches && port.is_none_or(|port| port == controller.port)
    })
}

/// Whether an address is in a network as in `10.0.0.0/8` or `fd00::/8`.
fn within(network: &str, address: IpAddr) -> bool {
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let same = |a: u128, b: u128, bits: u32| length <= bits && (length == 0 || (a ^ b) >> (bits - length) == 0);
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => same(base.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(base), IpAddr::V6(address)) => same(base.to_bits(), address.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> Address {
        Address { host: host.to_owned(), port: 8441 }
    }

    fn of(variables: &[(&str, &str)], controller: &str) -> Result<Option<Proxy>, (String, String)> {
        let mut environment = Environment::default();
        variables.iter().for_each(|(name, value)| environment.take(name, value));
        environment.proxy(&at(controller))
    }

    #[test]
    fn the_environment_is_taken_as_other_programs_take_it() {
        let proxy = of(&[("HTTPS_PROXY", "http://alice:p%40ss@proxy.example:3128/")], "c.example").unwrap().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port, proxy.set_by), ("proxy.example", 3128, "HTTPS_PROXY"));
        let Some(Credentials::Given(given)) = &proxy.credentials else { panic!("{proxy:?}") };
        assert_eq!(given.expose(), "alice:p@ss");
        assert!(!format!("{proxy:?} {proxy}").contains("p@ss"));
        let lower = of(&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "b:2")], "c.example").unwrap().unwrap();
        assert_eq!(lower.to_string(), "http://b:2");
        let six = of(&[("https_proxy", "http://[fd00::1]:3128")], "c.example").unwrap().unwrap();
        assert_eq!((six.host.as_str(), six.to_string().as_str()), ("fd00::1", "http://[fd00::1]:3128"));
        assert_eq!(of(&[("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", ".example")], "c.example"), Ok(None));
        assert_eq!(of(&[("HTTPS_PROXY", "")], "c.example"), Ok(None));
    }

    #[test]
    fn a_wrong_proxy_is_named_without_its_password() {
        for url in ["http://u:hunter2@proxy", "socks5://u:hunter2@p:1", "https://u:hunter2@p:1", "http://u:hunter2@:1"]
        {
            let (variable, message) = of(&[("HTTPS_PROXY", url)], "c.example").unwrap_err();
            assert!(variable == "HTTPS_PROXY" && message.contains("http://HOST:PORT"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        let message = of_file("http://u:hunter2@p:1", None).unwrap_err();
        assert!(message.contains("proxy_credentials_file") && !message.contains("hunter2"), "{message}");
        assert_eq!(of_file("none", None), Ok(None));
    }

    #[test]
    fn exceptions_are_names_addresses_and_networks() {
        for (list, host) in [
            ("*", "c.example"),
            ("x, c.example", "c.example"),
            ("example", "c.example"),
            (".example", "C.Example."),
            ("*.example:8441", "c.example"),
            ("10.0.0.0/8", "10.9.8.7"),
            ("10.9.8.7:8441", "10.9.8.7"),
            ("fd00::/8", "fd12::1"),
            ("[fd12::1]:8441", "fd12::1"),
            ("fd12::1", "fd12::1"),
            ("", "localhost"),
            ("", "::1"),
            ("", "127.0.0.9"),
        ] {
            assert!(excepted(list, &at(host)), "{list} {host}");
        }
        for (list, host) in [
            ("", "c.example"),
            ("ample", "c.example"),
            ("c.example:443", "c.example"),
            ("10.0.0.0/8", "11.9.8.7"),
            ("10.0.0.0/99", "10.0.0.0"),
            ("fd00::/8", "10.9.8.7"),
        ] {
            assert!(!excepted(list, &at(host)), "{list} {host}");
        }
    }
}
