//! The container engine: whether it can be had, and whether it is one that jobs are safe on.

use std::io::ErrorKind;
use std::path::Path;

use longshore_core::id::AgentId;

use super::{Check, host};
use crate::config::Config;
use crate::executor::probe::{EngineFacts, NoEngine, Runc, look};
use crate::water::Sight;

/// Releases of runc that have the fixes of CVE-2024-21626 (leaked descriptors) and of CVE-2025-31133, CVE-2025-52565 and
/// CVE-2025-52881 (masked paths), by which a container got out: from each on, within its minor version.
const RUNC_FIXED: [Runc; 3] = [Runc::release(1, 2, 8), Runc::release(1, 3, 3), Runc::candidate(1, 4, 0, 3)];

pub(super) async fn checks(config: &Config, own: Option<AgentId>) -> Vec<Check> {
    let facts = match look(&config.docker_socket, own).await {
        Ok(facts) => facts,
        Err(error) => return vec![unreached(&config.docker_socket, &error)],
    };
    let mut checks = vec![
        Check::ok("engine socket", format!("the engine answers on `{}`", config.docker_socket.display())),
        version(&facts),
        cgroups(&facts),
        runc(facts.runc.as_deref()),
        users(&facts, !config.mounts.is_empty()),
        host::judge_selinux(&host::selinux(config), facts.has("selinux")),
    ];
    let root = Path::new(&facts.root);
    checks.push(disk(config, root, host::sight(&config.state_dir, root)));
    checks.push(others(&facts));
    checks
}

fn unreached(socket: &Path, error: &NoEngine) -> Check {
    let (name, at) = ("engine socket", socket.display());
    match error {
        NoEngine::Socket(error) if error.kind() == ErrorKind::NotFound => Check::error(
            name,
            format!("there is no `{at}`"),
            "install Docker 20.10 or newer and start it (`systemctl enable --now docker`), or set `docker.socket`",
        ),
        NoEngine::Socket(error) if error.kind() == ErrorKind::PermissionDenied => Check::error(
            name,
            format!("this user may not use `{at}`"),
            "put the agent's user into the group of the socket (`usermod -aG docker USER`) and start the agent anew; that is as much as being root on this host",
        ),
        NoEngine::Socket(error) => Check::error(
            name,
            format!("nothing answers on `{at}`: {error}"),
            "start the engine (`systemctl start docker`); `journalctl -u docker` says why it ended",
        ),
        NoEngine::Answer(error) => Check::error(
            name,
            format!("`{at}` takes a connection, but the engine does not answer as it should: {error}"),
            "look at the engine (`docker info`, `journalctl -u docker`), or set `docker.socket` to the socket of a Docker engine",
        ),
    }
}

/// The disk of images and of what containers write.
fn disk(config: &Config, root: &Path, sight: Sight) -> Check {
    let (name, at) = ("engine disk", root.display());
    let unseen = |why: String| {
        Check::warning(
            name,
            format!("{why}, so the agent cannot watch how full the disk of images and containers is"),
            "watch that disk where the engine runs; an agent beside its engine watches it by itself",
        )
    };
    match sight {
        Sight::Same => Check::ok(name, format!("`{at}` is on the same file system as `state_dir`, see `disk`")),
        Sight::None if root.as_os_str().is_empty() => unseen("the engine does not say where it keeps them".to_owned()),
        Sight::None => unseen(format!("there is no `{at}` here that this user can look at")),
        Sight::Other => match host::space(root) {
            Ok(space) => host::judge_disk(name, root, space, config.limits.disk_reserve_bytes),
            Err(error) => unseen(format!("the free space of `{at}` is not known: {error}")),
        },
    }
}

fn version(facts: &EngineFacts) -> Check {
    let (major, minor) = facts.api;
    let found = format!("Docker {} with API {}; {major}.{minor} is spoken", facts.version, facts.newest_api);
    if facts.is_new_enough() {
        Check::ok("engine version", found)
    } else {
        Check::error("engine version", found, "upgrade Docker to 20.10 or newer (API 1.41)")
    }
}

fn cgroups(facts: &EngineFacts) -> Check {
    let name = "cgroups";
    let found = match facts.cgroup_version.as_str() {
        "1" | "2" => format!("version {}", facts.cgroup_version),
        _ => "the engine does not say which version".to_owned(),
    };
    if facts.unlimited.is_empty() {
        return Check::ok(name, found);
    }
    let found =
        format!("{found}; the engine cannot limit {}, so a step may take all of it", facts.unlimited.join(", "));
    let todo = if facts.has("rootless") {
        "a rootless engine needs cgroup version 2 with delegated controllers (`Delegate=cpu memory pids` in the unit `user@.service`)"
    } else {
        "boot with `systemd.unified_cgroup_hierarchy=1`, or enable the controllers (`cgroup_enable=memory` on the kernel's command line)"
    };
    Check::warning(name, found, todo)
}

/// Distributions repair old versions without a new number, which only their own records tell.
fn runc(version: Option<&str>) -> Check {
    let name = "runc";
    let todo = "upgrade the package of runc (often `runc` or `containerd.io`); a distribution may have repaired this number \
                too: compare with its security notices of CVE-2024-21626, CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881";
    match version.map(|version| (version, is_repaired(version))) {
        None => Check::warning(
            name,
            "the engine does not say its version",
            "ask the host: `runc --version` should be 1.2.8, 1.3.3 or newer",
        ),
        Some((version, None)) => Check::warning(name, format!("version `{version}` cannot be read"), todo),
        Some((version, Some(true))) => Check::ok(name, format!("version {version}")),
        Some((version, Some(false))) => Check::warning(
            name,
            format!("version {version}: by that number, a job could get out of its container to this host"),
            todo,
        ),
    }
}

/// Whether a version has every known way out closed. `None`: it is no version.
fn is_repaired(version: &str) -> Option<bool> {
    let version: Runc = version.parse().ok()?;
    let of_line = RUNC_FIXED.iter().find(|fixed| fixed.line() == version.line());
    Some(of_line.map_or_else(|| version.line() > (1, 4), |fixed| version >= *fixed))
}

/// Whose users those in containers are.
fn users(facts: &EngineFacts, mounts: bool) -> Check {
    let name = "users";
    if facts.has("rootless") {
        return Check::ok(name, "the engine is rootless: root in a container is the engine's user");
    }
    match (facts.has("userns"), mounts) {
        (false, _) => Check::ok(name, "root in a container is root on this host, without most of its rights"),
        (true, false) => Check::ok(name, "the engine maps users of containers to others (`userns-remap`)"),
        (true, true) => Check::warning(
            name,
            "the engine maps users of containers to others (`userns-remap`), also for the directories of `mounts`",
            "give those directories to the mapped users: `chown` by the first number of the engine's user in /etc/subuid, \
             plus the user's number in the image",
        ),
    }
}

fn others(facts: &EngineFacts) -> Check {
    let found = match facts.other_agents.len() {
        0 => "no other agent has containers on this engine".to_owned(),
        _ => {
            let agents: Vec<&str> = facts.other_agents.iter().map(String::as_str).collect();
            format!("others have containers on this engine and are left alone: {}", agents.join(", "))
        }
    };
    Check::ok("other agents", found)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn escapes_are_known_by_version() {
        for (version, repaired) in [
            ("1.1.5+ds1", Some(false)),
            ("1.1.12", Some(false)),
            ("1.2.7", Some(false)),
            ("1.2.8", Some(true)),
            ("1.3.0-0ubuntu2", Some(false)),
            ("1.3.3", Some(true)),
            ("1.4.0-rc.1", Some(false)),
            ("1.4.0-rc.3", Some(true)),
            ("1.4.0", Some(true)),
            ("1.3.0-rc.3", Some(false)),
            ("1.5", Some(true)),
            ("2.0.0", Some(true)),
            ("v1", None),
            ("", None),
        ] {
            assert_eq!(is_repaired(version), repaired, "{version}");
        }
        assert_eq!(runc(Some("1.1.5+ds1")).result, Level::Warning);
        assert_eq!(runc(Some("1.3.3")).result, Level::Ok);
        assert_eq!(runc(None).result, Level::Warning);
    }

    #[test]
    fn an_engine_that_is_too_old_or_cannot_limit_is_said() {
        let facts = |api, security: &[&str], unlimited: &[&'static str]| EngineFacts {
            api,
            security: security.iter().map(|&text| text.to_owned()).collect(),
            unlimited: unlimited.to_vec(),
            cgroup_version: "2".to_owned(),
            ..EngineFacts::default()
        };
        assert_eq!(version(&facts((1, 40), &[], &[])).result, Level::Error);
        assert_eq!(version(&facts((1, 41), &[], &[])).result, Level::Ok);
        assert_eq!(cgroups(&facts((1, 41), &[], &[])), Check::ok("cgroups", "version 2"));
        let rootless = cgroups(&facts((1, 41), &["name=rootless"], &["memory"]));
        assert!(rootless.result == Level::Warning && rootless.what_to_do.unwrap().contains("Delegate="));
        let remapped = facts((1, 41), &["name=seccomp,profile=default", "name=userns"], &[]);
        assert_eq!([users(&remapped, false).result, users(&remapped, true).result], [Level::Ok, Level::Warning]);
        assert!(users(&remapped, true).what_to_do.unwrap().contains("/etc/subuid"));
    }

    #[test]
    fn each_way_of_not_reaching_it_has_its_remedy() {
        let todo = |kind: ErrorKind| unreached(Path::new("/d"), &NoEngine::Socket(kind.into())).what_to_do.unwrap();
        assert!(todo(ErrorKind::NotFound).contains("docker.socket"));
        assert!(todo(ErrorKind::PermissionDenied).contains("usermod"));
        assert!(todo(ErrorKind::ConnectionRefused).contains("systemctl start docker"));
    }
}
