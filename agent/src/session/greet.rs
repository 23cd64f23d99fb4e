//! One connection and one request that asks for nothing, for `doctor`: who answers, until when its certificate is valid,
//! what time it is there.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use longshore_core::time::Timestamp;
use tonic::body::Body;
use tonic::codegen::http;
use tower::{Service as _, ServiceExt as _, service_fn};

use super::dial;
use super::tls::{DialError, Dialer};

/// The answer may take this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What was found at the controller's address. TLS is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// When the certificate that it showed ends, as far as that can be read.
    pub certificate_until: Option<Timestamp>,
    /// What came of a request, or why nothing did: a controller that refuses the agent's certificate ends the connection
    /// only after the handshake.
    pub spoken: Result<Spoken, String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// The other side's clock, if it tells; to the second.
    pub time: Option<Timestamp>,
    /// Ours when the request left.
    pub asked: Timestamp,
    /// Ours when the answer was there.
    pub answered: Timestamp,
}

/// Connects, asks once, and closes.
///
/// # Errors
/// [`DialError`]: there is no connection.
pub async fn greet(dialer: &Dialer) -> Result<Greeting, DialError> {
    let stream = dialer.connect().await?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate_until = leaf.and_then(|der| crate::identity::until(der));
    let mut stream = Some(stream);
    let connector = service_fn(move |_| {
        let stream = stream.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| std::io::Error::other("the connection is used up")) }
    });
    let ask = async {
        let mut channel = dial::endpoint().connect_with_connector(connector).await.map_err(said)?;
        let request = http::Request::post("http://longshore-controller/longshore.Nothing/Nothing");
        let request = request.header("content-type", "application/grpc").body(Body::empty()).map_err(said)?;
        let asked = crate::clock::now();
        let answer = channel.ready().await.map_err(said)?.call(request).await.map_err(said)?;
        let time = answer.headers().get("date").and_then(|date| date.to_str().ok()).and_then(http_date);
        Ok(Spoken { time, asked, answered: crate::clock::now() })
    };
    let spoken = tokio::time::timeout(ANSWER_TIMEOUT, ask)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())));
    Ok(Greeting { certificate_until, spoken })
}

fn said(error: impl std::error::Error + 'static) -> String {
    super::call::chain(&error)
}

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let (time, zone) = (words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    (zone == "GMT").then(|| format!("{year}-{month:02}-{day}T{time}Z").parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        let at = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(at.to_string(), "1994-11-06T08:49:37.000Z");
        for bad in ["", "Sun, 06 Nov 1994", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET"] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }
}
