//! Azure Compute: a virtual machine scale set with uniform orchestration, as whoever scales it sees it.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use longshore_core::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Endpoint, Error, Http, Request, json};

/// Where the API is.
pub const ENDPOINT: &str = "https://management.azure.com";
const VERSION: &str = "api-version=2024-07-01";
/// The API may take this long.
const WITHIN: Duration = Duration::from_secs(20);
/// Pages that are read at most.
const PAGES: usize = 100;

/// A scale set.
#[derive(Debug, Clone)]
pub struct ScaleSet {
    http: Http,
    endpoint: Endpoint,
    /// Without a `/` at its end.
    path: String,
}

/// One of its machines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// By which it is deleted.
    pub instance_id: String,
    /// Its name.
    pub name: String,
    /// More of it.
    #[serde(default)]
    properties: Properties,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    vm_id: String,
    os_profile: OsProfile,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OsProfile {
    computer_name: String,
}

impl Member {
    /// Everything that it is called.
    #[must_use]
    pub fn names(&self) -> [&str; 4] {
        [&self.instance_id, &self.name, &self.properties.os_profile.computer_name, &self.properties.vm_id]
    }

    /// Whether it is called that: its id in the set, its name, its host name, or its GUID.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        !name.is_empty() && self.names().into_iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Size and kind of the machines of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Sku(Value);

impl Sku {
    /// Machines that the set shall have.
    #[must_use]
    pub fn capacity(&self) -> Option<u32> {
        u32::try_from(self.0.get("capacity")?.as_u64()?).ok()
    }
}

impl ScaleSet {
    /// A scale set of a resource group. Names are taken as they are.
    #[must_use]
    pub fn new(endpoint: Endpoint, subscription: &str, resource_group: &str, name: &str) -> Self {
        let path = format!(
            "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.Compute/virtualMachineScaleSets/{name}"
        );
        Self { http: Http::within(WITHIN), endpoint, path }
    }

    /// Size and kind of its machines.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sku(&self, token: &Secret) -> Result<Sku, Error> {
        #[derive(Deserialize)]
        struct Shape {
            sku: Value,
        }
        let (place, bytes) = self.ask(token, Method::GET, &format!("{}?{VERSION}", self.path), None).await?;
        let sku = Sku(json::<Shape>(&place, &bytes)?.sku);
        if sku.capacity().is_none() { Err(Error::garbage(place, "its capacity is missing")) } else { Ok(sku) }
    }

    /// Its machines, in whatever state.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn members(&self, token: &Secret) -> Result<Vec<Member>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            value: Vec<Member>,
            #[serde(default)]
            next_link: Option<String>,
        }
        let (mut found, mut path) = (Vec::new(), format!("{}/virtualMachines?{VERSION}", self.path));
        for _ in 0..PAGES {
            let (place, bytes) = self.ask(token, Method::GET, &path, None).await?;
            let shape: Shape = json(&place, &bytes)?;
            found.extend(shape.value);
            let Some(next) = shape.next_link else { return Ok(found) };
            // A token goes nowhere else.
            let own = next.strip_prefix(&self.endpoint.to_string()).filter(|path| path.starts_with('/'));
            path = own.ok_or_else(|| Error::garbage(place, "its next page is elsewhere"))?.to_owned();
        }
        Err(Error::garbage(&self.path, "it has too many pages of machines"))
    }

    /// Sets how many machines it shall have; `sku` as it was read.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_capacity(&self, token: &Secret, sku: &Sku, to: u32) -> Result<(), Error> {
        let mut sku = sku.0.clone();
        if let Some(fields) = sku.as_object_mut() {
            fields.insert("capacity".to_owned(), json!(to));
        }
        let path = format!("{}?{VERSION}", self.path);
        self.ask(token, Method::PATCH, &path, Some(json!({ "sku": sku }))).await.map(drop)
    }

    /// Ends machines by their ids in the set, which is that much smaller.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete(&self, token: &Secret, ids: &[&str]) -> Result<(), Error> {
        let path = format!("{}/delete?{VERSION}", self.path);
        self.ask(token, Method::POST, &path, Some(json!({ "instanceIds": ids }))).await.map(drop)
    }

    async fn ask(
        &self,
        token: &Secret,
        method: Method,
        path: &str,
        body: Option<Value>,
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
