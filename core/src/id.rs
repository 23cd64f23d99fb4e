//! Typed, prefixed identifiers.
//!
//! An id says what it names (`dep_`, `job_`, `att_`, ...) and cannot be mistaken for another kind, neither by
//! the compiler nor by a person who pastes it. Behind the prefix stand 32 hex digits of a UUID version 7
//! (RFC 9562), so ids sort by the time they were made. Time and random bytes come from the caller.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{Builder, Uuid};

use crate::time::Timestamp;

/// A text that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: it starts with `{prefix}` and 32 hex digits follow")]
pub struct InvalidId {
    text: String,
    kind: &'static str,
    prefix: &'static str,
}

fn parse(text: &str, kind: &'static str, prefix: &'static str) -> Result<Uuid, InvalidId> {
    let invalid = || InvalidId { text: text.chars().take(80).collect(), kind, prefix };
    let hex = text.strip_prefix(prefix).ok_or_else(invalid)?;
    let canonical = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !canonical {
        return Err(invalid());
    }
    Uuid::try_parse(hex).map_err(|_| invalid())
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes a new id from the time and ten random bytes.
            #[must_use]
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.as_micros() / 1000).unwrap_or(0);
                Self(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// The 32 hex digits without the prefix, for places with an alphabet of their own (host names, volumes).
            #[must_use]
            pub fn hex(self) -> String {
                self.0.simple().to_string()
            }

            /// The 16 bytes behind the prefix.
            #[must_use]
            pub const fn bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text, $kind, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A project.
    ProjectId "prj_" "a project id";
    /// A deployment.
    DeploymentId "dep_" "a deployment id";
    /// A release.
    ReleaseId "rel_" "a release id";
    /// An approval that is asked for.
    ApprovalId "apr_" "an approval id";
    /// A job: the run of consecutive container steps of one deployment.
    JobId "job_" "a job id";
    /// One try of a job on one agent.
    AttemptId "att_" "an attempt id";
    /// An enrolled agent.
    AgentId "agt_" "an agent id";
    /// A bearer token or a join token; not its secret part.
    TokenId "tok_" "a token id";
    /// A join rule: machines of a cloud that may join.
    JoinRuleId "jru_" "a join rule id";
    /// A role that a user or a team was given.
    GrantId "grn_" "a role grant id";
    /// One controller installation, as named in container labels.
    ControllerId "ctl_" "a controller id";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(micros: i64, fill: u8) -> DeploymentId {
        DeploymentId::new(Timestamp::from_micros(micros), [fill; 10])
    }

    #[test]
    fn survives_a_round_trip_as_text_and_json() {
        let made = id(1_795_255_200_000_000, 7);
        assert_eq!(made.to_string().parse::<DeploymentId>().unwrap(), made);
        let json = serde_json::to_string(&made).unwrap();
        assert_eq!(serde_json::from_str::<DeploymentId>(&json).unwrap(), made);
    }

    #[test]
    fn sorts_by_time() {
        assert!(id(1_000_000, 255).to_string() < id(2_000_000, 0).to_string());
    }

    #[test]
    fn another_kind_is_refused_with_its_name() {
        let made = id(1, 1).to_string();
        let err = made.parse::<JobId>().unwrap_err().to_string();
        assert!(err.contains("not a job id") && err.contains(&made), "{err}");
        let hex = id(1, 0xab).hex();
        for bad in [
            String::new(),
            "dep_".to_owned(),
            hex.clone(),
            format!("dep_{}", hex.to_uppercase()),
            format!("dep_{hex}0"),
            "dep_é".to_owned(),
        ] {
            assert!(bad.parse::<DeploymentId>().is_err(), "{bad}");
        }
    }
}
