//! One request, one connection: small, without a pool and without a task.
//!
//! Metadata and a call now and then are all that is asked, so a connection is not worth keeping. The connection is driven by the
//! future that asks; when that is dropped, the connection is gone.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Method;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Endpoint, Error};

/// No answer that is asked for is longer.
const MOST: usize = 4 << 20;
/// So much of a refusal is shown.
const SHOWN: usize = 300;

/// Asks, each time within a bound of time.
#[derive(Debug, Clone)]
pub struct Http {
    within: Duration,
    /// Made when TLS is spoken for the first time: the authorities that the system trusts.
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    /// HTTP's method.
    pub method: Method,
    /// Where.
    pub endpoint: &'a Endpoint,
    /// Path, with its query.
    pub path: &'a str,
    /// Header fields besides `Host`.
    pub headers: Vec<(&'a str, String)>,
    /// What is sent.
    pub body: Bytes,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Response {
    /// HTTP's status.
    pub status: u16,
    /// Its header.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl<'a> Request<'a> {
    /// Asks for something.
    #[must_use]
    pub fn get(endpoint: &'a Endpoint, path: &'a str) -> Self {
        Self { method: Method::GET, endpoint, path, headers: Vec::new(), body: Bytes::new() }
    }

    /// With one more header field.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Endpoint and path, for messages. What comes after a `?` may be secret.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}{}", self.endpoint, self.path.split('?').next().unwrap_or_default())
    }
}

impl Response {
    /// The body of a success.
    ///
    /// # Errors
    /// [`Error::Refused`] for every other status.
    pub fn success(self, place: &str) -> Result<Bytes, Error> {
        if (200..300).contains(&self.status) { Ok(self.body) } else { Err(self.refusal(place)) }
    }

    /// The body, or nothing when there is none (404).
    ///
    /// # Errors
    /// [`Error::Refused`] for every other status than success.
    pub fn optional(self, place: &str) -> Result<Option<Bytes>, Error> {
        if self.status == 404 { Ok(None) } else { self.success(place).map(Some) }
    }

    fn refusal(&self, place: &str) -> Error {
        let text = String::from_utf8_lossy(&self.body);
        let said: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
        Error::Refused { place: place.to_owned(), status: self.status, said }
    }
}

impl Http {
    /// Asks with this bound for everything: connection, request, answer.
    #[must_use]
    pub fn within(within: Duration) -> Self {
        Self { within, tls: Arc::default() }
    }

    /// Asks, and returns what was answered, whatever its status.
    ///
    /// # Errors
    /// [`Error`] when there is no answer, or one that is too long.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, Error> {
        let place = request.place();
        match tokio::time::timeout(self.within, self.exchange(request, &place)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Late { place, within: self.within }),
        }
    }

    async fn exchange(&self, request: Request<'_>, place: &str) -> Result<Response, Error> {
        let unreached = |source: io::Error| Error::Unreached { place: place.to_owned(), source };
        let endpoint = request.endpoint;
        let tcp = TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(unreached)?;
        if !endpoint.tls() {
            return over(tcp, request, place).await;
        }
        let name = ServerName::try_from(endpoint.host().to_owned())
            .map_err(|error| Error::Request { place: place.to_owned(), what: error.to_string() })?;
        let tls = self.settings().map_err(unreached)?;
        let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(unreached)?;
        over(stream, request, place).await
    }

    fn settings(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(made) = self.tls.get() {
            return Ok(Arc::clone(made));
        }
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(io::Error::other(
                "this system trusts no authority; install its `ca-certificates` or set `SSL_CERT_FILE`",
            ));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }
}

async fn over<S>(stream: S, request: Request<'_>, place: &str) -> Result<Response, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let broken = |error: hyper::Error| Error::Unreached { place: place.to_owned(), source: io::Error::other(error) };
    let made = built(request, place)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let ask = async {
        let (head, body) = sender.send_request(made).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, MOST).collect().await;
        let body = body.map_err(|error| Error::garbage(place, error.to_string()))?.to_bytes();
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
    };
    let (mut ask, mut connection) = (std::pin::pin!(ask), std::pin::pin!(connection));
    tokio::select! {
        answered = &mut ask => answered,
        // It ends with the answer in some orders of events; what it still has is read.
        ended = &mut connection => match ended {
            Ok(()) => ask.await,
            Err(error) => Err(broken(error)),
        },
    }
}

fn built(request: Request<'_>, place: &str) -> Result<hyper::Request<Full<Bytes>>, Error> {
    let wrong = |what: String| Error::Request { place: place.to_owned(), what };
    let mut made = hyper::Request::builder()
        .method(request.method)
        .uri(request.path)
        .header(HOST, request.endpoint.authority())
        .body(Full::new(request.body))
        .map_err(|error| wrong(error.to_string()))?;
    for (name, value) in request.headers {
        let name: HeaderName = name.parse().map_err(|_| wrong("a header's name".to_owned()))?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| wrong(format!("the header `{name}`")))?;
        value.set_sensitive(true);
        made.headers_mut().insert(name, value);
    }
    Ok(made)
}
