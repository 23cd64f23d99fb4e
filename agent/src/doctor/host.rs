//! The state directory, its disk, who works on it, and what the host's security module lets containers see.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Check, size};
use crate::config::Config;
use crate::status::{Live, is_running, said};
use crate::water::{self, Sight};

/// Less than this is said although steps still start.
const COMFORT: u64 = 1 << 30;
/// Fewer free inodes than this are too few for a package with many files.
const INODES_LEAST: u64 = 1_000;
const INODES_COMFORT: u64 = 20_000;
/// The type that lets containers use a directory of the host.
const CONTAINER_TYPE: &str = ":container_file_t:";

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let path = &config.state_dir;
    let me = nix::unistd::geteuid().as_raw();
    let mut checks = vec![judge_dir(path, &dir(path), me)];
    let (place, stat) = nearest(path);
    checks.push(match stat {
        Ok(space) => judge_disk("disk", &place, space, config.limits.disk_reserve_bytes),
        Err(error) => Check::warning(
            "disk",
            format!("the free space of `{}` is not known: {error}", place.display()),
            "look at that directory with `df`",
        ),
    });
    checks.extend(judge_running(path, is_running(path), said(path).ok().flatten().as_ref()));
    checks
}

/// A directory as it is.
#[derive(Debug)]
enum Dir {
    Absent,
    Unreadable(io::Error),
    NoDirectory,
    There { mode: u32, owner: u32 },
}

fn dir(path: &Path) -> Dir {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Dir::Absent,
        Err(error) => Dir::Unreadable(error),
        Ok(meta) if !meta.is_dir() => Dir::NoDirectory,
        Ok(meta) => Dir::There { mode: meta.permissions().mode() & 0o7777, owner: meta.uid() },
    }
}

fn judge_dir(path: &Path, dir: &Dir, me: u32) -> Check {
    let (name, path) = ("state directory", path.display());
    match dir {
        Dir::Absent => Check::ok(name, format!("`{path}` is not there yet; `enroll` makes it")),
        Dir::Unreadable(error) => Check::error(
            name,
            format!("`{path}` cannot be looked at: {error}"),
            "run `doctor` as the user that the agent runs as, or as root",
        ),
        Dir::NoDirectory => Check::error(
            name,
            format!("`{path}` is not a directory"),
            "set `state_dir` to a directory of the agent's own",
        ),
        Dir::There { owner, .. } if me != 0 && *owner != me => Check::error(
            name,
            format!("`{path}` belongs to user {owner}, and this is user {me}"),
            format!(
                "run `doctor` as the user that the agent runs as, or give the directory to that user: `chown -R USER {path}`"
            ),
        ),
        Dir::There { mode, owner } if *mode != 0o700 => Check::warning(
            name,
            format!("`{path}` of user {owner} has mode {mode:04o}; keys are in it"),
            format!("`chmod 0700 {path}`; the agent does it when it starts"),
        ),
        Dir::There { owner, .. } => Check::ok(name, format!("`{path}` of user {owner}, mode 0700")),
    }
}

/// What is free for this process on a file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    bytes: u64,
    /// `None`: it does not count inodes.
    inodes: Option<u64>,
}

pub(super) fn space(path: &Path) -> io::Result<Space> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let inodes = (stat.files() > 0).then(|| stat.files_available());
    Ok(Space { bytes: stat.blocks_available().saturating_mul(stat.fragment_size()), inodes })
}

/// The directory, or what is there of the way to it.
fn nearest(path: &Path) -> (PathBuf, io::Result<Space>) {
    let there = there(path);
    (there.to_owned(), space(there))
}

fn there(path: &Path) -> &Path {
    path.ancestors().find(|above| above.exists()).unwrap_or(path)
}

/// Where the engine's directory is, seen from the agent's, which need not be there yet.
pub(super) fn sight(state_dir: &Path, engine_root: &Path) -> Sight {
    water::sight(there(state_dir), engine_root)
}

pub(super) fn judge_disk(name: &'static str, path: &Path, space: Space, reserve: u64) -> Check {
    let inodes = space.inodes.map(|inodes| format!(" and {inodes} inodes")).unwrap_or_default();
    let found = format!("`{}` has {}{inodes} free, {} have to be", path.display(), size(space.bytes), size(reserve));
    let few = |least: u64| space.inodes.is_some_and(|inodes| inodes < least);
    if space.bytes < reserve || few(INODES_LEAST) {
        let todo =
            "free some space (`docker system df`, `docker image prune`) or move the directory; no step starts before";
        Check::error(name, found, todo)
    } else if space.bytes < reserve.saturating_add(COMFORT) || few(INODES_COMFORT) {
        Check::warning(name, found, "free some space before steps fail for it")
    } else {
        Check::ok(name, found)
    }
}

fn judge_running(path: &Path, running: io::Result<bool>, live: Option<&Live>) -> Option<Check> {
    let since = |live: &Live| live.since.map(|at| format!(" since {at}")).unwrap_or_default();
    match (running, live) {
        (Ok(true), Some(Live { draining: Some(reason), .. })) => Some(Check::warning(
            "running agent",
            format!("an agent works on `{}` and takes no jobs: {reason}", path.display()),
            "do what it says, or start it anew if it was told to stop",
        )),
        (Ok(true), Some(live)) if !live.connected => Some(Check::warning(
            "running agent",
            format!("an agent works on `{}`, not connected to its controller{}", path.display(), since(live)),
            "see the checks of the way to the controller below, and the agent's log",
        )),
        (running, _) => judge_lock(path, running),
    }
}

fn judge_lock(path: &Path, running: io::Result<bool>) -> Option<Check> {
    match running {
        Ok(true) => Some(Check::ok(
            "running agent",
            format!("an agent works on `{}`; a second one on it would be refused", path.display()),
        )),
        Ok(false) => Some(Check::ok("running agent", format!("none works on `{}`", path.display()))),
        // The check of the directory has said so already.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => Some(Check::warning(
            "running agent",
            format!("not known: {error}"),
            "look with `systemctl status longshore-agent`",
        )),
    }
}

/// What SELinux makes of the directories that containers get to see.
#[derive(Debug)]
pub(super) struct Selinux {
    enforcing: bool,
    /// Directories, each with its label.
    labels: Vec<(PathBuf, Option<String>)>,
}

pub(super) fn selinux(config: &Config) -> Selinux {
    let enforcing = std::fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1");
    let seen = std::iter::once(&config.state_dir).chain(config.mounts.iter().map(|mount| &mount.source));
    Selinux { enforcing, labels: seen.map(|path| (path.clone(), label(path))).collect() }
}

fn label(path: &Path) -> Option<String> {
    let mut bytes = [0_u8; 256];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut bytes).ok()?;
    let text = String::from_utf8_lossy(bytes.get(..length)?).into_owned();
    Some(text.trim_end_matches('\0').to_owned())
}

/// `confines`: the engine runs its containers under SELinux.
pub(super) fn judge_selinux(selinux: &Selinux, confines: bool) -> Check {
    let name = "selinux";
    if !selinux.enforcing {
        return Check::ok(name, "not enforcing on this host");
    }
    if !confines {
        return Check::ok(name, "enforcing, but the engine does not confine its containers by it");
    }
    let fits =
        |label: &Option<String>| label.as_ref().is_some_and(|label| format!("{label}:").contains(CONTAINER_TYPE));
    let unfit: Vec<&PathBuf> = selinux.labels.iter().filter(|(_, label)| !fits(label)).map(|(path, _)| path).collect();
    if unfit.is_empty() {
        return Check::ok(name, "enforcing, and containers may use the agent's directories");
    }
    let commands: Vec<String> = unfit
        .iter()
        .map(|path| {
            let path = path.display();
            format!("`semanage fcontext -a -t container_file_t '{path}(/.*)?' && restorecon -R {path}`")
        })
        .collect();
    let paths: Vec<String> = unfit.iter().map(|path| format!("`{}`", path.display())).collect();
    Check::error(
        name,
        format!("enforcing, and containers may not use {}, so no step could run", paths.join(", ")),
        format!("label them: {}", commands.join(", then ")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_state_directory_is_private_and_the_agents() {
        let path = Path::new("/s");
        let judged = |dir: Dir, me| {
            let check = judge_dir(path, &dir, me);
            assert_eq!(check.what_to_do.is_none(), check.result == Level::Ok);
            check.result
        };
        let there = |mode, owner| Dir::There { mode, owner };
        assert_eq!(judged(there(0o700, 7), 7), Level::Ok);
        assert_eq!(judged(there(0o700, 7), 0), Level::Ok);
        assert_eq!(judged(there(0o755, 7), 7), Level::Warning);
        assert_eq!(judged(there(0o700, 7), 8), Level::Error);
        assert_eq!(judged(Dir::Absent, 8), Level::Ok);
        assert_eq!(judged(Dir::NoDirectory, 8), Level::Error);
        assert_eq!(judged(Dir::Unreadable(io::Error::other("x")), 8), Level::Error);
    }

    #[test]
    fn bytes_and_inodes_run_out() {
        let judged = |bytes, inodes| judge_disk("disk", Path::new("/s"), Space { bytes, inodes }, 64 << 20).result;
        assert_eq!(judged(63 << 20, Some(1 << 20)), Level::Error);
        assert_eq!(judged(1 << 30, Some(1 << 20)), Level::Warning);
        assert_eq!(judged(2 << 30, Some(1 << 20)), Level::Ok);
        assert_eq!(judged(2 << 30, Some(10)), Level::Error);
        assert_eq!(judged(2 << 30, Some(10_000)), Level::Warning);
        // btrfs counts no inodes.
        assert_eq!(judged(2 << 30, None), Level::Ok);
    }

    #[test]
    fn a_running_agent_that_takes_no_jobs_is_said() {
        let judged = |running, live: &Live| judge_running(Path::new("/s"), Ok(running), Some(live)).unwrap();
        let well = Live { connected: true, ..Live::default() };
        assert_eq!(judged(true, &well).result, Level::Ok);
        let held = Live { draining: Some("metadata".to_owned()), ..well };
        let check = judged(true, &held);
        assert!(check.result == Level::Warning && check.found.ends_with("takes no jobs: metadata"), "{check:?}");
        let alone = Live { connected: false, ..Live::default() };
        assert_eq!(judged(true, &alone).result, Level::Warning);
        // What an agent said that runs no more means nothing.
        assert_eq!(judged(false, &held).result, Level::Ok);
        assert!(judge_running(Path::new("/s"), Err(io::ErrorKind::PermissionDenied.into()), None).is_none());
    }

    #[test]
    fn selinux_needs_its_label_where_containers_are_confined() {
        let labelled = |enforcing, label: Option<&str>| Selinux {
            enforcing,
            labels: vec![("/var/lib/a".into(), label.map(str::to_owned))],
        };
        let var = Some("system_u:object_r:var_lib_t:s0");
        assert_eq!(judge_selinux(&labelled(false, var), true).result, Level::Ok);
        assert_eq!(judge_selinux(&labelled(true, var), false).result, Level::Ok);
        let right = Some("system_u:object_r:container_file_t:s0");
        assert_eq!(judge_selinux(&labelled(true, right), true).result, Level::Ok);
        for wrong in [var, None] {
            let check = judge_selinux(&labelled(true, wrong), true);
            assert!(check.result == Level::Error && check.what_to_do.unwrap().contains("semanage fcontext"));
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_measured_above() {
        let dir = tempfile::tempdir().unwrap();
        let (place, stat) = nearest(&dir.path().join("a/b/c"));
        assert!(place == dir.path() && stat.is_ok());
        assert!(label(&dir.path().join("absent")).is_none());
    }
}
