//! EC2 Auto Scaling: a group as whoever scales it sees it.

use longshore_core::time::Timestamp;

use super::query::{QueryApi, members, text};
use super::{AutoScaling, Credentials};
use crate::Error;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Instances that it is set to have.
    pub desired: u32,
    /// It refuses to be set to fewer.
    pub min: u32,
    /// It refuses to be set to more.
    pub max: u32,
    /// Ids of its instances, in whatever state.
    pub instances: Vec<String>,
}

/// What is done to groups.
#[derive(Debug, Clone)]
pub struct Groups(QueryApi);

impl Groups {
    /// By the API of a region.
    #[must_use]
    pub fn new(api: &AutoScaling) -> Self {
        Self(api.api().clone())
    }

    /// A group, if there is one of that name.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn group(&self, who: &Credentials, name: &str, now: Timestamp) -> Result<Option<Group>, Error> {
        let parameters = [("AutoScalingGroupNames.member.1", name)];
        let xml = self.0.call(who, "DescribeAutoScalingGroups", &parameters, now).await?;
        xml.read(|root| {
            let found = members(root, "AutoScalingGroups")?
                .find(|member| text(*member, "AutoScalingGroupName").as_deref() == Some(name));
            let Some(found) = found else { return Some(None) };
            let number = |field| text(found, field)?.parse().ok();
            // A group without instances may leave the list out.
            let instances = members(found, "Instances").into_iter().flatten().map(|member| text(member, "InstanceId"));
            Some(Some(Group {
                desired: number("DesiredCapacity")?,
                min: number("MinSize")?,
                max: number("MaxSize")?,
                instances: instances.collect::<Option<_>>()?,
            }))
        })
    }

    /// Sets how many instances the group shall have, whatever its own cool-down says.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_desired(&self, who: &Credentials, name: &str, to: u32, now: Timestamp) -> Result<(), Error> {
        let to = to.to_string();
        let parameters = [("AutoScalingGroupName", name), ("DesiredCapacity", to.as_str()), ("HonorCooldown", "false")];
        self.0.call(who, "SetDesiredCapacity", &parameters, now).await.map(drop)
    }

    /// Ends an instance, and the group is that much smaller.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn terminate(&self, who: &Credentials, instance: &str, now: Timestamp) -> Result<(), Error> {
        let parameters = [("InstanceId", instance), ("ShouldDecrementDesiredCapacity", "true")];
        self.0.call(who, "TerminateInstanceInAutoScalingGroup", &parameters, now).await.map(drop)
    }
}
