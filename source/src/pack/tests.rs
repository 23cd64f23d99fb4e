use std::fs;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use super::*;

fn packed(folder: &Path) -> Result<Package, Error> {
    pack(folder, &mut |_, _| {})
}

fn write(root: &Path, path: &str, text: &str, mode: u32) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Path, type and mode, owner and time, content or target of each entry.
fn listing(mut package: Package) -> Vec<String> {
    package.file.rewind().unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(&package.file).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        let zero = header.uid().unwrap() + header.gid().unwrap() + header.mtime().unwrap();
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        let path = entry.path().unwrap().display().to_string();
        let target = entry.link_name().unwrap().map(|target| target.display().to_string()).unwrap_or_default();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(zero, 0, "{path}");
        format!("{path} {kind:?} {mode:o} {text}{target}")
    });
    entries.collect()
}

fn sample(root: &Path, names: &[&str]) {
    for name in names {
        write(root, name, name, 0o644);
    }
    write(root, "bin/run.sh", "#!/bin/sh\n", 0o755);
    symlink("bin/run.sh", root.join("go")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for folder in ["bin", "empty"] {
        fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn the_same_tree_gives_the_same_digest() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample(one.path(), &["a", "b", ".hidden"]);
    sample(two.path(), &[".hidden", "b", "a"]);
    let long_ago = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    File::options().write(true).open(two.path().join("a")).unwrap().set_times(long_ago).unwrap();
    let (first, second) = (packed(one.path()).unwrap(), packed(two.path()).unwrap());
    assert_eq!((first.sha256.as_str(), first.size), (second.sha256.as_str(), second.size));
    assert_eq!(first.entries, 7);

    fs::set_permissions(two.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(packed(two.path()).unwrap().sha256, first.sha256, "a mode is part of the tree");
}

#[test]
fn the_digest_is_that_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path(), &["a"]);
    let mut package = packed(folder.path()).unwrap();
    let mut bytes = Vec::new();
    package.file.rewind().unwrap();
    package.file.read_to_end(&mut bytes).unwrap();
    let digest: String = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&bytes))
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!((package.sha256, package.size), (digest, bytes.len() as u64));
}

#[test]
fn modes_links_and_empty_folders_are_kept_and_sorted() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path(), &[".hidden"]);
    let expected = [
        ".hidden Regular 644 .hidden",
        "bin Directory 755 ",
        "bin/run.sh Regular 755 #!/bin/sh\n",
        "empty Directory 755 ",
        "go Symlink 777 bin/run.sh",
    ];
    assert_eq!(listing(packed(folder.path()).unwrap()), expected);
}

#[test]
fn long_names_survive() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("{}/{}", "d".repeat(120), "f".repeat(150));
    write(folder.path(), &name, "x", 0o644);
    assert!(listing(packed(folder.path()).unwrap()).iter().any(|line| line.starts_with(&name)));
}

#[test]
fn the_ignore_file_and_git_stay_out() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in [
        "keep.txt",
        "drop.log",
        "sub/also.log",
        "sub/keep.log",
        "node_modules/x/y",
        ".git/config",
        "sub/.git",
        ".gitignore",
    ] {
        write(root, name, "", 0o644);
    }
    fs::write(root.join(".gitignore"), "keep.txt\n").unwrap();
    fs::write(root.join(".longshoreignore"), "*.log\n/node_modules/\n.longshoreignore\n").unwrap();
    fs::write(root.join("sub/.longshoreignore"), "!keep.log\n.longshoreignore\n").unwrap();
    let names: Vec<_> =
        listing(packed(root).unwrap()).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, [".gitignore", "keep.txt", "sub", "sub/keep.log"]);
}

#[test]
fn what_cannot_be_packed_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    symlink("/etc/passwd", root.join("out")).unwrap();
    let error = packed(root).unwrap_err();
    assert!(matches!(&error, Error::Refused(Refused::Entry { entry, .. }) if entry == "out"), "{error}");
    fs::remove_file(root.join("out")).unwrap();

    let _listener = UnixListener::bind(root.join("socket")).unwrap();
    assert!(matches!(packed(root), Err(Error::Special { path, kind: "socket" }) if path == Path::new("socket")));
    fs::write(root.join(".longshoreignore"), "socket\n").unwrap();
    assert!(packed(root).is_ok(), "what is ignored is not looked at");

    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(packed(root), Err(Error::Special { kind: "pipe", .. })));
}

#[test]
fn what_is_not_there_and_what_is_no_archive_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(packed(&folder.path().join("none")), Err(Error::Missing { .. })));
    write(folder.path(), "app.tar.gz", "", 0o644);
    write(folder.path(), "text", "just a text", 0o644);
    for name in ["app.tar.gz", "text"] {
        assert!(matches!(packed(&folder.path().join(name)), Err(Error::Form(_))), "{name}");
    }
    nix::unistd::mkfifo(&folder.path().join("pipe.zip"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(packed(&folder.path().join("pipe.zip")), Err(Error::Form(_))), "nor is it waited for");
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (early, late) = (folder.path().join("a"), folder.path().join("b"));
    fs::write(&early, vec![b'x'; 100_000]).unwrap();
    fs::write(&late, "short").unwrap();
    // The first bytes of `a` are read after the folder was listed; `b` changes then.
    let changed = pack(folder.path(), &mut |_, _| fs::write(&late, "longer than it was").unwrap());
    assert!(matches!(changed, Err(Error::Changed(path)) if path == Path::new("b")));
    let changed = pack(folder.path(), &mut |_, _| fs::write(&early, "").unwrap());
    assert!(matches!(changed, Err(Error::Changed(path)) if path == Path::new("a")));
}

#[test]
fn a_bad_ignore_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".longshoreignore"), "a{b\n").unwrap();
    assert!(matches!(packed(folder.path()), Err(Error::Walk(_))));
}
