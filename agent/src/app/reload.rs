//! SIGHUP: the configuration is read again, and what can change at run time changes.

use std::time::Duration;

use longshore_core::resources::{Bytes, Cpus, Resources};
use tokio::sync::watch;

use crate::config::{self, Config};
use crate::session::About;
use crate::water::Marks;

/// Reads the configuration as the start did: file, environment and flags.
pub type Reread = Box<dyn Fn() -> Result<Config, config::Error> + Send + Sync>;

/// Who is told of another configuration.
pub(super) struct Told<F> {
    /// The executor.
    pub(super) executor: F,
    /// Session and slots.
    pub(super) about: watch::Sender<About>,
    /// Whoever drains next.
    pub(super) drain_timeout: watch::Sender<Duration>,
}

/// Follows the signals for as long as the agent runs.
pub(super) async fn follow<F: Fn(&Config) + Send>(
    mut hangups: watch::Receiver<u64>,
    mut config: Config,
    reread: Reread,
    told: Told<F>,
) {
    let reread = std::sync::Arc::new(reread);
    loop {
        crate::tasks::changed(&mut hangups).await;
        let reread = std::sync::Arc::clone(&reread);
        match crate::tasks::blocking(move || reread().map_err(std::io::Error::other)).await {
            Ok(next) => config = take(&config, &next, &told),
            Err(error) => {
                tracing::error!(%error, "the configuration was read again and is wrong; nothing was changed, and the one before stays in force");
            }
        }
    }
}

fn take<F: Fn(&Config)>(config: &Config, next: &Config, told: &Told<F>) -> Config {
    let change = config.change_to(next);
    for line in &change.taken {
        tracing::info!(change = line, "the configuration has changed");
    }
    for line in &change.later {
        tracing::warn!(change = line, "this change takes effect when the agent is started anew, not before");
    }
    if change.taken.is_empty() && change.later.is_empty() {
        tracing::info!("the configuration was read again; nothing has changed");
    }
    // The executor first: what the controller is told of has to be there.
    (told.executor)(&change.config);
    told.drain_timeout.send_replace(change.config.drain_timeout);
    told.about.send_if_modified(|about| {
        let next = about_of(&change.config, about.boot_id.clone(), about.instance_id.clone());
        let differs = *about != next;
        *about = next;
        differs
    });
    change.config
}

/// What an agent says of itself with this configuration.
pub(super) fn about_of(config: &Config, boot_id: String, instance_id: String) -> About {
    let memory = crate::host::memory();
    About {
        boot_id,
        instance_id,
        slots: config.slots,
        mounts: config.mounts.iter().map(|mount| mount.name.clone()).collect(),
        labels: config.labels.clone(),
        weakest_profile: config.weakest_profile,
        reserve: Resources {
            cpus: millis(config.limits.reserve_cpus),
            memory: Bytes(config.limits.reserve_memory_bytes.unwrap_or(memory / 10)),
            disk: Bytes(config.limits.disk_reserve_bytes),
        },
        largest: Resources {
            cpus: config.limits.cpus.map(millis).unwrap_or_default(),
            // As its container would have without asking.
            memory: Bytes(config.limits.memory_bytes.unwrap_or(memory / 10 * 9)),
            disk: Bytes(0),
        },
        marks: Marks {
            // Less than what has to be there before a step starts would stop nothing in time.
            bytes: match config.limits.disk_low_water_bytes {
                0 => 0,
                low => low.max(config.limits.disk_reserve_bytes),
            },
            inodes: config.limits.inode_low_water,
        },
    }
}

/// Processors as the configuration writes them.
fn millis(cpus: f64) -> Cpus {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 4096 after the clamp, and not below 0"
    )]
    let millis = (cpus.clamp(0.0, 4_096.0) * 1_000.0) as u64;
    Cpus(millis)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::Flags;
    use crate::tasks::Tasks;

    const GOOD: &str = "controller = \"https://c:1\"\nca_file = \"/ca\"\nstate_dir = \"/s\"\n";

    #[tokio::test]
    async fn a_broken_file_changes_nothing_and_a_good_one_what_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let read = {
            let path = path.clone();
            move || Config::load(&path, std::iter::empty(), Flags::default())
        };
        std::fs::write(&path, GOOD).unwrap();
        let config = read().unwrap();
        let (about, mut about_rx) = watch::channel(about_of(&config, "b".to_owned(), "i".to_owned()));
        let (drain_timeout, drain_rx) = watch::channel(config.drain_timeout);
        let limits = Arc::new(Mutex::new(vec![]));
        let seen = Arc::clone(&limits);
        let executor = move |config: &Config| seen.lock().unwrap().push(config.limits.pids);
        let (hangup, hangups) = watch::channel(0);
        let read_count = Arc::new(tokio::sync::Semaphore::new(0));
        let reads = Arc::clone(&read_count);
        let reread: Reread = Box::new(move || {
            let config = read();
            reads.add_permits(1);
            config
        });
        let tasks = Tasks::new();
        tasks.spawn("reload", follow(hangups, config, reread, Told { executor, about, drain_timeout }));

        std::fs::write(&path, format!("{GOOD}slots = 0\n")).unwrap();
        hangup.send_modify(|count| *count += 1);
        read_count.acquire().await.unwrap().forget();
        std::fs::write(&path, format!("{GOOD}slots = 5\ndrain_timeout = \"7s\"\n[limits]\npids = 9\n")).unwrap();
        hangup.send_modify(|count| *count += 1);
        about_rx.changed().await.unwrap();
        assert_eq!((about_rx.borrow_and_update().slots, *drain_rx.borrow()), (5, Duration::from_secs(7)));
        // The wrong one has not reached anybody.
        assert_eq!(*limits.lock().unwrap(), [9]);

        // The same again reconnects nobody.
        hangup.send_modify(|count| *count += 1);
        read_count.acquire_many(2).await.unwrap().forget();
        while limits.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        tasks.end().await;
        assert!(!about_rx.has_changed().unwrap_or(false));
    }
}
