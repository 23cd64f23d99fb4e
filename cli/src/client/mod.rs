//! The client of the REST API.
//!
//! Every call says whether it may be repeated: reads, writes that give the same result twice, and writes that carry an
//! operation id may; they are retried while the server is away or restarting, for a bounded time. Anything else is only
//! repeated when the connection was never made. Redirects are not followed, so a token goes to one address only.

mod address;
mod error;
pub mod events;
pub mod model;
pub mod problem;
pub mod retry;
pub mod sse;
pub mod stream;
mod upload;

use std::time::Duration;

use bytes::Bytes;
use longshore_core::secret::Secret;
use reqwest::{Method, StatusCode, header};
use serde_json::Value;

pub use address::Address;
pub use error::Error;
use problem::Problem;
use retry::{Patience, Retry};
pub use upload::{Found, Sent};

/// Longest time for an ordinary call, from the connection to the last byte of its answer.
const CALL: Duration = Duration::from_secs(60);
/// Longest time to make a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long sent bytes may stay without an answer of the other side's network stack.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A server and the right to talk to it.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    address: Address,
    token: Option<Secret>,
}

/// A call, ready to be made as often as needed.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    content_type: Option<&'static str>,
    accept: &'static str,
    cursor: Option<String>,
    body: Bytes,
    repeatable: bool,
    /// An answer without an end, such as events: no time limit for the whole.
    endless: bool,
}

impl Request {
    fn new(method: Method, path: &[&str]) -> Self {
        Self {
            repeatable: !matches!(method, Method::POST | Method::DELETE),
            method,
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            query: Vec::new(),
            content_type: None,
            accept: "application/json",
            cursor: None,
            body: Bytes::new(),
            endless: false,
        }
    }

    /// A read of `/api/v1/` and `path`.
    #[must_use]
    pub fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// A write that gives the same result when it is repeated.
    #[must_use]
    pub fn put(path: &[&str]) -> Self {
        Self::new(Method::PUT, path)
    }

    /// A write that must not be repeated once it was sent, unless [`Request::repeatable`] says that it may.
    #[must_use]
    pub fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    /// A removal. The second of two finds nothing any more, unless [`Request::repeatable`] says otherwise.
    #[must_use]
    pub fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds to the query when there is a value.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Sends JSON.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.content_type = Some("application/json");
        self.body = Bytes::from(body.to_string());
        self
    }

    /// Sends YAML.
    #[must_use]
    pub fn yaml(mut self, body: Vec<u8>) -> Self {
        self.content_type = Some("application/yaml");
        self.body = Bytes::from(body);
        self
    }

    /// The server knows a repeated call, by an operation id or since nothing is left to change.
    #[must_use]
    pub const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Asks for an answer that is streamed, of the media type `accept`.
    #[must_use]
    pub const fn endless(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self.endless = true;
        self
    }

    /// Asks an event stream to go on behind this cursor.
    #[must_use]
    pub fn from_cursor(mut self, cursor: Option<&str>) -> Self {
        self.cursor = cursor.map(str::to_owned);
        self
    }
}

/// How one try ended that gave no result.
enum Tried {
    Again { error: Error, at_least: Option<Duration> },
    Over(Error),
}

impl Client {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the TLS roots of this machine cannot be read.
    pub fn new(address: Address, token: Option<Secret>) -> Result<Self, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .tcp_user_timeout(UNACKNOWLEDGED)
            .tcp_nodelay(true);
        if address.is_local() {
            // A proxy of the environment has no way to this machine's own loopback address.
            builder = builder.no_proxy();
        }
        if !address.is_tls() {
            // Without this, a machine that has no root certificates could not even talk plain HTTP.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self { http: builder.build()?, address, token })
    }

    /// The server's address, for messages.
    #[must_use]
    pub fn url(&self) -> &str {
        self.address.as_str()
    }

    /// Makes a call and gives the answer, its body not yet read.
    ///
    /// # Errors
    /// [`Error`]: any answer that is no success, or none within `patience`.
    pub async fn send(&self, request: &Request, patience: Patience) -> Result<reqwest::Response, Error> {
        let mut retry = Retry::begin(patience);
        loop {
            let (error, at_least) = match self.once(request).await {
                Ok(response) => return Ok(response),
                Err(Tried::Over(error)) => return Err(error),
                Err(Tried::Again { error, at_least }) => (error, at_least),
            };
            match retry.pause(at_least) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(after(error, retry.waited())),
            }
        }
    }

    /// Makes a call and gives the JSON of its answer.
    ///
    /// # Errors
    /// As [`Client::send`]; also when the answer is no JSON.
    pub async fn json(&self, request: &Request, patience: Patience) -> Result<Value, Error> {
        let mut retry = Retry::begin(patience);
        loop {
            let response = self.send(request, patience).await?;
            let error = match response.bytes().await {
                Ok(body) => {
                    return serde_json::from_slice(&body)
                        .map_err(|error| self.not_longshore(format!("its answer is no JSON ({error})")));
                }
                Err(source) => source,
            };
            let pause = if request.repeatable { retry.pause(None) } else { None };
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(self.unreachable(error)),
            }
        }
    }

    /// Whether the server says that it is ready to serve.
    pub async fn is_ready(&self) -> bool {
        let sent = self.http.get(self.address.outside("readyz")).timeout(CONNECT).send().await;
        sent.is_ok_and(|response| response.status().is_success())
    }

    async fn once(&self, request: &Request) -> Result<reqwest::Response, Tried> {
        let sent = self.build(request).send().await;
        self.judge(sent, request.repeatable).await
    }

    fn build(&self, request: &Request) -> reqwest::RequestBuilder {
        let url = self.address.url(request.path.iter().map(String::as_str));
        let mut builder = self.http.request(request.method.clone(), url).header(header::ACCEPT, request.accept);
        if !request.query.is_empty() {
            builder = builder.query(&request.query);
        }
        if let Some(content_type) = request.content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type).body(request.body.clone());
        }
        if let Some(cursor) = &request.cursor {
            builder = builder.header("last-event-id", cursor);
        }
        if !request.endless {
            builder = builder.timeout(CALL);
        }
        self.authorized(builder)
    }

    fn authorized(&self, builder: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.token {
            // reqwest marks the header as sensitive: it is in no debug output.
            Some(token) => builder.bearer_auth(token.expose()),
            None => builder,
        }
    }

    /// Sorts the outcome of one try.
    async fn judge(
        &self,
        sent: Result<reqwest::Response, reqwest::Error>,
        repeatable: bool,
    ) -> Result<reqwest::Response, Tried> {
        let response = match sent {
            Ok(response) => response,
            Err(source) if source.is_builder() => return Err(Tried::Over(self.unreachable(source))),
            Err(source) => {
                // Without a connection nothing was sent, so even what must not be repeated may be tried again.
                let again = repeatable || source.is_connect();
                let error = self.unreachable(source);
                return Err(if again { Tried::Again { error, at_least: None } } else { Tried::Over(error) });
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            let target = header_text(&response, header::LOCATION).unwrap_or_default();
            return Err(Tried::Over(self.not_longshore(format!("it redirects to `{target}`"))));
        }
        let at_least =
            header_text(&response, header::RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let body = response.bytes().await.unwrap_or_default();
        let problem = Box::new(Problem::read(status.as_u16(), &body));
        let away =
            matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        // "Too many requests" and "unavailable" say that nothing was done; the two gateway errors do not.
        let untouched = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let error = if away {
            Error::NotReady { url: self.url().to_owned(), waited: Duration::ZERO, problem }
        } else {
            Error::Refused(problem)
        };
        let again = untouched || (away && repeatable);
        Err(if again { Tried::Again { error, at_least } } else { Tried::Over(error) })
    }

    fn unreachable(&self, source: reqwest::Error) -> Error {
        // The address is said once, by the error itself.
        Error::Unreachable { url: self.url().to_owned(), waited: Duration::ZERO, source: source.without_url() }
    }

    fn not_longshore(&self, detail: String) -> Error {
        Error::NotLongshore { url: self.url().to_owned(), detail }
    }
}

fn after(error: Error, time: Duration) -> Error {
    match error {
        Error::Unreachable { url, source, .. } => Error::Unreachable { url, waited: time, source },
        Error::NotReady { url, problem, .. } => Error::NotReady { url, waited: time, problem },
        other => other,
    }
}

fn header_text(response: &reqwest::Response, name: header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}
