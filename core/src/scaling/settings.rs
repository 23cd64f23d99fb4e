//! What is set for the scaling of a pool.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most machines of a group: beyond it a slip of the keyboard is more likely than a need.
const MOST: u32 = 10_000;
/// Longest time that can be set.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// How a pool is scaled. The defaults come from `cargo xtask sim scaling`; see `docs/scaling.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Fewest machines.
    #[serde(default)]
    pub min: u32,
    /// Most machines.
    pub max: u32,
    /// Slots that are kept free for whoever comes next.
    #[serde(default = "defaults::warm")]
    pub warm: u32,
    /// Jobs that a machine of the group runs at once.
    #[serde(default = "one")]
    pub slots_per_agent: u32,
    /// Labels that agents on machines of the group have: a job that asks for others is not helped by a further machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Between two times that machines are asked for.
    #[serde(default = "defaults::cooldown_up", with = "span")]
    pub cooldown_up: Duration,
    /// Between a change and the next time that machines go.
    #[serde(default = "defaults::cooldown_down", with = "span")]
    pub cooldown_down: Duration,
    /// Machines that are asked for at once; 0: any number.
    #[serde(default)]
    pub max_step_up: u32,
    /// Machines that go at once; 0: any number.
    #[serde(default = "defaults::max_step_down")]
    pub max_step_down: u32,
    /// For how long a machine has to have been idle before it goes.
    #[serde(default = "defaults::idle", with = "span")]
    pub idle: Duration,
    /// The group.
    pub target: Target,
}

/// The group that has the machines. Where a cloud is reached and with what right is in the controller's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// An Auto Scaling group.
    Aws {
        /// As in `eu-central-1`.
        region: String,
        /// Its name.
        group: String,
    },
    /// A managed instance group.
    Gcp {
        /// The project's id.
        project: String,
        /// As in `zones/europe-west3-a` or `regions/europe-west3`.
        location: String,
        /// Its name.
        group: String,
    },
    /// A virtual machine scale set with uniform orchestration.
    Azure {
        /// The subscription's id.
        subscription: String,
        /// The resource group.
        resource_group: String,
        /// Its name.
        scale_set: String,
    },
    /// A program that the controller's configuration names.
    Command {
        /// Its name in `[scaling.commands]`.
        name: String,
    },
}

/// What `cargo xtask sim scaling` found best.
mod defaults {
    use std::time::Duration;

    pub(super) const fn warm() -> u32 {
        2
    }

    pub(super) const fn cooldown_up() -> Duration {
        Duration::from_secs(15)
    }

    pub(super) const fn cooldown_down() -> Duration {
        Duration::from_secs(30)
    }

    pub(super) const fn max_step_down() -> u32 {
        4
    }

    pub(super) const fn idle() -> Duration {
        Duration::from_secs(2 * 60)
    }
}

const fn one() -> u32 {
    1
}

impl Settings {
    /// The defaults for a group of at most so many machines.
    #[must_use]
    pub fn new(max: u32, target: Target) -> Self {
        Self {
            min: 0,
            max,
            warm: defaults::warm(),
            slots_per_agent: one(),
            labels: BTreeMap::new(),
            cooldown_up: defaults::cooldown_up(),
            cooldown_down: defaults::cooldown_down(),
            max_step_up: 0,
            max_step_down: defaults::max_step_down(),
            idle: defaults::idle(),
            target,
        }
    }

    /// Looks at what the types do not say.
    ///
    /// # Errors
    /// The first field that cannot be, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.max == 0 || self.max > MOST {
            return Err(("scaling.max", format!("`{}` is not between 1 and {MOST}", self.max)));
        }
        if self.min > self.max {
            return Err(("scaling.min", format!("`{}` is more than `scaling.max` ({})", self.min, self.max)));
        }
        if self.slots_per_agent == 0 || self.slots_per_agent > 1_000 {
            return Err(("scaling.slots_per_agent", format!("`{}` is not between 1 and 1000", self.slots_per_agent)));
        }
        let spans = [
            ("scaling.cooldown_up", self.cooldown_up),
            ("scaling.cooldown_down", self.cooldown_down),
            ("scaling.idle", self.idle),
        ];
        for (field, span) in spans {
            if span > LONGEST {
                return Err((field, "is longer than a day".to_owned()));
            }
        }
        self.target.check()
    }
}

impl Target {
    /// Its kind: `aws`, `gcp`, `azure` or `command`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Aws { .. } => "aws",
            Self::Gcp { .. } => "gcp",
            Self::Azure { .. } => "azure",
            Self::Command { .. } => "command",
        }
    }

    /// The name of the group, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Aws { group, .. } | Self::Gcp { group, .. } => group,
            Self::Azure { scale_set, .. } => scale_set,
            Self::Command { name } => name,
        }
    }

    /// Names become parts of addresses, so nothing in them may mean anything there.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let (fields, location): (Vec<(&'static str, &String)>, Option<&String>) = match self {
            Self::Aws { region, group } => {
                (vec![("scaling.target.aws.region", region), ("scaling.target.aws.group", group)], None)
            }
            Self::Gcp { project, location, group } => {
                (vec![("scaling.target.gcp.project", project), ("scaling.target.gcp.group", group)], Some(location))
            }
            Self::Azure { subscription, resource_group, scale_set } => (
                vec![
                    ("scaling.target.azure.subscription", subscription),
                    ("scaling.target.azure.resource_group", resource_group),
                    ("scaling.target.azure.scale_set", scale_set),
                ],
                None,
            ),
            Self::Command { name } => (vec![("scaling.target.command.name", name)], None),
        };
        for (field, text) in fields {
            // A group of AWS may have a space or a slash in its name; it goes into a form and not into a path.
            let free = field == "scaling.target.aws.group";
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.():".contains(c) || (free && " /".contains(c));
            if text.is_empty() || text.len() > 255 || !text.chars().all(fits) || text.chars().all(|c| c == '.') {
                return Err((field, format!("`{text}` is no name of the kind that is needed there")));
            }
        }
        let part = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        match location {
            Some(location) if !matches!(location.split_once('/'), Some(("zones" | "regions", name)) if part(name)) => {
                let message = format!("`{location}` is not of the form `zones/NAME` or `regions/NAME`");
                Err(("scaling.target.gcp.location", message))
            }
            _ => Ok(()),
        }
    }
}

/// Durations as people write them.
mod span {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::spec::duration;

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        duration::format(*value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is no duration: write it as in `90s`, `5m` or `1h30m`"))
        })
    }
}
