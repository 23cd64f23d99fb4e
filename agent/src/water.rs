//! Too little disk or too few inodes: the agent stops claiming jobs before they fail, and goes on when there is clearly more.
//!
//! Between the mark at which it stops and the one at which it goes on lies a quarter, so that it does not swing with each job.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use longshore_core::placement::{LowWater, Scarce};
use tokio::sync::watch;

use crate::session::About;
use crate::supervisor::Board;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// What is left of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Bytes of it.
    pub total: u64,
    /// Free bytes, for this process.
    pub bytes: u64,
    /// Inodes of it; 0: it counts none.
    pub inodes_total: u64,
    /// Free inodes, for this process.
    pub inodes: u64,
}

/// Marks at which the agent stops; 0: never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Free bytes.
    pub bytes: u64,
    /// Free inodes.
    pub inodes: u64,
}

/// Reads what is left of the file system that holds a directory.
///
/// # Errors
/// When the kernel does not say.
pub fn left(path: &std::path::Path) -> std::io::Result<Left> {
    let found = nix::sys::statvfs::statvfs(path)?;
    Ok(Left {
        total: found.blocks().saturating_mul(found.fragment_size()),
        bytes: found.blocks_available().saturating_mul(found.fragment_size()),
        inodes_total: found.files(),
        inodes: found.files_available(),
    })
}

/// Remembers what was too little.
#[derive(Debug, Default)]
pub struct Gauge(BTreeSet<Scarce>);

impl Gauge {
    /// What there is too little of now.
    pub fn judge(&mut self, marks: Marks, left: Left) -> Vec<LowWater> {
        let disk = (Scarce::Disk, marks.bytes, left.bytes);
        let inodes = (Scarce::Inodes, if left.inodes_total == 0 { 0 } else { marks.inodes }, left.inodes);
        [disk, inodes].into_iter().filter_map(|(what, low, left)| self.one(what, low, left)).collect()
    }

    fn one(&mut self, what: Scarce, low: u64, left: u64) -> Option<LowWater> {
        let again = low.saturating_add(low / 4);
        let below = left < if self.0.contains(&what) { again } else { low };
        if below {
            self.0.insert(what);
        } else {
            self.0.remove(&what);
        }
        below.then_some(LowWater { what, left, low, again })
    }
}

/// Tells the board what there is too little of, for as long as the agent runs.
pub(crate) async fn follow(state_dir: PathBuf, mut about: watch::Receiver<About>, board: Board) {
    let mut gauge = Gauge::default();
    let mut said = BTreeSet::new();
    loop {
        let marks = about.borrow_and_update().marks;
        let dir = state_dir.clone();
        match crate::tasks::blocking(move || left(&dir)).await {
            Ok(left) => {
                let low = gauge.judge(marks, left);
                let now: BTreeSet<Scarce> = low.iter().map(|low| low.what).collect();
                for low in low.iter().filter(|low| !said.contains(&low.what)) {
                    tracing::warn!("no more jobs are taken: {low}");
                }
                for what in said.difference(&now) {
                    tracing::info!(what = what.as_str(), "there is enough again, jobs are taken");
                }
                said = now;
                board.low(low);
            }
            Err(error) => tracing::warn!(%error, "it cannot be seen how much disk is left"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = crate::tasks::changed(&mut about) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_at_the_mark_and_goes_on_a_quarter_above_it() {
        let mut gauge = Gauge::default();
        let marks = Marks { bytes: 1_000, inodes: 100 };
        let mut low = |bytes, inodes| {
            let low = gauge.judge(marks, Left { total: 9_000, bytes, inodes_total: 900, inodes });
            low.into_iter().map(|low| low.what).collect::<Vec<_>>()
        };
        assert_eq!(low(1_000, 100), []);
        assert_eq!(low(999, 100), [Scarce::Disk]);
        assert_eq!(low(1_100, 99), [Scarce::Disk, Scarce::Inodes], "more than the mark is not enough");
        assert_eq!(low(1_249, 124), [Scarce::Disk, Scarce::Inodes]);
        assert_eq!(low(1_250, 124), [Scarce::Inodes]);
        assert_eq!(low(1_100, 125), [], "it had gone on");
    }

    #[test]
    fn a_file_system_without_inodes_and_a_mark_of_0_stop_nothing() {
        let mut gauge = Gauge::default();
        let none = Left { total: 9, bytes: 0, inodes_total: 0, inodes: 0 };
        assert_eq!(gauge.judge(Marks { bytes: 0, inodes: 100 }, none), []);
        let found = gauge.judge(Marks { bytes: 8, inodes: 0 }, none);
        assert_eq!(found, [LowWater { what: Scarce::Disk, left: 0, low: 8, again: 10 }]);
    }

    #[test]
    fn the_kernel_says_what_is_left() {
        let left = left(&std::env::temp_dir()).unwrap();
        assert!(left.total >= left.bytes && left.total > 0, "{left:?}");
    }
}
