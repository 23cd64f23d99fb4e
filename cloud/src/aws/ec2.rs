//! EC2: what it says of an instance.

use longshore_core::time::Timestamp;

use super::Credentials;
use super::query::{QueryApi, descend, text};
use crate::{Endpoint, Error};

/// The API in one region.
#[derive(Debug, Clone)]
pub struct Ec2(QueryApi);

/// An instance as EC2 has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// As in `running` or `terminated`.
    pub state: String,
    /// The account that it is of, by its reservation.
    pub owner: Option<String>,
    /// The network it is in; an instance that is terminated is in none.
    pub vpc: Option<String>,
}

impl Ec2 {
    /// The API of a region; `endpoint` goes over its usual one.
    #[must_use]
    pub fn new(region: &str, endpoint: Option<Endpoint>) -> Self {
        Self(QueryApi::new("ec2", "2016-11-15", region, endpoint))
    }

    /// An instance of the caller's account, if there is one of that id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn instance(&self, who: &Credentials, id: &str, now: Timestamp) -> Result<Option<Instance>, Error> {
        let xml = match self.0.call(who, "DescribeInstances", &[("InstanceId.1", id)], now).await {
            Err(Error::Refused { said, .. }) if said.starts_with("InvalidInstanceID.") => return Ok(None),
            answer => answer?,
        };
        xml.read(|root| {
            let items = descend(root, "reservationSet")?.descendants().filter(|node| node.tag_name().name() == "item");
            let mut found = items.filter(|item| text(*item, "instanceId").as_deref() == Some(id));
            let Some(item) = found.next() else { return Some(None) };
            let state = text(descend(item, "instanceState")?, "name")?;
            let owner = item.ancestors().skip(1).find_map(|node| text(node, "ownerId"));
            Some(Some(Instance { state, owner, vpc: text(item, "vpcId").filter(|vpc| !vpc.is_empty()) }))
        })
    }
}
