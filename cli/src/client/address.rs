//! The server's address.

use reqwest::Url;

/// An address that can be called: `http` or `https`, a host, perhaps a path before `/api/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    base: Url,
    shown: String,
}

/// Why a text is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the address of a server: write it as `http://HOST:PORT` or `https://HOST`")]
pub struct InvalidAddress {
    text: String,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`InvalidAddress`]
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress { text: text.chars().take(200).collect() };
        let base = Url::parse(text.trim()).map_err(|_| invalid())?;
        let plain = base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() || !plain {
            return Err(invalid());
        }
        let shown = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, shown })
    }

    /// As it is shown, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether it is a loopback address.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let host = self.base.host_str().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// The URL of a path under `/api/v1`; every segment is escaped.
    #[must_use]
    pub fn url<'a>(&self, segments: impl Iterator<Item = &'a str>) -> Url {
        self.join(["api", "v1"].into_iter().chain(segments))
    }

    /// The URL of a name beside `/api`, such as `readyz`.
    #[must_use]
    pub fn outside(&self, name: &str) -> Url {
        self.join([name].into_iter())
    }

    fn join<'a>(&self, segments: impl Iterator<Item = &'a str>) -> Url {
        let mut url = self.base.clone();
        // An http URL always has path segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped() {
        let address = Address::parse("https://deploy.example/longshore/").unwrap();
        assert_eq!(address.as_str(), "https://deploy.example/longshore");
        assert_eq!(
            address.url(["projects", "a/b?c"].into_iter()).as_str(),
            "https://deploy.example/longshore/api/v1/projects/a%2Fb%3Fc"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "localhost:1", "ftp://x", "http://", "http://user:pass@host", "http://host/?a=b"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_known() {
        for (text, local) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().is_local(), local, "{text}");
        }
    }
}
