//! The configuration as it is written, every field optional, and how it is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_core::offer::Profile;
use longshore_logging::Format;
use serde::Deserialize;

use super::cloud::PartCloud;
use super::span::Span;
use super::{Address, Config, Error, Metadata};
use crate::attest::Cloud;
use crate::executor::{Limits, Mount};
use crate::registry::Registry;

/// Most jobs at once.
const MAX_SLOTS: u32 = 256;

/// The few settings that can be given on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Where the controller's agent plane is: `https://HOST:PORT`
    #[arg(long, value_name = "URL")]
    pub controller: Option<String>,
    /// Directory of everything the agent keeps
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Jobs that run at once
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
}

impl Flags {
    pub(super) fn into_file(self) -> File {
        File { controller: self.controller, state_dir: self.state_dir, slots: self.slots, ..File::default() }
    }
}

/// One source of settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    controller: Option<String>,
    ca_file: Option<PathBuf>,
    proxy: Option<String>,
    proxy_credentials_file: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    name: Option<String>,
    slots: Option<u32>,
    labels: BTreeMap<String, String>,
    weakest_profile: Option<Profile>,
    drain_timeout: Option<Span>,
    cancel_grace: Option<Span>,
    cloud: PartCloud,
    docker: Docker,
    metadata: Option<Metadata>,
    join: Option<Cloud>,
    join_endpoint: Option<String>,
    mounts: Option<Vec<Mount>>,
    registries: Option<Vec<Registry>>,
    limits: PartLimits,
    log: Log,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Log {
    format: Option<Format>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Docker {
    socket: Option<PathBuf>,
    min_runc: Option<String>,
}

/// [`Limits`] with every field optional, so that sources can be laid over each other.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PartLimits {
    pids: Option<u32>,
    memory_bytes: Option<u64>,
    cpus: Option<f64>,
    disk_reserve_bytes: Option<u64>,
    package_bytes: Option<u64>,
    package_cache_bytes: Option<u64>,
    reserve_cpus: Option<f64>,
    reserve_memory_bytes: Option<u64>,
    disk_low_water_bytes: Option<u64>,
    inode_low_water: Option<u64>,
    image_cache_bytes: Option<u64>,
}

impl File {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|err| err.to_string().trim_end().to_owned())
    }

    /// This source laid over a weaker one.
    pub(super) fn over(self, mut weaker: Self) -> Self {
        weaker.labels.extend(self.labels);
        Self {
            controller: self.controller.or(weaker.controller),
            ca_file: self.ca_file.or(weaker.ca_file),
            proxy: self.proxy.or(weaker.proxy),
            proxy_credentials_file: self.proxy_credentials_file.or(weaker.proxy_credentials_file),
            state_dir: self.state_dir.or(weaker.state_dir),
            name: self.name.or(weaker.name),
            slots: self.slots.or(weaker.slots),
            labels: weaker.labels,
            weakest_profile: self.weakest_profile.or(weaker.weakest_profile),
            drain_timeout: self.drain_timeout.or(weaker.drain_timeout),
            cancel_grace: self.cancel_grace.or(weaker.cancel_grace),
            cloud: self.cloud.over(weaker.cloud),
            docker: Docker {
                socket: self.docker.socket.or(weaker.docker.socket),
                min_runc: self.docker.min_runc.or(weaker.docker.min_runc),
            },
            metadata: self.metadata.or(weaker.metadata),
            log: Log { format: self.log.format.or(weaker.log.format) },
            join: self.join.or(weaker.join),
            join_endpoint: self.join_endpoint.or(weaker.join_endpoint),
            mounts: self.mounts.or(weaker.mounts),
            registries: self.registries.or(weaker.registries),
            limits: PartLimits {
                pids: self.limits.pids.or(weaker.limits.pids),
                memory_bytes: self.limits.memory_bytes.or(weaker.limits.memory_bytes),
                cpus: self.limits.cpus.or(weaker.limits.cpus),
                disk_reserve_bytes: self.limits.disk_reserve_bytes.or(weaker.limits.disk_reserve_bytes),
                package_bytes: self.limits.package_bytes.or(weaker.limits.package_bytes),
                package_cache_bytes: self.limits.package_cache_bytes.or(weaker.limits.package_cache_bytes),
                reserve_cpus: self.limits.reserve_cpus.or(weaker.limits.reserve_cpus),
                reserve_memory_bytes: self.limits.reserve_memory_bytes.or(weaker.limits.reserve_memory_bytes),
                disk_low_water_bytes: self.limits.disk_low_water_bytes.or(weaker.limits.disk_low_water_bytes),
                inode_low_water: self.limits.inode_low_water.or(weaker.limits.inode_low_water),
                image_cache_bytes: self.limits.image_cache_bytes.or(weaker.limits.image_cache_bytes),
            },
        }
    }

    /// Whether the environment's proxy is not to be looked at.
    pub(super) fn sets_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// Fills in the defaults and checks every value. `text` is the file, to find lines in.
    pub(super) fn check(self, text: &str) -> Result<Config, Error> {
        let fault = |field: &'static str, message: String| Error::Field { field, line: line_of(text, field), message };
        let missing = |field: &'static str| fault(field, "has to be set".to_owned());
        let url = self.controller.ok_or_else(|| missing("controller"))?;
        let controller = address(&url)
            .ok_or_else(|| fault("controller", format!("`{url}` is not of the form https://HOST:PORT")))?;
        let absolute = |field: &'static str, path: PathBuf| {
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(fault(field, format!("`{}` is not an absolute path", path.display())))
            }
        };
        let credentials =
            self.proxy_credentials_file.map(|path| absolute("proxy_credentials_file", path)).transpose()?;
        let proxy = match self.proxy {
            Some(url) => super::proxy::of_file(&url, credentials).map_err(|message| fault("proxy", message))?,
            None if credentials.is_some() => {
                return Err(fault("proxy_credentials_file", "is of no use without `proxy`".to_owned()));
            }
            None => None,
        };
        let slots = self.slots.unwrap_or(1);
        if !(1..=MAX_SLOTS).contains(&slots) {
            return Err(fault("slots", format!("{slots} is not in 1 to {MAX_SLOTS}")));
        }
        let min_runc = self.docker.min_runc.map(|version| {
            let read = version.parse();
            read.map_err(|()| fault("docker.min_runc", format!("`{version}` is no version: write it as in `1.2.8`")))
        });
        let limits = self.limits.check().map_err(|(field, message)| fault(field, message))?;
        let cloud = self.cloud.check().map_err(|(field, message)| fault(field, message))?;
        let mounts = self.mounts.unwrap_or_default();
        check_mounts(&mounts).map_err(|(field, message)| fault(field, message))?;
        let endpoint = self.join_endpoint.map(|url| url.parse::<longshore_cloud::Endpoint>());
        let join_endpoint = endpoint.transpose().map_err(|error| fault("join_endpoint", error.to_string()))?;
        let registries = self.registries.unwrap_or_default();
        for registry in &registries {
            registry.check().map_err(|(field, message)| fault(field, message))?;
        }
        Ok(Config {
            controller,
            ca_file: absolute("ca_file", self.ca_file.ok_or_else(|| missing("ca_file"))?)?,
            proxy,
            state_dir: absolute("state_dir", self.state_dir.ok_or_else(|| missing("state_dir"))?)?,
            name: self.name.filter(|name| !name.is_empty()).unwrap_or_else(crate::host::hostname),
            slots,
            labels: self.labels,
            weakest_profile: self.weakest_profile.unwrap_or_default(),
            drain_timeout: self.drain_timeout.map_or(Duration::from_secs(600), |span| span.0),
            cancel_grace: self.cancel_grace.map_or(Duration::from_secs(600), |span| span.0),
            cloud,
            docker_socket: absolute(
                "docker.socket",
                self.docker.socket.unwrap_or_else(|| "/var/run/docker.sock".into()),
            )?,
            min_runc: min_runc.transpose()?,
            metadata: self.metadata.unwrap_or_default(),
            log_format: self.log.format.unwrap_or_default(),
            join: self.join,
            join_endpoint,
            mounts,
            registries,
            limits,
        })
    }
}

impl PartLimits {
    fn check(self) -> Result<Limits, (&'static str, String)> {
        let default = Limits::default();
        if let Some(cpus) = self.cpus.filter(|cpus| !(cpus.is_finite() && *cpus > 0.0)) {
            return Err(("limits.cpus", format!("{cpus} is not a number above 0")));
        }
        if let Some(cpus) = self.reserve_cpus.filter(|cpus| !(cpus.is_finite() && (0.0..=4_096.0).contains(cpus))) {
            return Err(("limits.reserve_cpus", format!("{cpus} is not a number from 0 to 4096")));
        }
        // The engine itself refuses less.
        if let Some(bytes) = self.memory_bytes.filter(|bytes| *bytes < 6 << 20) {
            return Err(("limits.memory_bytes", format!("{bytes} is less than 6 MiB, the least the engine takes")));
        }
        let pids = self.pids.unwrap_or(default.pids);
        if pids == 0 {
            return Err(("limits.pids", "0 would let no process run".to_owned()));
        }
        Ok(Limits {
            pids,
            memory_bytes: self.memory_bytes.or(default.memory_bytes),
            cpus: self.cpus.or(default.cpus),
            disk_reserve_bytes: self.disk_reserve_bytes.unwrap_or(default.disk_reserve_bytes),
            package_bytes: self.package_bytes.unwrap_or(default.package_bytes),
            package_cache_bytes: self.package_cache_bytes.unwrap_or(default.package_cache_bytes),
            reserve_cpus: self.reserve_cpus.unwrap_or(default.reserve_cpus),
            reserve_memory_bytes: self.reserve_memory_bytes,
            disk_low_water_bytes: self.disk_low_water_bytes.unwrap_or(default.disk_low_water_bytes),
            inode_low_water: self.inode_low_water.unwrap_or(default.inode_low_water),
            image_cache_bytes: self.image_cache_bytes.unwrap_or(default.image_cache_bytes),
        })
    }
}

/// Directories in a container that a mount may not cover.
const TAKEN: [&str; 6] = ["/", "/longshore", "/.longshore", "/proc", "/sys", "/dev"];

fn check_mounts(mounts: &[Mount]) -> Result<(), (&'static str, String)> {
    let mut names = BTreeSet::new();
    for mount in mounts {
        let name = &mount.name;
        let proper = name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !proper {
            return Err((
                "mounts.name",
                format!("`{name}` is no name: lowercase letters, digits and `-`, a letter first, 63 at most"),
            ));
        }
        if !names.insert(name) {
            return Err(("mounts.name", format!("`{name}` stands there twice")));
        }
        if !mount.source.is_absolute() {
            return Err(("mounts.source", format!("`{}` is not an absolute path", mount.source.display())));
        }
        let target = Path::new(&mount.target);
        let plain = target.is_absolute() && !target.components().any(|part| part == std::path::Component::ParentDir);
        if !plain
            || TAKEN.iter().any(|taken| target == Path::new(taken) || (*taken != "/" && target.starts_with(taken)))
        {
            return Err((
                "mounts.target",
                format!("`{}` is not an absolute path, or one that the container needs itself", mount.target),
            ));
        }
    }
    Ok(())
}

fn address(url: &str) -> Option<Address> {
    let rest = url.strip_prefix("https://")?;
    let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest))?;
    Some(Address { host, port })
}

/// `HOST:PORT`; an IPv6 address stands in brackets, which are taken off.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    let proper =
        !host.is_empty() && !host.contains(|c: char| "/@[]?#".contains(c) || c.is_whitespace() || c.is_control());
    let port = port.parse().ok().filter(|port| *port != 0)?;
    proper.then(|| (host.to_owned(), port))
}

/// The first line that sets the last name of a field's path.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let key = field.rsplit('.').next()?;
    let sets = |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    text.lines().position(sets).map(|index| index + 1)
}
