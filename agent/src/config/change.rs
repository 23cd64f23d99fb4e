//! What changes when a running agent reads its configuration again, and what has to wait for its next start.

use std::collections::BTreeSet;
use std::fmt::Debug;

use super::Config;
use crate::executor::{Limits, Mount};

/// The way from one configuration to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The other one, but for what cannot change at run time.
    pub config: Config,
    /// What changes, a line each.
    pub taken: Vec<String>,
    /// What would change with a new start, a line each.
    pub later: Vec<String>,
}

impl Config {
    /// What becomes of this configuration when `next` is read. Slots, labels, profile, drain timeout, mounts and limits
    /// change; where things are does not.
    #[must_use]
    pub fn change_to(&self, next: &Self) -> Change {
        let (mut taken, mut later) = (Vec::new(), Vec::new());
        differ(&mut taken, "slots", &self.slots, &next.slots);
        differ(&mut taken, "weakest_profile", &self.weakest_profile.as_str(), &next.weakest_profile.as_str());
        differ(&mut taken, "drain_timeout", &self.drain_timeout, &next.drain_timeout);
        let names: BTreeSet<&String> = self.labels.keys().chain(next.labels.keys()).collect();
        for name in names {
            maybe(&mut taken, &format!("labels.{name}"), self.labels.get(name), next.labels.get(name));
        }
        mounts(&mut taken, &self.mounts, &next.mounts);
        // Never with its values, although no password stands in them.
        if self.registries != next.registries {
            taken.push("`registries`".to_owned());
        }
        limits(&mut taken, &self.limits, &next.limits);
        differ(&mut later, "controller", &self.controller.to_string(), &next.controller.to_string());
        differ(&mut later, "ca_file", &self.ca_file, &next.ca_file);
        differ(&mut later, "state_dir", &self.state_dir, &next.state_dir);
        differ(&mut later, "name", &self.name, &next.name);
        differ(&mut later, "docker.socket", &self.docker_socket, &next.docker_socket);
        differ(&mut later, "docker.min_runc", &self.min_runc, &next.min_runc);
        differ(&mut later, "join", &self.join, &next.join);
        differ(&mut later, "join_endpoint", &self.join_endpoint, &next.join_endpoint);
        differ(&mut later, "metadata", &self.metadata, &next.metadata);
        differ(&mut later, "log.format", &self.log_format, &next.log_format);
        differ(&mut later, "cancel_grace", &self.cancel_grace, &next.cancel_grace);
        differ(&mut later, "cloud", &self.cloud, &next.cloud);
        // Never with its values: a password may stand in them.
        if self.proxy != next.proxy {
            later.push("`proxy`".to_owned());
        }
        let cache = self.limits.package_cache_bytes;
        differ(&mut later, "limits.package_cache_bytes", &cache, &next.limits.package_cache_bytes);
        let config = Self {
            slots: next.slots,
            labels: next.labels.clone(),
            weakest_profile: next.weakest_profile,
            drain_timeout: next.drain_timeout,
            mounts: next.mounts.clone(),
            registries: next.registries.clone(),
            limits: Limits { package_cache_bytes: cache, ..next.limits.clone() },
            ..self.clone()
        };
        Change { config, taken, later }
    }
}

fn differ<T: PartialEq + Debug>(lines: &mut Vec<String>, field: &str, old: &T, new: &T) {
    if old != new {
        lines.push(format!("`{field}` from {old:?} to {new:?}"));
    }
}

fn maybe<T: PartialEq + Debug>(lines: &mut Vec<String>, field: &str, old: Option<&T>, new: Option<&T>) {
    match (old, new) {
        (Some(old), Some(new)) => differ(lines, field, old, new),
        (Some(old), None) => lines.push(format!("`{field}` from {old:?} to nothing")),
        (None, Some(new)) => lines.push(format!("`{field}` from nothing to {new:?}")),
        (None, None) => {}
    }
}

fn mounts(lines: &mut Vec<String>, old: &[Mount], new: &[Mount]) {
    let find = |mounts: &[Mount], name: &str| mounts.iter().find(|mount| mount.name == name).cloned();
    for mount in old {
        match find(new, &mount.name) {
            None => lines.push(format!("mount `{}` is gone", mount.name)),
            Some(now) if now != *mount => lines.push(format!("mount `{}` is another one", mount.name)),
            Some(_) => {}
        }
    }
    for mount in new.iter().filter(|mount| find(old, &mount.name).is_none()) {
        lines.push(format!("mount `{}` is new", mount.name));
    }
}

fn limits(lines: &mut Vec<String>, old: &Limits, new: &Limits) {
    differ(lines, "limits.pids", &old.pids, &new.pids);
    maybe(lines, "limits.memory_bytes", old.memory_bytes.as_ref(), new.memory_bytes.as_ref());
    maybe(lines, "limits.cpus", old.cpus.as_ref(), new.cpus.as_ref());
    differ(lines, "limits.disk_reserve_bytes", &old.disk_reserve_bytes, &new.disk_reserve_bytes);
    differ(lines, "limits.package_bytes", &old.package_bytes, &new.package_bytes);
    differ(lines, "limits.reserve_cpus", &old.reserve_cpus, &new.reserve_cpus);
    let (old_memory, new_memory) = (old.reserve_memory_bytes.as_ref(), new.reserve_memory_bytes.as_ref());
    maybe(lines, "limits.reserve_memory_bytes", old_memory, new_memory);
    differ(lines, "limits.disk_low_water_bytes", &old.disk_low_water_bytes, &new.disk_low_water_bytes);
    differ(lines, "limits.inode_low_water", &old.inode_low_water, &new.inode_low_water);
    differ(lines, "limits.image_cache_bytes", &old.image_cache_bytes, &new.image_cache_bytes);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longshore_core::offer::Profile;

    use super::super::{Address, Cloud, Credentials, Metadata, Proxy};
    use super::*;

    fn config() -> Config {
        Config {
            controller: Address { host: "c".to_owned(), port: 1 },
            ca_file: "/ca".into(),
            proxy: None,
            state_dir: "/s".into(),
            name: "n".to_owned(),
            slots: 2,
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            weakest_profile: Profile::Standard,
            drain_timeout: Duration::from_secs(600),
            cancel_grace: Duration::from_secs(600),
            cloud: Cloud::default(),
            docker_socket: "/d".into(),
            log_format: longshore_logging::Format::Text,
            min_runc: None,
            metadata: Metadata::Blocked,
            join: None,
            join_endpoint: None,
            mounts: vec![mount("state", "/a"), mount("old", "/b")],
            registries: vec![],
            limits: Limits::default(),
        }
    }

    fn mount(name: &str, source: &str) -> Mount {
        Mount { name: name.to_owned(), source: source.into(), target: "/t".to_owned(), read_only: false }
    }

    #[test]
    fn nothing_changes_when_nothing_differs() {
        let change = config().change_to(&config());
        assert_eq!((change.config, change.taken, change.later), (config(), vec![], vec![]));
    }

    #[test]
    fn what_can_change_is_taken_and_named() {
        let mut next = config();
        (next.slots, next.drain_timeout, next.limits.cpus) = (4, Duration::from_secs(5), Some(1.5));
        next.labels = [("disk".to_owned(), "ssd".to_owned())].into();
        next.mounts = vec![mount("state", "/c"), mount("new", "/d")];
        next.weakest_profile = Profile::Locked;
        next.registries = vec![toml::from_str("host = \"a\"\nhelper = [\"b\"]").unwrap()];
        let change = config().change_to(&next);
        assert_eq!(change.config, next);
        assert_eq!(
            change.taken,
            [
                "`slots` from 2 to 4",
                "`weakest_profile` from \"standard\" to \"locked\"",
                "`drain_timeout` from 600s to 5s",
                "`labels.disk` from nothing to \"ssd\"",
                "`labels.zone` from \"a\" to nothing",
                "mount `state` is another one",
                "mount `old` is gone",
                "mount `new` is new",
                "`registries`",
                "`limits.cpus` from nothing to 1.5",
            ]
        );
        assert!(change.later.is_empty());
    }

    #[test]
    fn what_cannot_is_named_each_time_and_shows_no_password() {
        let mut next = config();
        next.controller.port = 2;
        next.state_dir = "/other".into();
        next.limits.package_cache_bytes = 7;
        let given = Credentials::Given(longshore_core::secret::Secret::new("u:hunter2".to_owned()));
        next.proxy = Some(Proxy { host: "p".to_owned(), port: 1, credentials: Some(given), set_by: "HTTPS_PROXY" });
        let change = config().change_to(&next);
        assert_eq!((&change.config, change.taken.len(), change.later.len()), (&config(), 0, 4));
        assert!(change.later.join(" ").contains("`controller` from \"https://c:1\" to \"https://c:2\""));
        assert!(!change.later.join(" ").contains("hunter2"));
        assert_eq!(change.config.change_to(&next).later.len(), 4);
    }
}
