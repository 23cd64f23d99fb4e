//! The settings of a step's container: the allow-list of DESIGN section 5.
//!
//! Everything a container may have is named here and nothing of it comes from a step but its profile, its network and
//! the names of the pool's mounts. Invariants: never privileged, never the engine's socket, never a host's namespace,
//! and nothing secret, since anyone who can ask the engine can read all of this.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount as EngineMount, MountType,
    MountVolumeOptions, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use longshore_core::attempt::hostname;
use longshore_core::id::AttemptId;
use longshore_core::init::{MOUNT, PROGRAM};
use longshore_core::offer::{Network, Profile};

use super::{Config, Error, Image, Limits, Mount, Owner, Step};

/// The job's volume in the container.
pub(super) const VOLUME: &str = "/longshore";
/// The package and what steps write, in [`VOLUME`].
pub(super) const WORKSPACE: &str = "/longshore/workspace";
/// HOME of every step, in [`VOLUME`].
pub(super) const HOME: &str = "/longshore/home";
/// A tmpfs for credentials, writable by any user in either profile.
pub(super) const CREDENTIALS: &str = "/run/longshore";
/// The file for a step's outputs, in [`CREDENTIALS`]: secret ones stand there in clear, so they may not reach a disk.
pub(super) const OUTPUT: &str = "/run/longshore/output";
/// The file for a step's plan, in [`CREDENTIALS`] for the same reason.
pub(super) const PLAN: &str = "/run/longshore/plan.json";
/// The folders of what steps leave, in [`VOLUME`] beside the workspace; one for each try.
const ARTIFACTS: &str = "/longshore/artifacts";
/// Marks containers that only prepare a workspace, or look at the network.
pub(super) const HELPER_LABEL: &str = "longshore.helper";

/// Taken from Docker's defaults in profile `standard`: raw packets, device nodes, another root, audit records and
/// capabilities on files are of no use to a deployment.
const STANDARD_DROPS: [&str; 5] = ["NET_RAW", "MKNOD", "SYS_CHROOT", "AUDIT_WRITE", "SETFCAP"];
/// What handing files over needs.
const HELPER_ADDS: [&str; 4] = ["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER"];
/// Seconds that the engine waits at its own shutdown: a tool that was interrupted should get to save its state.
const STOP_SECONDS: i64 = 60;

/// Name of a step's container.
pub(super) fn name(attempt: AttemptId, step: u32) -> String {
    format!("att-{}-{step}", attempt.hex())
}

/// Name of an attempt's volume. Not the job's: two agents of one host may have attempts of the same job, one of them fenced,
/// and neither may touch what the other has.
pub(super) fn volume(attempt: AttemptId) -> String {
    format!("longshore-{}", attempt.hex())
}

/// The folder of what one try of a step leaves.
pub(super) fn artifacts(slot: u32) -> String {
    format!("{ARTIFACTS}/{slot}")
}

/// The labels by which a container is known again.
pub(super) fn labels(config: &Config, step: &Step) -> HashMap<String, String> {
    [
        ("longshore.controller", config.controller.clone()),
        ("longshore.agent", config.agent.to_string()),
        ("longshore.job", step.job.to_string()),
        ("longshore.attempt", step.fence.attempt.to_string()),
        ("longshore.epoch", step.fence.epoch.to_string()),
        ("longshore.step", step.offer.index.to_string()),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into()
}

/// What the host has, for bounds that the configuration leaves open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    pub(super) memory: u64,
    pub(super) cpus: u64,
}

/// The container of a step. `network` is the id of the network `longshore`, needed unless the step wants none.
pub(super) fn step_container(
    config: &Config,
    host: Host,
    step: &Step,
    image: &Image,
    mnt: &Path,
    network: Option<&str>,
) -> Result<ContainerCreateBody, Error> {
    let refused = |cause: String| Error::Step { step: step.offer.name.clone(), cause };
    if !step.offer.profile.permitted_by(config.weakest_profile) {
        return Err(refused(format!(
            "asks for profile `{}` and this agent permits `{}` only; set `profile: {}` or use another pool",
            step.offer.profile.as_str(),
            config.weakest_profile.as_str(),
            config.weakest_profile.as_str()
        )));
    }
    let mut mounts = own_mounts(step.fence.attempt, mnt);
    for name in &step.offer.mounts {
        mounts.push(pool_mount(&config.mounts, name).map_err(refused)?);
    }
    let network_mode = match step.offer.network {
        Network::None => "none".to_owned(),
        Network::Longshore => network.unwrap_or("none").to_owned(),
    };
    let locked = step.offer.profile == Profile::Locked;
    let mut tmpfs = HashMap::from([(CREDENTIALS.to_owned(), "rw,nosuid,nodev,noexec,mode=1777,size=16m".to_owned())]);
    if locked {
        tmpfs.insert("/tmp".to_owned(), "rw,nosuid,nodev,exec,mode=1777".to_owned());
    }
    let drops: &[&str] = if locked { &["ALL"] } else { &STANDARD_DROPS };
    Ok(ContainerCreateBody {
        hostname: Some(hostname(step.fence.attempt)),
        labels: Some(labels(config, step)),
        host_config: Some(HostConfig {
            mounts: Some(mounts),
            tmpfs: Some(tmpfs),
            readonly_rootfs: Some(locked),
            network_mode: Some(network_mode),
            cap_drop: Some(drops.iter().map(|&cap| cap.to_owned()).collect()),
            ..bounds(&config.limits.narrowed(step.offer.resources), host)
        }),
        ..program(&image.id, &[])
    })
}

/// A short run of init as root that hands the job's volume over to another user. `image` is an id.
pub(super) fn helper_container(
    config: &Config,
    host: Host,
    step: &Step,
    image: &str,
    mnt: &Path,
    to: Owner,
) -> ContainerCreateBody {
    let mut labels = labels(config, step);
    labels.insert(HELPER_LABEL.to_owned(), "chown".to_owned());
    ContainerCreateBody {
        user: Some("0:0".to_owned()),
        labels: Some(labels),
        host_config: Some(HostConfig {
            mounts: Some(own_mounts(step.fence.attempt, mnt)),
            readonly_rootfs: Some(true),
            network_mode: Some("none".to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(HELPER_ADDS.map(str::to_owned).into()),
            ..bounds(&config.limits, host)
        }),
        ..program(image, &["chown", &to.to_string(), VOLUME])
    }
}

/// A short run of init as nobody, on the network of the jobs, that tries to reach some places.
pub(super) fn probe_container(
    config: &Config,
    host: Host,
    image: &str,
    network: &str,
    places: &[String],
) -> ContainerCreateBody {
    let mut arguments = vec!["reach"];
    arguments.extend(places.iter().map(String::as_str));
    ContainerCreateBody {
        user: Some("65534:65534".to_owned()),
        labels: Some(super::metadata::labels(&config.agent.to_string())),
        host_config: Some(HostConfig {
            readonly_rootfs: Some(true),
            network_mode: Some(network.to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            ..bounds(&config.limits, host)
        }),
        ..program(image, &arguments)
    }
}

/// init and nothing of the image's own start: its entry point, health check and stop signal would act beside init.
fn program(image: &str, arguments: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![PROGRAM.to_owned()]),
        cmd: Some(arguments.iter().map(|&argument| argument.to_owned()).collect()),
        working_dir: Some("/".to_owned()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        stop_signal: Some("SIGTERM".to_owned()),
        stop_timeout: Some(STOP_SECONDS),
        ..ContainerCreateBody::default()
    }
}

/// What every container of ours has in common.
fn bounds(limits: &Limits, host: Host) -> HostConfig {
    // Swap would make memory that a limit has taken come back slowly; both limits are the same, so there is none.
    let memory = limits.memory_bytes.unwrap_or(host.memory / 10 * 9).min(host.memory);
    let memory = i64::try_from(memory).ok().filter(|memory| *memory > 0);
    HostConfig {
        privileged: Some(false),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        pids_limit: Some(i64::from(limits.pids)),
        memory,
        memory_swap: memory,
        nano_cpus: limits.cpus.map(|cpus| nano_cpus(cpus, host.cpus)),
        // A core file would carry the job's secrets to the host's disk.
        ulimits: Some(vec![ResourcesUlimits { name: Some("core".to_owned()), soft: Some(0), hard: Some(0) }]),
        ipc_mode: Some("private".to_owned()),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

/// The engine refuses more CPUs than the host has.
fn nano_cpus(cpus: f64, available: u64) -> i64 {
    let available = u32::try_from(available).map_or(f64::MAX, f64::from);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 4e18 after the clamp, and fractions of a nano-CPU mean nothing"
    )]
    let nanos = (cpus.clamp(0.01, available.clamp(0.01, 4e9)) * 1e9) as i64;
    nanos
}

fn own_mounts(attempt: AttemptId, mnt: &Path) -> Vec<EngineMount> {
    vec![
        EngineMount {
            typ: Some(MountType::BIND),
            source: Some(mnt.to_string_lossy().into_owned()),
            target: Some(MOUNT.to_owned()),
            read_only: Some(true),
            ..EngineMount::default()
        },
        EngineMount {
            typ: Some(MountType::VOLUME),
            source: Some(volume(attempt)),
            target: Some(VOLUME.to_owned()),
            // Whatever the image has at that place stays out of the workspace.
            volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
            ..EngineMount::default()
        },
    ]
}

fn pool_mount(mounts: &[Mount], name: &str) -> Result<EngineMount, String> {
    let Some(mount) = mounts.iter().find(|mount| mount.name == name) else {
        let known: Vec<&str> = mounts.iter().map(|mount| mount.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { format!("`{}`", known.join("`, `")) };
        return Err(format!("asks for the mount `{name}`, which this agent does not have (it has: {known})"));
    };
    Ok(EngineMount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..EngineMount::default()
    })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
