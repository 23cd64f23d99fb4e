//! Metadata of a Compute Engine instance.

pub mod group;

use std::time::Duration;

use bytes::Bytes;
use longshore_core::secret::Secret;
use serde::Deserialize;

use crate::{Endpoint, Error, Http, Request, json, word};

/// Where it is on every instance.
pub const ENDPOINT: &str = "http://169.254.169.254";
const WITHIN: Duration = Duration::from_secs(2);
const FLAVOR: (&str, &str) = ("metadata-flavor", "Google");
const ROOT: &str = "/computeMetadata/v1/instance";

/// The metadata service.
#[derive(Debug, Clone)]
pub struct Metadata {
    http: Http,
    endpoint: Endpoint,
}

/// What the platform is going to do to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maintenance {
    /// Nothing.
    None,
    /// The instance moves while it runs.
    Migrate,
    /// The instance is stopped.
    Terminate,
}

/// Which instance this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its number.
    pub id: String,
    /// Its name.
    pub name: String,
    /// As in `europe-west1-b`.
    pub zone: String,
    /// Name of the project.
    pub project: String,
}

/// A token that is shown to Google's APIs.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token.
    pub token: Secret,
    /// How long it counts.
    pub expires_in: Duration,
}

impl Metadata {
    /// The service at an endpoint; see [`ENDPOINT`].
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { http: Http::within(WITHIN), endpoint }
    }

    /// Whether a spot or preemptible instance is being taken away.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn preempted(&self) -> Result<bool, Error> {
        let (place, bytes) = self.needed(&format!("{ROOT}/preempted")).await?;
        match word(&place, &bytes)?.as_str() {
            "TRUE" => Ok(true),
            "FALSE" => Ok(false),
            _ => Err(Error::garbage(place, "neither `TRUE` nor `FALSE`")),
        }
    }

    /// What the platform is going to do to the host.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn maintenance(&self) -> Result<Maintenance, Error> {
        let (place, bytes) = self.needed(&format!("{ROOT}/maintenance-event")).await?;
        match word(&place, &bytes)?.as_str() {
            "NONE" => Ok(Maintenance::None),
            "MIGRATE_ON_HOST_MAINTENANCE" => Ok(Maintenance::Migrate),
            "TERMINATE_ON_HOST_MAINTENANCE" => Ok(Maintenance::Terminate),
            _ => Err(Error::garbage(place, "no known event")),
        }
    }

    /// Which instance this is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn instance(&self) -> Result<Instance, Error> {
        let last = |text: String| text.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Instance {
            id: self.word(&format!("{ROOT}/id")).await?,
            name: self.word(&format!("{ROOT}/name")).await?,
            zone: last(self.word(&format!("{ROOT}/zone")).await?),
            project: self.word("/computeMetadata/v1/project/project-id").await?,
        })
    }

    /// A token of the instance's service account.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn access_token(&self) -> Result<AccessToken, Error> {
        #[derive(Deserialize)]
        struct Shape {
            access_token: Secret,
            expires_in: u64,
        }
        let (place, bytes) = self.needed(&format!("{ROOT}/service-accounts/default/token")).await?;
        let Shape { access_token, expires_in } = json(&place, &bytes)?;
        Ok(AccessToken { token: access_token, expires_in: Duration::from_secs(expires_in) })
    }

    /// A JWT that says which instance this is, for one audience: letters, digits and `:/.-_`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn identity_token(&self, audience: &str) -> Result<Secret, Error> {
        let path = format!("{ROOT}/service-accounts/default/identity?audience={audience}&format=full");
        let (place, bytes) = self.needed(&path).await?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        if text.split('.').count() != 3 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::garbage(place, "no JWT"));
        }
        Ok(Secret::new(text))
    }

    async fn word(&self, path: &str) -> Result<String, Error> {
        let (place, bytes) = self.needed(path).await?;
        word(&place, &bytes)
    }

    async fn needed(&self, path: &str) -> Result<(String, Bytes), Error> {
        let request = Request::get(&self.endpoint, path).header(FLAVOR.0, FLAVOR.1);
        let place = request.place();
        let answer = self.http.send(request).await?;
        // The service says who it is on every answer.
        if answer.headers.get(FLAVOR.0).is_none_or(|flavor| flavor != FLAVOR.1) {
            return Err(Error::garbage(place, "without `Metadata-Flavor: Google`"));
        }
        let bytes = answer.success(&place)?;
        Ok((place, bytes))
    }
}
