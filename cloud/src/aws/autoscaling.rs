//! EC2 Auto Scaling: what an instance says of itself to its group.

use std::time::Duration;

use longshore_core::time::Timestamp;

use super::Credentials;
use super::query::{QueryApi, descend, members, text};
use crate::{Endpoint, Error};

/// The API in one region.
#[derive(Debug, Clone)]
pub struct AutoScaling(QueryApi);

/// An instance as its group has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of the group.
    pub group: String,
    /// As in `InService` or `Terminating:Wait`.
    pub state: String,
    /// The group does not choose it to scale in.
    pub protected: bool,
}

/// A lifecycle hook of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// Without a heartbeat in this time, the group goes on as if the hook were done.
    pub heartbeat_timeout: Duration,
    /// All heartbeats together hold it for no longer than this.
    pub global_timeout: Duration,
}

impl AutoScaling {
    /// The API of a region; `endpoint` goes over its usual one.
    #[must_use]
    pub fn new(region: &str, endpoint: Option<Endpoint>) -> Self {
        Self(QueryApi::new("autoscaling", "2011-01-01", region, endpoint))
    }

    /// The API itself, for further actions.
    #[must_use]
    pub const fn api(&self) -> &QueryApi {
        &self.0
    }

    /// The group that an instance is in, if it is in one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn member(&self, who: &Credentials, instance: &str, now: Timestamp) -> Result<Option<Member>, Error> {
        let parameters = [("InstanceIds.member.1", instance)];
        let xml = self.0.call(who, "DescribeAutoScalingInstances", &parameters, now).await?;
        xml.read(|root| {
            let found = members(root, "AutoScalingInstances")?
                .find(|member| text(*member, "InstanceId").as_deref() == Some(instance));
            let Some(found) = found else { return Some(None) };
            Some(Some(Member {
                group: text(found, "AutoScalingGroupName")?,
                state: text(found, "LifecycleState")?,
                protected: text(found, "ProtectedFromScaleIn")? == "true",
            }))
        })
    }

    /// A hook of a group for instances that terminate, if there is one of that name.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn hook(
        &self,
        who: &Credentials,
        group: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<Hook>, Error> {
        let parameters = [("AutoScalingGroupName", group), ("LifecycleHookNames.member.1", name)];
        let xml = self.0.call(who, "DescribeLifecycleHooks", &parameters, now).await?;
        xml.read(|root| {
            let found = members(root, "LifecycleHooks")?.find(|member| {
                text(*member, "LifecycleHookName").as_deref() == Some(name)
                    && text(*member, "LifecycleTransition").as_deref() == Some("autoscaling:EC2_INSTANCE_TERMINATING")
            });
            let Some(found) = found else { return Some(None) };
            Some(Some(Hook {
                name: name.to_owned(),
                heartbeat_timeout: seconds(found, "HeartbeatTimeout")?,
                global_timeout: seconds(found, "GlobalTimeout")?,
            }))
        })
    }

    /// Keeps a lifecycle hook from timing out.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn heartbeat(
        &self,
        who: &Credentials,
        (group, hook): (&str, &str),
        instance: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let parameters = [("AutoScalingGroupName", group), ("LifecycleHookName", hook), ("InstanceId", instance)];
        self.0.call(who, "RecordLifecycleActionHeartbeat", &parameters, now).await.map(drop)
    }

    /// Lets the group go on with what the hook held up.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn complete(
        &self,
        who: &Credentials,
        (group, hook): (&str, &str),
        instance: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let parameters = [
            ("AutoScalingGroupName", group),
            ("LifecycleHookName", hook),
            ("InstanceId", instance),
            ("LifecycleActionResult", "CONTINUE"),
        ];
        self.0.call(who, "CompleteLifecycleAction", &parameters, now).await.map(drop)
    }

    /// Sets or removes an instance's protection from scale-in.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn protect(
        &self,
        who: &Credentials,
        group: &str,
        instance: &str,
        protected: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let parameters = [
            ("AutoScalingGroupName", group),
            ("InstanceIds.member.1", instance),
            ("ProtectedFromScaleIn", if protected { "true" } else { "false" }),
        ];
        let xml = self.0.call(who, "SetInstanceProtection", &parameters, now).await?;
        xml.read(|root| descend(root, "SetInstanceProtectionResult").map(drop))
    }
}

fn seconds(node: roxmltree::Node<'_, '_>, name: &str) -> Option<Duration> {
    text(node, name)?.parse().ok().map(Duration::from_secs)
}
