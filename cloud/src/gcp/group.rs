//! Compute Engine: a managed instance group, as whoever scales it sees it.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use longshore_core::secret::Secret;
use serde::Deserialize;
use serde_json::json;

use crate::{Endpoint, Error, Http, Request, json};

/// Where the API is.
pub const ENDPOINT: &str = "https://compute.googleapis.com";
/// The API may take this long.
const WITHIN: Duration = Duration::from_secs(20);
/// Pages that are read at most: 500 instances each.
const PAGES: usize = 40;

/// A managed instance group.
#[derive(Debug, Clone)]
pub struct Group {
    http: Http,
    endpoint: Endpoint,
    /// Without a `/` at its end.
    path: String,
}

/// One of its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// As in `zones/europe-west3-a/instances/worker-x1f7`.
    pub path: String,
}

impl Group {
    /// A group of a project; `location` as in `zones/europe-west3-a` or `regions/europe-west3`. Names are taken as they are.
    #[must_use]
    pub fn new(endpoint: Endpoint, project: &str, location: &str, name: &str) -> Self {
        let path = format!("/compute/v1/projects/{project}/{location}/instanceGroupManagers/{name}");
        Self { http: Http::within(WITHIN), endpoint, path }
    }

    /// Instances that it is set to have.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn target_size(&self, token: &Secret) -> Result<u32, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            target_size: u32,
        }
        let (place, bytes) = self.ask(token, Method::GET, &self.path, None).await?;
        Ok(json::<Shape>(&place, &bytes)?.target_size)
    }

    /// Its instances, in whatever state.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn members(&self, token: &Secret) -> Result<Vec<Member>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            #[serde(default)]
            managed_instances: Vec<Managed>,
            #[serde(default)]
            next_page_token: Option<String>,
        }
        #[derive(Deserialize)]
        struct Managed {
            // Absent while the instance is being made.
            #[serde(default)]
            instance: Option<String>,
        }
        let (mut found, mut page) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let path = format!("{}/listManagedInstances?maxResults=500{page}", self.path);
            let (place, bytes) = self.ask(token, Method::POST, &path, None).await?;
            let shape: Shape = json(&place, &bytes)?;
            for url in shape.managed_instances.into_iter().filter_map(|managed| managed.instance) {
                found.push(member(&url).ok_or_else(|| Error::garbage(&place, "an instance's URL has another form"))?);
            }
            match shape.next_page_token.filter(|token| !token.is_empty()) {
                Some(next) if next.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~=".contains(&b)) => {
                    page = format!("&pageToken={}", next.replace('=', "%3D"));
                }
                Some(_) => return Err(Error::garbage(place, "the token of its next page has another form")),
                None => return Ok(found),
            }
        }
        Err(Error::garbage(&self.path, "it has too many pages of instances"))
    }

    /// Sets how many instances it shall have.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn resize(&self, token: &Secret, to: u32) -> Result<(), Error> {
        self.operation(token, &format!("{}/resize?size={to}", self.path), None).await
    }

    /// Ends instances, and the group is that much smaller.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete(&self, token: &Secret, members: &[Member]) -> Result<(), Error> {
        let paths: Vec<&str> = members.iter().map(|member| member.path.as_str()).collect();
        let body = json!({ "instances": paths, "skipInstancesOnValidationError": true });
        self.operation(token, &format!("{}/deleteInstances", self.path), Some(body)).await
    }

    /// Begins something that the cloud goes on with by itself.
    async fn operation(&self, token: &Secret, path: &str, body: Option<serde_json::Value>) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Shape {
            kind: String,
            #[serde(default)]
            error: Option<serde_json::Value>,
        }
        let (place, bytes) = self.ask(token, Method::POST, path, body).await?;
        let shape: Shape = json(&place, &bytes)?;
        match shape.error {
            Some(error) => {
                Err(Error::Refused { place, status: 200, said: error.to_string().chars().take(300).collect() })
            }
            None if shape.kind == "compute#operation" => Ok(()),
            None => Err(Error::garbage(place, "no operation")),
        }
    }

    async fn ask(
        &self,
        token: &Secret,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<(String, Bytes), Error> {
        let body = Bytes::from(body.map(|body| body.to_string()).unwrap_or_default());
        let request = Request { method, body, ..Request::get(&self.endpoint, path) };
        let request = request
            .header("authorization", format!("Bearer {}", token.expose()))
            .header("content-type", "application/json");
        let place = request.place();
        let bytes = self.http.send(request).await?.success(&place)?;
        Ok((place, bytes))
    }
}

/// From a URL as in `https://www.googleapis.com/compute/v1/projects/p/zones/z/instances/n`.
fn member(url: &str) -> Option<Member> {
    let mut parts = url.rsplit('/');
    let (name, instances, zone, zones) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let proper = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if (instances, zones) != ("instances", "zones") || !proper(name) || !proper(zone) {
        return None;
    }
    Some(Member { name: name.to_owned(), path: format!("zones/{zone}/instances/{name}") })
}
