//! Join rules: which machines of a cloud may join by proof of what they are, and what becomes of a machine that joins again.
//!
//! Invariants: every rule names one account, project or subscription exactly, there are no patterns; what a rule asks for
//! counts only where the cloud has proven it; one machine is one agent at a time.

use serde::{Deserialize, Serialize};

/// What a machine has to be. Fields that are not set are not asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cloud", rename_all = "snake_case", deny_unknown_fields)]
pub enum Conditions {
    /// An EC2 instance.
    Aws {
        /// Twelve digits.
        account: String,
        /// As in `eu-central-1`; proven by the instance identity document.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        /// Name of the instance profile's role; proven by a request that it signed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        /// As in `vpc-0123456789abcdef0`; what EC2 says to the controller, since no document has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vpc: Option<String>,
    },
    /// A Compute Engine instance.
    Gcp {
        /// Id of the project.
        project: String,
        /// As in `europe-west3-a`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
        /// E-mail address of its service account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service_account: Option<String>,
    },
    /// A virtual machine of Azure.
    Azure {
        /// Id of the subscription, lowercase.
        subscription: String,
    },
}

/// What was proven of a machine. `None`: not proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machine {
    /// An EC2 instance.
    Aws {
        /// The account.
        account: String,
        /// Its region, by the signed document.
        region: Option<String>,
        /// The role of its instance profile, by the signed request.
        role: Option<String>,
        /// The network it is in, by EC2's word to the controller; asked for only where a rule wants it.
        vpc: Option<String>,
        /// As in `i-0123456789abcdef0`.
        instance: String,
    },
    /// A Compute Engine instance.
    Gcp {
        /// Id of the project.
        project: String,
        /// Its zone.
        zone: String,
        /// Its service account.
        service_account: String,
        /// Its number.
        instance: String,
    },
    /// A virtual machine of Azure.
    Azure {
        /// Id of the subscription, lowercase.
        subscription: String,
        /// Its id, lowercase.
        instance: String,
    },
}

/// Why a rule does not let a machine in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is of another cloud.
    #[error("the rule is for machines of {0}")]
    Cloud(&'static str),
    /// It is another one.
    #[error("`{condition}` has to be `{wanted}`, the machine's is `{found}`")]
    Other {
        /// As it is typed, without the dashes.
        condition: &'static str,
        /// What the rule says.
        wanted: String,
        /// What was proven.
        found: String,
    },
    /// Nothing proves it.
    #[error("`{condition}` has to be `{wanted}`, and the machine brought nothing that proves it: {hint}")]
    Unproven {
        /// As it is typed, without the dashes.
        condition: &'static str,
        /// What the rule says.
        wanted: String,
        /// What would prove it.
        hint: &'static str,
    },
}

impl Mismatch {
    /// The condition, as it is typed.
    #[must_use]
    pub const fn condition(&self) -> &'static str {
        match self {
            Self::Cloud(_) => "cloud",
            Self::Other { condition, .. } | Self::Unproven { condition, .. } => condition,
        }
    }

    /// For whoever asked to be let in: it names the condition and what was found, not what the rule wants.
    #[must_use]
    pub fn outside(&self) -> String {
        match self {
            Self::Cloud(_) => "it is for another cloud".to_owned(),
            Self::Other { condition, found, .. } => format!("`{condition}` is not `{found}`"),
            Self::Unproven { condition, hint, .. } => format!("`{condition}` is not proven: {hint}"),
        }
    }

    /// How near it came: of several rules, the nearest one is named.
    #[must_use]
    pub fn nearness(&self) -> u8 {
        match self {
            Self::Cloud(_) => 0,
            Self::Other { condition: "aws-account" | "gcp-project" | "azure-subscription", .. } => 1,
            Self::Other { .. } => 2,
            Self::Unproven { .. } => 3,
        }
    }
}

/// A condition that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{condition}`: `{value}` is not {what}; patterns are not taken, write it out")]
pub struct Invalid {
    /// As it is typed, without the dashes.
    pub condition: &'static str,
    /// What was given.
    pub value: String,
    /// What it should be.
    pub what: &'static str,
}

impl Conditions {
    /// The cloud, as it is typed.
    #[must_use]
    pub const fn cloud(&self) -> &'static str {
        match self {
            Self::Aws { .. } => "aws",
            Self::Gcp { .. } => "gcp",
            Self::Azure { .. } => "azure",
        }
    }

    /// How many conditions there are.
    #[must_use]
    pub fn count(&self) -> u8 {
        match self {
            Self::Aws { region, role, vpc, .. } => {
                1 + u8::from(region.is_some()) + u8::from(role.is_some()) + u8::from(vpc.is_some())
            }
            Self::Gcp { zone, service_account, .. } => {
                1 + u8::from(zone.is_some()) + u8::from(service_account.is_some())
            }
            Self::Azure { .. } => 1,
        }
    }

    /// Whether each value is one that can be. Nothing that could be read as a pattern passes.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        let check = |condition, value: &str, what, good: bool| {
            if good { Ok(()) } else { Err(Invalid { condition, value: value.chars().take(80).collect(), what }) }
        };
        match self {
            Self::Aws { account, region, role, vpc } => {
                check("aws-account", account, "an account of 12 digits", is_account(account))?;
                if let Some(value) = region {
                    check("aws-region", value, "a region as in `eu-central-1`", is_region(value))?;
                }
                if let Some(value) = role {
                    check("aws-role", value, "the name of a role, without path or ARN", is_role(value))?;
                }
                if let Some(value) = vpc {
                    check("aws-vpc", value, "the id of a VPC as in `vpc-0123456789abcdef0`", is_vpc(value))?;
                }
            }
            Self::Gcp { project, zone, service_account } => {
                check("gcp-project", project, "the id of a project", is_project(project))?;
                if let Some(value) = zone {
                    check("gcp-zone", value, "a zone as in `europe-west3-a`", is_dashed(value, 3))?;
                }
                if let Some(value) = service_account {
                    check("gcp-service-account", value, "the e-mail address of a service account", is_email(value))?;
                }
            }
            Self::Azure { subscription } => {
                check("azure-subscription", subscription, "the lowercase id of a subscription", is_guid(subscription))?;
            }
        }
        Ok(())
    }

    /// The region in which EC2 has to be asked for the machine's network before it can be said whether the rule admits it: only
    /// where everything else holds.
    #[must_use]
    pub fn asks_network_in<'a>(&self, machine: &'a Machine) -> Option<&'a str> {
        let (Self::Aws { vpc: Some(_), .. }, Machine::Aws { region: Some(region), vpc: None, .. }) = (self, machine)
        else {
            return None;
        };
        let mut rest = self.clone();
        if let Self::Aws { vpc, .. } = &mut rest {
            *vpc = None;
        }
        rest.admits(machine).is_ok().then_some(region.as_str())
    }

    /// Whether a machine is what the rule asks for.
    ///
    /// # Errors
    /// The first condition that does not hold.
    pub fn admits(&self, machine: &Machine) -> Result<(), Mismatch> {
        match (self, machine) {
            (
                Self::Aws { account, region, role, vpc },
                Machine::Aws { account: its, region: its_region, role: its_role, vpc: its_vpc, .. },
            ) => {
                same("aws-account", account, its)?;
                // Numbers of accounts are those of a partition: a rule for another one than the usual names its region.
                if let (None, Some(found)) = (region, its_region.as_ref().filter(|region| !is_usual(region))) {
                    let wanted = "a region of the usual partition".to_owned();
                    return Err(Mismatch::Other { condition: "aws-region", wanted, found: found.clone() });
                }
                proven("aws-region", region.as_ref(), its_region.as_ref(), DOCUMENT)?;
                proven("aws-role", role.as_ref(), its_role.as_ref(), SIGNED)?;
                // An account alone is proven by the document: whoever may take on any role of it names sessions as they like.
                if role.is_none() && its_region.is_none() {
                    let wanted = account.clone();
                    return Err(Mismatch::Unproven { condition: "aws-account", wanted, hint: DOCUMENT });
                }
                proven("aws-vpc", vpc.as_ref(), its_vpc.as_ref(), NETWORK)
            }
            (
                Self::Gcp { project, zone, service_account },
                Machine::Gcp { project: its, zone: its_zone, service_account: its_account, .. },
            ) => {
                same("gcp-project", project, its)?;
                zone.as_ref().map_or(Ok(()), |zone| same("gcp-zone", zone, its_zone))?;
                service_account.as_ref().map_or(Ok(()), |wanted| same("gcp-service-account", wanted, its_account))
            }
            (Self::Azure { subscription }, Machine::Azure { subscription: its, .. }) => {
                same("azure-subscription", subscription, its)
            }
            _ => Err(Mismatch::Cloud(self.cloud())),
        }
    }
}

/// What proves account and region.
const DOCUMENT: &str = "it needs the signed instance identity document of this instance";
/// What proves the role.
const SIGNED: &str = "it needs a request that the instance profile's role signed; give the instance that profile";

/// What proves the network.
const NETWORK: &str =
    "it needs the signed instance identity document, and EC2 has to know the instance in that account and in a VPC";

fn same(condition: &'static str, wanted: &str, found: &str) -> Result<(), Mismatch> {
    if wanted == found {
        return Ok(());
    }
    Err(Mismatch::Other { condition, wanted: wanted.to_owned(), found: found.to_owned() })
}

fn proven(
    condition: &'static str,
    wanted: Option<&String>,
    found: Option<&String>,
    hint: &'static str,
) -> Result<(), Mismatch> {
    match (wanted, found) {
        (None, _) => Ok(()),
        (Some(wanted), Some(found)) => same(condition, wanted, found),
        (Some(wanted), None) => Err(Mismatch::Unproven { condition, wanted: wanted.clone(), hint }),
    }
}

impl Machine {
    /// Names the machine among all of all clouds.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Aws { account, instance, .. } => format!("aws/{account}/{instance}"),
            Self::Gcp { project, instance, .. } => format!("gcp/{project}/{instance}"),
            Self::Azure { subscription, instance } => format!("azure/{subscription}/{instance}"),
        }
    }
}

/// The agent that a machine was before, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Former {
    /// This very signing request made it.
    pub same_request: bool,
    /// Whoever asks has proven to have its key.
    pub has_key: bool,
    /// A person cut it off.
    pub revoked: bool,
    /// A person allowed its machine to join again.
    pub allowed: bool,
    /// It took its leave, or is known to be gone.
    pub gone: bool,
    /// Its certificate has ended.
    pub expired: bool,
}

/// What a proof is bound to: the controller's nonce and the signing request, so that it is good for one key and one try.
#[must_use]
pub fn binding(nonce: &str, csr_pem: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(format!("longshore-join-v1\n{nonce}\n{}", csr_pem.trim()));
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        for half in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(half), 16));
        }
        text
    })
}

/// The same in ten digits, for Azure takes no more.
#[must_use]
pub fn short_binding(binding: &str) -> String {
    let number = binding.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    format!("{:010}", number % 10_000_000_000)
}

/// The audience of an identity token of Google.
#[must_use]
pub fn audience(controller: &str, binding: &str) -> String {
    format!("longshore:{controller}:{binding}")
}

/// What the key of the former certificate signs, so that a machine stays the agent it was.
#[must_use]
pub fn rejoin_text(binding: &str) -> String {
    format!("longshore-rejoin-v1\n{binding}")
}

/// What becomes of a machine that joins again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejoin {
    /// It is the same agent, with a new certificate.
    Same,
    /// It is a new agent; the one before counts no more.
    Replace,
    /// It does not join.
    Refuse(Refusal),
}

/// Why a machine does not join again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its agent was cut off.
    #[error("its agent was cut off, so the machine stays out; `longshore agent readmit` lets it in again")]
    Revoked,
    /// Its agent counts.
    #[error(
        "the machine has joined, and its agent counts: one machine is one agent; if it is really gone, wait until its certificate \
         has ended, or let the machine in again with `longshore agent readmit`"
    )]
    Joined,
}

impl Former {
    /// Decides. A key that is proven makes it the same agent, whether or not its certificate has ended; without it the former
    /// agent has to be over in one of the ways there are.
    #[must_use]
    pub const fn rejoins(self) -> Rejoin {
        if self.revoked {
            return if self.allowed { Rejoin::Replace } else { Rejoin::Refuse(Refusal::Revoked) };
        }
        if self.same_request || self.has_key {
            return Rejoin::Same;
        }
        if self.allowed || self.gone || self.expired { Rejoin::Replace } else { Rejoin::Refuse(Refusal::Joined) }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// A region of AWS: `eu-central-1`, `us-gov-west-1`. Strict, for a host name is made of it.
#[must_use]
pub fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return false };
    let word = |text: &&str| (2..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase());
    word(first)
        && first.len() <= 3
        && (1..=3).contains(&middle.len())
        && middle.iter().all(word)
        && (1..=2).contains(&last.len())
        && last.bytes().all(|b| b.is_ascii_digit())
}

fn is_vpc(text: &str) -> bool {
    let digits = text.strip_prefix("vpc-").unwrap_or_default();
    matches!(digits.len(), 8 | 17) && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a region is of the usual partition of AWS, and not of one for China or for governments.
#[must_use]
pub fn is_usual(region: &str) -> bool {
    let first = region.split('-').take(2).collect::<Vec<_>>();
    !matches!(first.as_slice(), ["cn", ..] | ["us", "gov" | "iso" | "isob" | "isof"] | ["eu", "isoe"] | ["eusc", ..])
}

/// Id of an EC2 instance.
#[must_use]
pub fn is_instance(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|hex| matches!(hex.len(), 8 | 17) && hex.bytes().all(is_hex))
}

fn is_role(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'=' | b',' | b'.' | b'@' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(good)
}

/// Ids of projects, with the domain that old ones have: `example.com:project`.
fn is_project(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':');
    (4..=100).contains(&text.len()) && text.bytes().all(good)
}

fn is_dashed(text: &str, least: usize) -> bool {
    let good = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= 63 && text.split('-').count() >= least && text.split('-').all(good)
}

fn is_email(text: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    text.len() <= 254 && text.split_once('@').is_some_and(|(name, domain)| good(name) && good(domain))
}

/// A GUID in lowercase.
#[must_use]
pub fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || is_hex(b))
}

const fn is_hex(b: u8) -> bool {
    b.is_ascii_digit() || matches!(b, b'a'..=b'f')
}

#[cfg(test)]
mod tests;
