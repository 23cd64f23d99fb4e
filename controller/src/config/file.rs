//! The file as it is written: everything optional, nothing unknown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::telemetry::Format;

/// A duration as text: `30s`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = longshore_core::spec::duration::parse(text).map(Self);
        parsed.ok_or_else(|| format!("`{text}` is not a duration: write it as in `30s`, `10m` or `1h30m`"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) lease: Option<Span>,
    pub(super) heartbeat: Option<Span>,
    pub(super) max_disconnected: Option<Span>,
    pub(super) cancel_grace: Option<Span>,
    pub(super) shutdown_grace: Option<Span>,
    pub(super) max_package_bytes: Option<u64>,
    pub(super) max_artifact_bytes: Option<u64>,
    pub(super) max_step_artifact_bytes: Option<u64>,
    pub(super) api: Api,
    pub(super) agents: Agents,
    pub(super) connections: Connections,
    pub(super) log: Log,
    pub(super) secrets: Secrets,
    pub(super) sources: Sources,
    pub(super) tracing: Tracing,
    pub(super) join: Join,
    pub(super) scaling: Scaling,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Api {
    pub(super) listen: Option<SocketAddr>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) public_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Agents {
    pub(super) listen: Option<SocketAddr>,
    pub(super) names: Option<Vec<String>>,
    pub(super) certificate_validity: Option<Span>,
    pub(super) ephemeral_silence: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Connections {
    pub(super) handshake_timeout: Option<Span>,
    pub(super) handshakes_per_address: Option<u32>,
    pub(super) per_address: Option<u32>,
    pub(super) in_all: Option<u32>,
    pub(super) count_loopback: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) level: Option<String>,
    pub(super) format: Option<Format>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tracing {
    pub(super) endpoint: Option<String>,
    pub(super) sample: Option<f64>,
    pub(super) headers_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Secrets {
    pub(super) kek_file: Option<PathBuf>,
    pub(super) kek_env: Option<String>,
    pub(super) kek_command: Option<Vec<String>>,
    pub(super) previous_kek_file: Option<PathBuf>,
    pub(super) previous_kek_env: Option<String>,
    pub(super) previous_kek_command: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sources {
    pub(super) protocols: Option<Vec<String>>,
    pub(super) max_bytes: Option<u64>,
    pub(super) timeout: Option<Span>,
    pub(super) at_once: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Join {
    pub(super) aws: JoinAws,
    pub(super) gcp: JoinGcp,
    pub(super) azure: JoinAzure,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct JoinAws {
    pub(super) certificates: BTreeMap<String, PathBuf>,
    pub(super) sts_endpoint: Option<String>,
    pub(super) ec2_endpoint: Option<String>,
    pub(super) metadata_endpoint: Option<String>,
    pub(super) document_age: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct JoinGcp {
    pub(super) jwks_url: Option<String>,
    pub(super) issuer: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct JoinAzure {
    pub(super) certificates: Vec<PathBuf>,
    pub(super) name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Scaling {
    pub(super) interval: Option<Span>,
    pub(super) commands: Option<BTreeMap<String, Vec<String>>>,
    pub(super) command_timeout: Option<Span>,
    pub(super) aws_endpoint: Option<String>,
    pub(super) gcp_endpoint: Option<String>,
    pub(super) azure_endpoint: Option<String>,
    pub(super) metadata_endpoint: Option<String>,
}
