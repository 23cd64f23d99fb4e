//! Metadata of an Azure virtual machine.

pub mod group;

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::{Endpoint, Error, Http, Request, json};

/// Where it is on every machine.
pub const ENDPOINT: &str = "http://169.254.169.254";
/// The first question about scheduled events switches them on, which may take long.
const WITHIN: Duration = Duration::from_secs(5);
const EVENTS: &str = "/metadata/scheduledevents?api-version=2020-07-01";
const FLAG: (&str, &str) = ("metadata", "true");

/// The metadata service.
#[derive(Debug, Clone)]
pub struct Metadata {
    http: Http,
    endpoint: Endpoint,
}

/// Something that is going to happen to machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledEvent {
    /// By which it is acknowledged.
    pub id: String,
    /// What.
    pub kind: EventKind,
    /// Names of the machines.
    pub resources: Vec<String>,
    /// Not before this; none: it has begun.
    pub not_before: Option<Timestamp>,
    /// It has begun.
    pub started: bool,
}

/// What is going to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum EventKind {
    /// It stands still for some seconds.
    Freeze,
    /// It is booted anew.
    Reboot,
    /// It moves to another host and is booted anew.
    Redeploy,
    /// A spot machine is taken away.
    Preempt,
    /// It is deleted.
    Terminate,
}

/// Which machine this is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// As events name it.
    pub name: String,
    /// GUID of the machine.
    pub vm_id: String,
    /// GUID of the subscription.
    pub subscription_id: String,
    /// Its resource group.
    pub resource_group_name: String,
    /// Its scale set; empty outside of one.
    #[serde(default)]
    pub vm_scale_set_name: String,
    /// As in `westeurope`.
    pub location: String,
}

/// A token of a managed identity.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token.
    pub token: Secret,
    /// How long it counts.
    pub expires_in: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventShape {
    event_id: String,
    event_type: EventKind,
    resources: Vec<String>,
    event_status: String,
    not_before: String,
}

impl Metadata {
    /// The service at an endpoint; see [`ENDPOINT`].
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { http: Http::within(WITHIN), endpoint }
    }

    /// What is going to happen to the machines of this one's scale set or availability set: see whose it is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn events(&self) -> Result<Vec<ScheduledEvent>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Shape {
            #[serde(rename = "DocumentIncarnation")]
            _incarnation: i64,
            events: Vec<EventShape>,
        }
        let (place, bytes) = self.get(EVENTS).await?;
        let found: Shape = json(&place, &bytes)?;
        found.events.into_iter().map(|event| self::event(&place, event)).collect()
    }

    /// Says that an event may begin at once, for all machines that it is about.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn acknowledge(&self, event: &str) -> Result<(), Error> {
        let body = json!({ "StartRequests": [{ "EventId": event }] }).to_string();
        let request = Request { method: Method::POST, body: Bytes::from(body), ..Request::get(&self.endpoint, EVENTS) };
        let request = request.header(FLAG.0, FLAG.1).header("content-type", "application/json");
        let place = request.place();
        self.http.send(request).await?.success(&place).map(drop)
    }

    /// Which machine this is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn machine(&self) -> Result<Machine, Error> {
        #[derive(Deserialize)]
        struct Shape {
            compute: Machine,
        }
        let (place, bytes) = self.get("/metadata/instance?api-version=2021-02-01").await?;
        Ok(json::<Shape>(&place, &bytes)?.compute)
    }

    /// The document that says which machine this is, PKCS #7 in base64, over a number of at most 10 digits of the caller's.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn attested_document(&self, nonce: &str) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Shape {
            encoding: String,
            signature: String,
        }
        let path = format!("/metadata/attested/document?api-version=2020-09-01&nonce={nonce}");
        let (place, bytes) = self.get(&path).await?;
        let Shape { encoding, signature } = json(&place, &bytes)?;
        if encoding == "pkcs7" { Ok(signature) } else { Err(Error::garbage(place, "its encoding is not `pkcs7`")) }
    }

    /// A token of the machine's managed identity for a service, as in `https%3A%2F%2Fmanagement.azure.com%2F`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn access_token(&self, resource: &str) -> Result<AccessToken, Error> {
        #[derive(Deserialize)]
        struct Shape {
            access_token: Secret,
            expires_in: String,
        }
        let path = format!("/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}");
        let (place, bytes) = self.get(&path).await?;
        let Shape { access_token, expires_in } = json(&place, &bytes)?;
        let seconds = expires_in.parse().map_err(|_| Error::garbage(place, "no number of seconds"))?;
        Ok(AccessToken { token: access_token, expires_in: Duration::from_secs(seconds) })
    }

    async fn get(&self, path: &str) -> Result<(String, Bytes), Error> {
        let request = Request::get(&self.endpoint, path).header(FLAG.0, FLAG.1);
        let place = request.place();
        let bytes = self.http.send(request).await?.success(&place)?;
        Ok((place, bytes))
    }
}

fn event(place: &str, shape: EventShape) -> Result<ScheduledEvent, Error> {
    let started = match shape.event_status.as_str() {
        "Scheduled" => false,
        "Started" => true,
        _ => return Err(Error::garbage(place, "no known status of an event")),
    };
    let not_before = match shape.not_before.trim() {
        "" => None,
        text => Some(time(text).ok_or_else(|| Error::garbage(place, "no time"))?),
    };
    Ok(ScheduledEvent { id: shape.event_id, kind: shape.event_type, resources: shape.resources, not_before, started })
}

/// As in `Mon, 19 Sep 2016 18:29:47 GMT`.
fn time(text: &str) -> Option<Timestamp> {
    let at = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Timestamp::from_micros(at.timestamp().as_microsecond()))
}
