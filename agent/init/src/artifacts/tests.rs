//! Hostile and unlucky folders.

use super::*;
use longshore_core::artifacts::{Limits, MAX_DEPTH, MAX_ENTRIES, MAX_PATH};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const LIMITS: Limits = Limits { file_bytes: 1000, total_bytes: 3000 };

struct Try {
    _dir: tempfile::TempDir,
    collect: Collect,
}

impl Try {
    fn new(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("artifacts/3").to_string_lossy().into_owned();
        Self { _dir: dir, collect: Collect { folder, limits } }
    }

    fn files(&self) -> PathBuf {
        Path::new(&self.collect.folder).join(FILES)
    }

    fn kept(&self, index: usize) -> Vec<u8> {
        fs::read(Path::new(&self.collect.folder).join(KEPT).join(index.to_string())).unwrap()
    }

    /// What is collected after `leave` has left it.
    fn left(&self, secrets: &[&str], leave: impl FnOnce(&Path)) -> ExitRecord {
        let folder = Folder::make(&self.collect).unwrap();
        leave(&self.files());
        let mut record = ExitRecord::default();
        folder.collect(None, &[&Patterns::new(secrets).unwrap(), &Patterns::default()], &mut record);
        record
    }
}

fn paths(record: &ExitRecord) -> Vec<&str> {
    record.artifacts.iter().map(|artifact| artifact.path.as_str()).collect()
}

fn reasons(record: &ExitRecord) -> Vec<(&str, Reason)> {
    record.left_out.iter().map(|one| (one.path.as_str(), one.reason)).collect()
}

fn sha(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    crate::spool::hex(&sha2::Sha256::digest(bytes))
}

#[test]
fn files_are_listed_in_order_and_moved_as_they_are() {
    let dir = Try::new(LIMITS);
    let record = dir.left(&["hunter2"], |files| {
        fs::create_dir_all(files.join("reports/unit")).unwrap();
        fs::write(files.join("reports/unit/a.xml"), b"\0\xffa").unwrap();
        fs::write(files.join("z"), b"").unwrap();
        fs::write(files.join("b c ä"), b"text").unwrap();
    });
    assert_eq!(paths(&record), ["b c ä", "reports/unit/a.xml", "z"]);
    assert!(record.left_out.is_empty());
    assert_eq!((dir.kept(0), dir.kept(1), dir.kept(2)), (b"text".to_vec(), b"\0\xffa".to_vec(), vec![]));
    assert_eq!((record.artifacts[1].bytes, &record.artifacts[1].sha256), (3, &sha(b"\0\xffa")));
}

#[test]
fn a_file_with_a_secret_in_it_or_in_its_name_stays_out() {
    let dir = Try::new(Limits { file_bytes: 1 << 20, total_bytes: 1 << 20 });
    let record = dir.left(&["hunter2-secret"], |files| {
        // Over the border of two reads.
        let mut long = vec![b'x'; (256 << 10) - 5];
        long.extend_from_slice(b"hunter2-secret");
        fs::write(files.join("long"), long).unwrap();
        fs::write(files.join("encoded"), b"aHVudGVyMi1zZWNyZXQ=").unwrap();
        fs::write(files.join("is-hunter2-secret"), b"").unwrap();
        fs::write(files.join("good"), b"hunter2").unwrap();
    });
    assert_eq!(paths(&record), ["good"]);
    assert_eq!(
        reasons(&record),
        [("encoded", Reason::Secret), ("is-[secret]", Reason::Secret), ("long", Reason::Secret)]
    );
}

#[test]
fn nothing_but_regular_files_with_one_name_is_read() {
    let dir = Try::new(LIMITS);
    let record = dir.left(&[], |files| {
        symlink("/etc/passwd", files.join("link")).unwrap();
        symlink("/etc", files.join("folder-link")).unwrap();
        nix::unistd::mkfifo(&files.join("pipe"), Mode::S_IRWXU).unwrap();
        drop(std::os::unix::net::UnixListener::bind(files.join("socket")).unwrap());
        fs::write(files.join("one"), b"1").unwrap();
        fs::hard_link(files.join("one"), files.join("two")).unwrap();
        fs::write(files.join(OsStr::from_bytes(b"caf\xe9")), b"1").unwrap();
        fs::write(files.join("new\nline"), b"1").unwrap();
    });
    assert!(record.artifacts.is_empty());
    let want = [
        ("caf\u{fffd}", Reason::Name),
        ("folder-link", Reason::NotRegular),
        ("link", Reason::NotRegular),
        ("new\u{fffd}line", Reason::Name),
        ("one", Reason::HardLink),
        ("pipe", Reason::NotRegular),
        ("socket", Reason::NotRegular),
        ("two", Reason::HardLink),
    ];
    assert_eq!(reasons(&record), want);
}

#[test]
fn a_folder_whose_name_is_not_utf_8_gives_no_path() {
    let dir = Try::new(LIMITS);
    let record = dir.left(&[], |files| {
        let odd = files.join(OsStr::from_bytes(b"caf\xe9"));
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join("a"), b"1").unwrap();
    });
    assert!(record.artifacts.is_empty(), "a path with a replaced character would be one that is not there");
    assert_eq!(reasons(&record), [("caf\u{fffd}", Reason::Name)]);
}

#[test]
fn bytes_names_and_depth_are_bounded() {
    let dir = Try::new(LIMITS);
    let deep = ["d"; MAX_DEPTH + 1].join("/");
    let record = dir.left(&[], |files| {
        for name in ["a", "b", "c"] {
            fs::write(files.join(name), vec![b'x'; 999]).unwrap();
        }
        fs::create_dir_all(files.join(&deep)).unwrap();
        fs::write(files.join(&deep).join("f"), b"").unwrap();
        fs::write(files.join("e"), vec![b'x'; 4]).unwrap();
        fs::File::create(files.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let folder = files.join("y".repeat(200));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("z".repeat(100)), b"").unwrap();
    });
    assert_eq!(paths(&record), ["a", "b", "c"]);
    let long = format!("{}/{}", "y".repeat(200), "z".repeat(MAX_PATH - 201));
    let want = [
        (deep.as_str(), Reason::Depth),
        ("e", Reason::TotalSize),
        ("sparse", Reason::TooLarge),
        (long.as_str(), Reason::Name),
    ];
    assert_eq!(reasons(&record), want);
}

#[test]
fn the_list_is_bounded_and_says_how_much_it_lacks() {
    let dir = Try::new(LIMITS);
    let record = dir.left(&[], |files| {
        for n in 0..MAX_ENTRIES + 10 {
            fs::write(files.join(format!("{}{n:05}", "\"".repeat(80))), b"").unwrap();
        }
    });
    let json = serde_json::to_vec(&record).unwrap().len();
    assert!(json < MAX_LIST + 1000, "{json}");
    let named = record.artifacts.len() + record.left_out.len() - 1;
    let last = record.left_out.last().unwrap();
    assert_eq!((last.path.as_str(), last.reason), ("", Reason::TooMany));
    assert_eq!(named as u64 + last.count, MAX_ENTRIES as u64 + 1, "each that was looked at, and one for the rest");
}

#[test]
fn a_folder_that_was_tampered_with_is_said_to_be_unreadable() {
    let dir = Try::new(LIMITS);
    let record = dir.left(&[], |files| {
        fs::write(files.join("a"), b"").unwrap();
        fs::create_dir(files.parent().unwrap().join(KEPT)).unwrap();
    });
    assert_eq!((paths(&record), &record.left_out), (vec![], &vec![unreadable()]));
    assert_eq!(Folder::make(&dir.collect).unwrap_err(), Errno::EEXIST, "a try has a folder of its own");
    // Another folder in the place of its own is not looked into.
    let dir = Try::new(LIMITS);
    let record = dir.left(&[], |files| {
        fs::rename(files, files.with_file_name("moved")).unwrap();
        symlink("/etc", files).unwrap();
    });
    assert_eq!((paths(&record), reasons(&record)), (vec![], vec![]));
}

#[test]
fn a_state_is_kept_only_as_it_was_written() {
    let text = br#"{"version":3,"deployment":{}}"#;
    let state = |secrets: &[&str], limits, change: &dyn Fn(&Path)| {
        let dir = Try::new(limits);
        let folder = Folder::make(&dir.collect).unwrap();
        let patterns = Patterns::new(secrets).unwrap();
        let mut file = folder.state(&patterns).unwrap();
        text.chunks(5).for_each(|chunk| file.push(chunk));
        let sum = file.finish();
        change(&Path::new(&dir.collect.folder).join(STATE));
        let mut record = ExitRecord::default();
        folder.collect(Some(&sum), &[&patterns], &mut record);
        (record, dir)
    };
    let (record, dir) = state(&[], LIMITS, &|_| ());
    let want =
        Artifact { path: STATE_BEFORE.to_owned(), bytes: text.len() as u64, sha256: sha(text), kind: Kind::State };
    assert_eq!((record.artifacts, dir.kept(0)), (vec![want], text.to_vec()));
    let left = |(record, _): (ExitRecord, Try)| {
        assert!(record.artifacts.is_empty());
        let [one] = record.left_out.try_into().unwrap();
        assert_eq!((one.path.as_str(), one.kind), (STATE_BEFORE, Kind::State));
        one.reason
    };
    let secret = state(&["deployment"], LIMITS, &|file| assert_eq!(fs::metadata(file).unwrap().len(), 0));
    assert_eq!(left(secret), Reason::Secret);
    assert_eq!(left(state(&[], Limits { file_bytes: 9, total_bytes: 99 }, &|_| ())), Reason::TooLarge);
    assert_eq!(left(state(&[], LIMITS, &|file| fs::write(file, "{}").unwrap())), Reason::Changed);
    assert_eq!(left(state(&[], LIMITS, &|file| fs::remove_file(file).unwrap())), Reason::Unreadable);
}
