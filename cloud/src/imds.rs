//! Metadata of an EC2 instance, by IMDSv2: a session token first, and nothing without one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;
use serde::Deserialize;

use crate::aws::Credentials;
use crate::{Endpoint, Error, Http, Request, json, word};

/// Where it is on every instance.
pub const ENDPOINT: &str = "http://169.254.169.254";
/// A service on the machine's own link answers at once or never.
const WITHIN: Duration = Duration::from_secs(2);
/// How long a session token is asked for: the most there is. It is renewed when it is refused.
const TOKEN_SECONDS: &str = "21600";
const TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";

/// The metadata service.
#[derive(Debug)]
pub struct Imds {
    http: Http,
    endpoint: Endpoint,
    token: Mutex<Option<Secret>>,
}

/// What is going to happen to a spot instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotAction {
    /// `terminate`, `stop` or `hibernate`.
    pub action: String,
    /// When.
    pub at: Timestamp,
}

/// The signed identity document, as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityDocument {
    /// The document, byte for byte as it was signed.
    pub document: Bytes,
    /// PKCS #7 over it, base64 without its frame (DSA).
    pub pkcs7: String,
    /// PKCS #7 over it, base64 without its frame (RSA of 2048 bits).
    pub rsa2048: String,
}

impl Imds {
    /// The service at an endpoint; see [`ENDPOINT`].
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { http: Http::within(WITHIN), endpoint, token: Mutex::new(None) }
    }

    /// `i-...`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn instance_id(&self) -> Result<String, Error> {
        const PATH: &str = "/latest/meta-data/instance-id";
        let id = self.word(PATH).await?;
        let proper =
            id.strip_prefix("i-").is_some_and(|hex| hex.len() >= 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if proper { Ok(id) } else { Err(Error::garbage(self.place(PATH), "no instance id")) }
    }

    /// As in `eu-west-1`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn region(&self) -> Result<String, Error> {
        const PATH: &str = "/latest/meta-data/placement/region";
        let region = self.word(PATH).await?;
        let proper = region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if proper { Ok(region) } else { Err(Error::garbage(self.place(PATH), "no region")) }
    }

    /// What is going to happen to this spot instance, if anything.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn spot_action(&self) -> Result<Option<SpotAction>, Error> {
        #[derive(Deserialize)]
        struct Shape {
            action: String,
            time: String,
        }
        const PATH: &str = "/latest/meta-data/spot/instance-action";
        let Some(bytes) = self.get(PATH).await? else { return Ok(None) };
        let Shape { action, time } = json(&self.place(PATH), &bytes)?;
        if !matches!(action.as_str(), "terminate" | "stop" | "hibernate") {
            return Err(Error::garbage(self.place(PATH), "no known action"));
        }
        let at = time.parse().map_err(|_| Error::garbage(self.place(PATH), "no time"))?;
        Ok(Some(SpotAction { action, at }))
    }

    /// Since when this instance is more likely than others to be interrupted, if so.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn rebalance(&self) -> Result<Option<Timestamp>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            notice_time: String,
        }
        const PATH: &str = "/latest/meta-data/events/recommendations/rebalance";
        let Some(bytes) = self.get(PATH).await? else { return Ok(None) };
        let Shape { notice_time } = json(&self.place(PATH), &bytes)?;
        notice_time.parse().map(Some).map_err(|_| Error::garbage(self.place(PATH), "no time"))
    }

    /// The state that its Auto Scaling group wants it in, as in `InService` or `Terminated`; none outside of a group.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn target_state(&self) -> Result<Option<String>, Error> {
        const PATH: &str = "/latest/meta-data/autoscaling/target-lifecycle-state";
        const STATES: [&str; 8] = [
            "InService",
            "Terminated",
            "Detached",
            "Standby",
            "Warmed:Hibernated",
            "Warmed:Running",
            "Warmed:Stopped",
            "Warmed:Terminated",
        ];
        let Some(bytes) = self.get(PATH).await? else { return Ok(None) };
        let state = word(&self.place(PATH), &bytes)?;
        if !STATES.contains(&state.as_str()) {
            return Err(Error::garbage(self.place(PATH), "no known state"));
        }
        Ok(Some(state))
    }

    /// Name of the role that the instance has, if it has one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn role(&self) -> Result<Option<String>, Error> {
        const PATH: &str = "/latest/meta-data/iam/security-credentials/";
        match self.get(PATH).await? {
            Some(bytes) => word(&self.place(PATH), &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Credentials of the instance's role.
    ///
    /// # Errors
    /// [`Error`], also when the instance has no role.
    pub async fn credentials(&self) -> Result<Credentials, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Shape {
            code: String,
            access_key_id: String,
            secret_access_key: Secret,
            token: Secret,
            expiration: String,
        }
        let Some(role) = self.role().await? else {
            return Err(Error::Request {
                place: self.place("/latest/meta-data/iam/security-credentials/"),
                what: "this instance has no role; give it an instance profile".to_owned(),
            });
        };
        let path = format!("/latest/meta-data/iam/security-credentials/{role}");
        let place = self.place(&path);
        let found: Shape = json(&place, &self.needed(&path).await?)?;
        if found.code != "Success" {
            return Err(Error::garbage(place, "its code is not `Success`"));
        }
        let until = found.expiration.parse().map_err(|_| Error::garbage(place, "no time"))?;
        Ok(Credentials {
            access_key_id: found.access_key_id,
            secret_access_key: found.secret_access_key,
            session_token: Some(found.token),
            until: Some(until),
        })
    }

    /// The signed document that says which instance this is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn identity_document(&self) -> Result<IdentityDocument, Error> {
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).trim().to_owned();
        Ok(IdentityDocument {
            document: self.needed("/latest/dynamic/instance-identity/document").await?,
            pkcs7: text(self.needed("/latest/dynamic/instance-identity/pkcs7").await?),
            rsa2048: text(self.needed("/latest/dynamic/instance-identity/rsa2048").await?),
        })
    }

    fn place(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint)
    }

    async fn word(&self, path: &str) -> Result<String, Error> {
        word(&self.place(path), &self.needed(path).await?)
    }

    async fn needed(&self, path: &str) -> Result<Bytes, Error> {
        let missing = || Error::Refused { place: self.place(path), status: 404, said: "not there".to_owned() };
        self.get(path).await?.ok_or_else(missing)
    }

    /// What stands at a path; `None`: nothing. A token that is refused is renewed once.
    async fn get(&self, path: &str) -> Result<Option<Bytes>, Error> {
        let place = self.place(path);
        let known = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (token, fresh) = match known {
            Some(token) => (token, false),
            None => (self.renew().await?, true),
        };
        let ask = async |token: Secret| {
            self.http.send(Request::get(&self.endpoint, path).header(TOKEN, token.expose())).await
        };
        let answer = ask(token).await?;
        if answer.status != 401 || fresh {
            return answer.optional(&place);
        }
        ask(self.renew().await?).await?.optional(&place)
    }

    async fn renew(&self) -> Result<Secret, Error> {
        const PATH: &str = "/latest/api/token";
        let request = Request { method: Method::PUT, ..Request::get(&self.endpoint, PATH) };
        let answer = self.http.send(request.header(TOKEN_TTL, TOKEN_SECONDS)).await?;
        let token = Secret::new(word(&self.place(PATH), &answer.success(&self.place(PATH))?)?);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }
}
