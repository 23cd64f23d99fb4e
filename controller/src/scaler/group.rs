//! The groups that have the machines, behind one face.
//!
//! Credentials come from the environment, else from the machine that the controller runs on. A machine is ended only
//! after the group itself has named it as its own: what an agent says of its host is not believed alone.

use std::collections::{BTreeMap, BTreeSet};

use longshore_cloud::aws::{AutoScaling, Credentials, Groups};
use longshore_cloud::azure::group::ScaleSet;
use longshore_cloud::gcp::group as gcp;
use longshore_cloud::imds::{self, Imds};
use longshore_cloud::{Endpoint, Error, azure};
use longshore_core::scaling::Target;
use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;

use super::{Settings, command};

/// Who may call Azure's management API, as it stands in a query.
const AZURE_RESOURCE: &str = "https%3A%2F%2Fmanagement.azure.com%2F";

/// Why a group did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    /// For people.
    pub(super) words: String,
    /// Nothing was done. Else it may have been.
    pub(super) surely_nothing: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        // A refusal is an answer: the order was not taken. A server's own failure may come after it was.
        let surely_nothing = match &error {
            Error::Refused { status, .. } => *status < 500,
            Error::Request { .. } => true,
            Error::Unreached { .. } | Error::Late { .. } | Error::Garbage { .. } => false,
        };
        Self { words: error.full(), surely_nothing }
    }
}

impl Failed {
    fn nothing(words: impl Into<String>) -> Self {
        Self { words: words.into(), surely_nothing: true }
    }
}

/// What is to be done to a group.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) pool: String,
    /// Machines that it is set to have.
    pub(super) from: u32,
    /// Machines that it shall have.
    pub(super) to: u32,
    /// Names of those that go.
    pub(super) remove: Vec<String>,
}

/// What became of each machine that was to go: taken, not there (any more), or why not.
pub(super) type Removed = BTreeMap<String, Result<bool, Failed>>;

/// What a group says of itself; what it cannot be asked is `None`.
#[derive(Debug)]
pub(super) struct Look {
    /// Machines that it is set to have.
    pub(super) capacity: Option<u32>,
    /// What its machines are called, in lowercase.
    names: Option<BTreeSet<String>>,
}

impl Look {
    /// Whether a machine of that name may be one of it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(&name.to_ascii_lowercase()))
    }
}

/// A group, with what it takes to speak to it.
pub(super) enum Group<'a> {
    Aws { groups: Groups, who: Credentials, name: &'a str, now: Timestamp },
    Gcp { group: gcp::Group, token: Secret },
    Azure { set: ScaleSet, token: Secret },
    Command { argv: &'a [String], settings: &'a Settings },
}

impl<'a> Group<'a> {
    /// The group of a target.
    pub(super) async fn of(target: &'a Target, settings: &'a Settings, now: Timestamp) -> Result<Self, Failed> {
        let metadata = |usual: &str| match &settings.metadata_endpoint {
            Some(endpoint) => Ok(endpoint.clone()),
            None => usual.parse().map_err(|_| Failed::nothing(format!("`{usual}` is no endpoint"))),
        };
        let api = |set: &Option<Endpoint>, usual: &str| match set {
            Some(endpoint) => Ok(endpoint.clone()),
            None => usual.parse().map_err(|_| Failed::nothing(format!("`{usual}` is no endpoint"))),
        };
        Ok(match target {
            Target::Aws { region, group } => {
                let who = match aws_environment() {
                    Some(who) => who,
                    None => Imds::new(metadata(imds::ENDPOINT)?).credentials().await?,
                };
                let groups = Groups::new(&AutoScaling::new(region, settings.aws_endpoint.clone()));
                Self::Aws { groups, who, name: group, now }
            }
            Target::Gcp { project, location, group } => {
                let token = match variable("GOOGLE_OAUTH_ACCESS_TOKEN") {
                    Some(token) => Secret::new(token),
                    None => {
                        longshore_cloud::gcp::Metadata::new(metadata(longshore_cloud::gcp::ENDPOINT)?)
                            .access_token()
                            .await?
                            .token
                    }
                };
                let endpoint = api(&settings.gcp_endpoint, gcp::ENDPOINT)?;
                Self::Gcp { group: gcp::Group::new(endpoint, project, location, group), token }
            }
            Target::Azure { subscription, resource_group, scale_set } => {
                let token = match variable("AZURE_ACCESS_TOKEN") {
                    Some(token) => Secret::new(token),
                    None => azure::Metadata::new(metadata(azure::ENDPOINT)?).access_token(AZURE_RESOURCE).await?.token,
                };
                let endpoint = api(&settings.azure_endpoint, azure::group::ENDPOINT)?;
                Self::Azure { set: ScaleSet::new(endpoint, subscription, resource_group, scale_set), token }
            }
            Target::Command { name } => match settings.commands.get(name) {
                Some(argv) => Self::Command { argv, settings },
                None => {
                    let words = format!("`scaling.commands` of the controller's configuration has no `{name}`");
                    return Err(Failed::nothing(words));
                }
            },
        })
    }

    /// What it says of itself.
    pub(super) async fn look(&self) -> Result<Look, Failed> {
        let look = |capacity, names: Vec<String>| Look {
            capacity,
            names: Some(names.into_iter().map(|name| name.to_ascii_lowercase()).collect()),
        };
        Ok(match self {
            Self::Aws { groups, who, name, now } => match groups.group(who, name, *now).await? {
                Some(group) => look(Some(group.desired), group.instances),
                None => return Err(Failed::nothing(format!("there is no Auto Scaling group `{name}`"))),
            },
            Self::Gcp { group, token } => {
                let size = group.target_size(token).await?;
                look(Some(size), group.members(token).await?.into_iter().map(|member| member.name).collect())
            }
            Self::Azure { set, token } => {
                let (sku, members) = (set.sku(token).await?, set.members(token).await?);
                look(sku.capacity(), members.iter().flat_map(|member| member.names().map(str::to_owned)).collect())
            }
            Self::Command { .. } => Look { capacity: None, names: None },
        })
    }

    /// Sets it to more machines.
    pub(super) async fn grow(&self, order: &Order) -> Result<(), Failed> {
        match self {
            Self::Aws { groups, who, name, now } => Ok(groups.set_desired(who, name, order.to, *now).await?),
            Self::Gcp { group, token } => Ok(group.resize(token, order.to).await?),
            Self::Azure { set, token } => {
                let sku = set.sku(token).await?;
                Ok(set.set_capacity(token, &sku, order.to).await?)
            }
            Self::Command { argv, settings } => carry_out(argv, settings, "grow", order).await,
        }
    }

    /// Ends machines, by which it gets smaller.
    pub(super) async fn shrink(&self, order: &Order) -> Removed {
        let all = |what: Result<bool, Failed>| order.remove.iter().map(|name| (name.clone(), what.clone())).collect();
        match self.remove(order).await {
            Ok(removed) => removed,
            Err(failed) => all(Err(failed)),
        }
    }

    async fn remove(&self, order: &Order) -> Result<Removed, Failed> {
        let mut removed = Removed::new();
        match self {
            Self::Aws { groups, who, name, now } => {
                let known = groups.group(who, name, *now).await?.map(|group| group.instances).unwrap_or_default();
                for instance in &order.remove {
                    let done = if known.contains(instance) {
                        groups.terminate(who, instance, *now).await.map(|()| true).map_err(Failed::from)
                    } else {
                        Ok(false)
                    };
                    removed.insert(instance.clone(), done);
                }
            }
            Self::Gcp { group, token } => {
                let members = group.members(token).await?;
                let go: Vec<gcp::Member> =
                    members.into_iter().filter(|member| order.remove.contains(&member.name)).collect();
                if !go.is_empty() {
                    group.delete(token, &go).await?;
                }
                for instance in &order.remove {
                    removed.insert(instance.clone(), Ok(go.iter().any(|member| member.name == *instance)));
                }
            }
            Self::Azure { set, token } => {
                let members = set.members(token).await?;
                let find = |instance: &String| members.iter().find(|member| member.is_called(instance));
                let ids: Vec<&str> =
                    order.remove.iter().filter_map(find).map(|member| member.instance_id.as_str()).collect();
                if !ids.is_empty() {
                    set.delete(token, &ids).await?;
                }
                for instance in &order.remove {
                    removed.insert(instance.clone(), Ok(find(instance).is_some()));
                }
            }
            Self::Command { argv, settings } => {
                carry_out(argv, settings, "shrink", order).await?;
                removed.extend(order.remove.iter().map(|name| (name.clone(), Ok(true))));
            }
        }
        Ok(removed)
    }
}

async fn carry_out(argv: &[String], settings: &Settings, action: &str, order: &Order) -> Result<(), Failed> {
    let variables = [
        ("LONGSHORE_POOL", order.pool.clone()),
        ("LONGSHORE_ACTION", action.to_owned()),
        ("LONGSHORE_CURRENT", order.from.to_string()),
        ("LONGSHORE_DESIRED", order.to.to_string()),
        ("LONGSHORE_REMOVE", order.remove.join(",")),
    ];
    // What a program did before it failed is not known.
    let failed = |words| Failed { words, surely_nothing: false };
    command::run(argv, &variables, settings.command_timeout).await.map_err(failed)
}

pub(crate) fn aws_environment() -> Option<Credentials> {
    Some(Credentials {
        access_key_id: variable("AWS_ACCESS_KEY_ID")?,
        secret_access_key: Secret::new(variable("AWS_SECRET_ACCESS_KEY")?),
        session_token: variable("AWS_SESSION_TOKEN").map(Secret::new),
        until: None,
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
