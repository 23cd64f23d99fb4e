//! Too little disk or too few inodes: the agent stops claiming jobs before they fail, and goes on when there is clearly more.
//!
//! Two file systems count: the one of the agent's directory (workspaces, logs, packages) and the container engine's (images and
//! what containers write). Where they are one it is looked at and said once. Each has the same marks.
//! Between the mark at which it stops and the one at which it goes on lies a quarter, so that it does not swing with each job.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_core::placement::{LowWater, Scarce};
use tokio::sync::watch;

use crate::session::About;
use crate::supervisor::Board;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// What is left of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
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

/// The file systems that jobs need: the one of the agent's directory, and the container engine's where that is another.
#[derive(Debug, Clone, Default)]
pub struct Disks {
    state_dir: PathBuf,
    engine_root: Option<PathBuf>,
}

/// What is left of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Of the one that holds the agent's state.
    pub state: Left,
    /// Directory of the engine and what is left there; `None`: it is the same file system, or not on this host.
    pub engine: Option<(String, Left)>,
}

impl Found {
    /// Bytes of the smaller one, and of the one with less left: workspaces are on the one, images and what containers write on
    /// the other, and a job's `disk` does not say which it means.
    #[must_use]
    pub fn least(&self) -> (u64, u64) {
        let engine = self.engine.as_ref().map_or(self.state, |(_, left)| *left);
        (self.state.total.min(engine.total), self.state.bytes.min(engine.bytes))
    }
}

/// How the container engine's directory can be seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// On the file system that holds the agent's state.
    Same,
    /// On another one.
    Other,
    /// Not at all: the engine is in a virtual machine, or this process in a container.
    None,
}

impl Disks {
    /// `engine_root`: where the engine says that it keeps images and containers, if it says.
    #[must_use]
    pub fn new(state_dir: PathBuf, engine_root: Option<PathBuf>) -> Self {
        Self { state_dir, engine_root }
    }

    /// Reads what is left.
    ///
    /// # Errors
    /// When the kernel does not say it of the file system that holds the agent's state.
    pub fn look(&self) -> io::Result<Found> {
        let state = left(&self.state_dir)?;
        let root = self.engine_root.as_ref().filter(|root| sight(&self.state_dir, root) == Sight::Other);
        let engine = root.and_then(|root| Some((root.display().to_string(), left(root).ok()?)));
        Ok(Found { state, engine })
    }
}

/// Where the engine's directory is, seen from the agent's.
#[must_use]
pub fn sight(state_dir: &Path, engine_root: &Path) -> Sight {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev());
    match (device(state_dir), device(engine_root)) {
        (_, Err(_)) => Sight::None,
        (Ok(state), Ok(engine)) if state == engine => Sight::Same,
        (_, Ok(_)) => Sight::Other,
    }
}

/// Reads what is left of the file system that holds a directory.
fn left(path: &Path) -> io::Result<Left> {
    let found = nix::sys::statvfs::statvfs(path)?;
    Ok(Left {
        total: found.blocks().saturating_mul(found.fragment_size()),
        bytes: found.blocks_available().saturating_mul(found.fragment_size()),
        inodes_total: found.files(),
        inodes: found.files_available(),
    })
}

/// What can be too little: of the engine's file system or of the agent's.
type Short = (Option<String>, Scarce);

/// Remembers what was too little.
#[derive(Debug, Default)]
pub struct Gauge(BTreeSet<Short>);

impl Gauge {
    /// What there is too little of now.
    pub fn judge(&mut self, marks: Marks, found: &Found) -> Vec<LowWater> {
        let before = std::mem::take(&mut self.0);
        let engine = found.engine.as_ref().map(|(root, left)| (Some(root.clone()), *left));
        let mut low = Vec::new();
        for (engine_root, left) in [(None, found.state)].into_iter().chain(engine) {
            let inodes = if left.inodes_total == 0 { 0 } else { marks.inodes };
            for (what, mark, left) in [(Scarce::Disk, marks.bytes, left.bytes), (Scarce::Inodes, inodes, left.inodes)] {
                let again = mark.saturating_add(mark / 4);
                let short = (engine_root.clone(), what);
                if left < if before.contains(&short) { again } else { mark } {
                    self.0.insert(short);
                    low.push(LowWater { what, engine_root: engine_root.clone(), left, low: mark, again });
                }
            }
        }
        low
    }
}

/// Tells the board what there is too little of, for as long as the agent runs.
pub(crate) async fn follow(disks: Disks, mut about: watch::Receiver<About>, board: Board) {
    let mut gauge = Gauge::default();
    let mut said = BTreeSet::new();
    loop {
        let marks = about.borrow_and_update().marks;
        let look = disks.clone();
        match crate::tasks::blocking(move || look.look()).await {
            Ok(found) => {
                let low = gauge.judge(marks, &found);
                for low in low.iter().filter(|low| !said.contains(&(low.engine_root.clone(), low.what))) {
                    tracing::warn!("no more jobs are taken: {low}");
                }
                for (engine_root, what) in said.difference(&gauge.0) {
                    tracing::info!(what = what.as_str(), engine_root, "there is enough again");
                }
                said.clone_from(&gauge.0);
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

    const MARKS: Marks = Marks { bytes: 1_000, inodes: 100 };

    fn left(bytes: u64, inodes: u64) -> Left {
        Left { total: 9_000, bytes, inodes_total: 900, inodes }
    }

    #[test]
    fn it_stops_at_the_mark_and_goes_on_a_quarter_above_it() {
        let mut gauge = Gauge::default();
        let mut low = |bytes, inodes| {
            let low = gauge.judge(MARKS, &Found { state: left(bytes, inodes), engine: None });
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
    fn each_file_system_stops_by_itself_and_with_its_own_words() {
        let mut gauge = Gauge::default();
        let mut low = |state, engine| {
            let found = Found { state, engine: Some(("/var/lib/docker".to_owned(), engine)) };
            gauge.judge(MARKS, &found).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(low(left(1_000, 100), left(1_000, 100)), [""; 0]);
        let engine = [
            "the disk of its engine (`/var/lib/docker`) has 999B left, below 1000B; it takes jobs again at 1.2KiB",
            "the file system of its engine (`/var/lib/docker`) has inodes 99 left, below 100; it takes jobs again at 125",
        ];
        assert_eq!(low(left(1_000, 100), left(999, 99)), engine);
        // That the one was low does not hold the other up.
        assert_eq!(low(left(1_100, 100), left(1_250, 125)), [""; 0]);
        let own = ["its disk has 9B left, below 1000B; it takes jobs again at 1.2KiB"];
        assert_eq!(low(left(9, 100), left(1_100, 100)), own);
    }

    #[test]
    fn a_job_has_the_room_of_the_smaller_one() {
        let (large, small) =
            (Left { total: 100, bytes: 5, ..Left::default() }, Left { total: 50, bytes: 40, ..Left::default() });
        let found = |state, engine: Option<Left>| Found { state, engine: engine.map(|left| ("/d".to_owned(), left)) };
        assert_eq!(found(large, None).least(), (100, 5));
        assert_eq!(found(large, Some(small)).least(), (50, 5));
        assert_eq!(found(small, Some(large)).least(), (50, 5));
    }

    #[test]
    fn a_file_system_without_inodes_and_a_mark_of_0_stop_nothing() {
        let mut gauge = Gauge::default();
        let none = Found { state: Left { total: 9, ..Left::default() }, engine: None };
        assert_eq!(gauge.judge(Marks { bytes: 0, inodes: 100 }, &none), []);
        let found = gauge.judge(Marks { bytes: 8, inodes: 0 }, &none);
        assert_eq!(found, [LowWater { what: Scarce::Disk, engine_root: None, left: 0, low: 8, again: 10 }]);
    }

    #[test]
    fn the_kernel_says_what_is_left_once_for_each_file_system() {
        let (dir, proc) = (tempfile::tempdir().unwrap(), PathBuf::from("/proc"));
        let look = |root: PathBuf| Disks::new(dir.path().to_owned(), Some(root)).look().unwrap();
        let same = look(dir.path().to_owned());
        assert!(same.state.total >= same.state.bytes && same.state.total > 0 && same.engine.is_none(), "{same:?}");
        assert_eq!(look(dir.path().join("absent")).engine, None);
        assert_eq!(look(proc.clone()).engine.map(|(root, _)| root).as_deref(), Some("/proc"));
        let sights = [dir.path(), &proc, &dir.path().join("absent")].map(|root| sight(dir.path(), root));
        assert_eq!(sights, [Sight::Same, Sight::Other, Sight::None]);
    }
}
