//! Asks an HTTP proxy for a connection to the controller (`CONNECT`).
//!
//! What is said here is about the proxy; what the controller does is TLS's business afterwards. User and password go to
//! the proxy and into no message.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use longshore_core::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::config::{Address, Credentials, Proxy};

/// Longest head of an answer.
const MOST: usize = 16 << 10;
/// The proxy's part of the time for a connection: it may wait for the controller in vain and should get to say so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Why a proxy gives no connection. Each message says that it is the proxy's and not the controller's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The proxy itself is not there.
    #[error("the proxy {proxy} (set by {set_by}) cannot be reached; the controller was not tried")]
    Unreached {
        /// Where it should be.
        proxy: String,
        /// Who says so.
        set_by: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file with user and password.
    #[error("cannot read user and password for the proxy from `{path}`; the proxy was not asked")]
    Credentials {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// 407.
    #[error("the proxy {proxy} {}", if *.given { "refuses the user and password it was given" } else { "wants a user and a password; write them to a file as `user:password` and set `proxy_credentials_file`" })]
    Denied {
        /// Where it is.
        proxy: String,
        /// Whether it was given any.
        given: bool,
    },
    /// The proxy does not reach the controller.
    #[error("the proxy {proxy} works but does not reach the controller at {to}: it answered `{status}`")]
    NoWay {
        /// Where it is.
        proxy: String,
        /// Where it was to connect to.
        to: String,
        /// What it answered.
        status: String,
    },
    /// Any other answer.
    #[error(
        "the proxy {proxy} refuses to connect to {to}: it answered `{status}`; permit that place and port in the proxy"
    )]
    Refused {
        /// Where it is.
        proxy: String,
        /// Where it was to connect to.
        to: String,
        /// What it answered.
        status: String,
    },
    /// No answer, or none that is HTTP.
    #[error("what answers at the proxy's address {proxy} is no HTTP proxy")]
    NoProxy {
        /// Where it should be.
        proxy: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A connection to `to`, through the proxy.
pub(super) async fn through(proxy: &Proxy, to: &Address) -> Result<TcpStream, Error> {
    let unreached = |source| Error::Unreached { proxy: proxy.to_string(), set_by: proxy.set_by, source };
    let credentials = credentials(proxy).await?;
    let mut tcp = TcpStream::connect((proxy.host.as_str(), proxy.port)).await.map_err(unreached)?;
    let place = place(to);
    let head = tokio::time::timeout(ANSWER_TIMEOUT, ask(&mut tcp, &place, credentials.as_ref()))
        .await
        .unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
        })
        .map_err(|source| Error::NoProxy { proxy: proxy.to_string(), source })?;
    judge(&head, proxy, place, credentials.is_some())?;
    Ok(tcp)
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn place(address: &Address) -> String {
    if address.host.contains(':') {
        format!("[{}]:{}", address.host, address.port)
    } else {
        format!("{}:{}", address.host, address.port)
    }
}

async fn credentials(proxy: &Proxy) -> Result<Option<Secret>, Error> {
    match &proxy.credentials {
        None => Ok(None),
        Some(Credentials::Given(given)) => Ok(Some(given.clone())),
        Some(Credentials::File(path)) => {
            let file = path.clone();
            let text = crate::tasks::blocking(move || std::fs::read_to_string(file)).await;
            let text = text.map_err(|source| Error::Credentials { path: path.display().to_string(), source })?;
            Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())))
        }
    }
}

/// Asks and reads the head of the answer, byte by byte: what follows it is the controller's.
async fn ask(tcp: &mut TcpStream, place: &str, credentials: Option<&Secret>) -> io::Result<Vec<u8>> {
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
    if let Some(credentials) = credentials {
        let encoded = base64::engine::general_purpose::STANDARD.encode(credentials.expose());
        request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
    }
    request.push_str("\r\n");
    let request = zeroize::Zeroizing::new(request);
    tcp.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MOST {
            return Err(io::Error::other("its answer has no end"));
        }
        head.push(tcp.read_u8().await?);
    }
    Ok(head)
}

/// What the head of the answer means.
fn judge(head: &[u8], proxy: &Proxy, to: String, given: bool) -> Result<(), Error> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line: String =
        line.iter().take(200).map(|&byte| if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '?' }).collect();
    let proxy = proxy.to_string();
    let status =
        line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_once(' ')).map(|(_, status)| status.to_owned());
    let code = status.as_deref().and_then(|status| status.get(..3)).and_then(|code| code.parse::<u16>().ok());
    let (Some(status), Some(code)) = (status, code) else {
        return Err(Error::NoProxy { proxy, source: io::Error::other(format!("it answered `{line}`")) });
    };
    match code {
        200..300 => Ok(()),
        407 => Err(Error::Denied { proxy, given }),
        502..=504 => Err(Error::NoWay { proxy, to, status }),
        _ => Err(Error::Refused { proxy, to, status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_answers_is_told_apart() {
        let proxy = Proxy { host: "p".to_owned(), port: 1, credentials: None, set_by: "HTTPS_PROXY" };
        let said =
            |head: &str, given| judge(head.as_bytes(), &proxy, "c:2".to_owned(), given).map_err(|e| e.to_string());
        assert_eq!(said("HTTP/1.1 200 Connection established\r\n\r\n", false), Ok(()));
        assert_eq!(said("HTTP/1.0 200\r\n\r\n", false), Ok(()));
        for (head, given, words) in [
            ("HTTP/1.1 407 Auth\r\n\r\n", false, &["proxy http://p:1", "wants", "proxy_credentials_file"][..]),
            ("HTTP/1.1 407 Auth\r\n\r\n", true, &["refuses the user and password"]),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", false, &["refuses to connect to c:2", "403 Forbidden"]),
            ("HTTP/1.1 503 no\x1b[31m\r\n\r\n", false, &["does not reach the controller at c:2", "503 no?[31m"]),
            ("SSH-2.0-x\r\n\r\n", false, &["no HTTP proxy"]),
            ("\r\n\r\n", false, &["no HTTP proxy"]),
        ] {
            let error = said(head, given).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn ipv6_stands_in_brackets() {
        assert_eq!(place(&Address { host: "fd00::5".to_owned(), port: 8441 }), "[fd00::5]:8441");
    }
}
