use super::*;
use std::collections::BTreeMap;

const OWNER: Owner = Owner { uid: 1234, gid: 77 };

/// By path: kind, mode, where it links to, content.
type Entries = BTreeMap<String, (EntryType, u32, String, Vec<u8>)>;

struct Package(Builder<Vec<u8>>);

impl Package {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Past the checks of the tar crate, so that hostile names get through.
    fn raw(mut self, kind: EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.raw(EntryType::Regular, name, "", mode, content)
    }

    fn link(self, name: &str, to: &str) -> Self {
        self.raw(EntryType::Symlink, name, to, 0o777, b"")
    }

    fn rewritten(self) -> Result<Entries, Refused> {
        let zst = zstd::encode_all(&self.0.into_inner().unwrap()[..], 3).unwrap();
        rewritten(zst, 1 << 20)
    }

    fn refused(self) -> String {
        self.rewritten().unwrap_err().to_string()
    }
}

fn rewritten(zst: Vec<u8>, most: u64) -> Result<Entries, Refused> {
    let mut out = Vec::new();
    rewrite(Some(Box::new(io::Cursor::new(zst))), OWNER, most, &mut out)?;
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(&out[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (1234, 77));
        let link = entry.link_name().unwrap().map_or_else(String::new, |link| link.display().to_string());
        let path = entry.path().unwrap().display().to_string().trim_end_matches('/').to_owned();
        entries.insert(path, (entry.header().entry_type(), entry.header().mode().unwrap(), link, content));
    }
    Ok(entries)
}

#[test]
fn modes_links_and_contents_stay_and_parents_are_made() {
    let long = format!("deep/{}/x", "n".repeat(90));
    let got = Package::new()
        .file("./bin/run.sh", 0o4750, b"#!")
        .link("bin/alias", "run.sh")
        .link("bin/up", "../deep")
        .raw(EntryType::Link, "hard", "bin/run.sh", 0o644, b"")
        .raw(EntryType::Directory, "empty/", "", 0o700, b"")
        .file(&long, 0o600, b"\0\xff")
        .rewritten()
        .unwrap();
    assert_eq!(got["workspace/bin/run.sh"], (EntryType::Regular, 0o750, String::new(), b"#!".to_vec()));
    assert_eq!(got["workspace/bin"].1, 0o755);
    assert_eq!(got["workspace/bin/alias"].2, "run.sh");
    assert_eq!(got["workspace/bin/up"].2, "../deep");
    assert_eq!((got["workspace/hard"].0, got["workspace/hard"].2.as_str()), (EntryType::Link, "workspace/bin/run.sh"));
    assert_eq!((got["workspace/empty"].0, got["workspace/empty"].1), (EntryType::Directory, 0o700));
    assert_eq!(got[&format!("workspace/{long}")].3, b"\0\xff");
    assert!(got.contains_key("home"));
}

#[test]
fn what_leaves_the_workspace_is_refused_by_name() {
    let one = Package::new;
    for (package, says) in [
        (one().file("/etc/passwd", 0o644, b""), "absolute"),
        (one().file("a/../../x", 0o644, b""), "`..`"),
        (one().link("out", "/etc"), "outside"),
        (one().link("a/out", "../../etc"), "outside"),
        (one().link("out", ".."), "outside"),
        (one().link("dot", ".").link("out", "dot/.."), "only at its beginning"),
        (one().link("d", "e").file("d/x", 0o644, b""), "behind the link"),
        (one().file("f", 0o644, b"").file("f/x", 0o644, b""), "not a folder"),
        (one().raw(EntryType::Directory, "d", "", 0o755, b"").link("d", "e"), "twice"),
        (one().raw(EntryType::Link, "h", "/etc/passwd", 0o644, b""), "hard link"),
        (one().raw(EntryType::Link, "h", "../x", 0o644, b""), "hard link"),
        (one().raw(EntryType::Link, "h", "missing", 0o644, b""), "hard link"),
        (one().link("l", "x").raw(EntryType::Link, "h", "l", 0o644, b""), "hard link"),
        (one().raw(EntryType::Block, "sda", "", 0o644, b""), "neither"),
        (one().raw(EntryType::Fifo, "pipe", "", 0o644, b""), "neither"),
    ] {
        let error = package.refused();
        assert!(error.contains(says), "{error} does not say {says}");
    }
}

#[test]
fn too_much_and_damaged_packages_are_refused() {
    let zst = |package: Package| zstd::encode_all(&package.0.into_inner().unwrap()[..], 3).unwrap();
    let big = zst(Package::new().file("a", 0o644, &[0; 600]).file("b", 0o644, &[0; 600]));
    assert!(matches!(rewritten(big.clone(), 1000), Err(Refused::Package(archive::Refused::TooLarge(1000)))));
    assert!(matches!(
        rewritten(big[..big.len() - 20].to_vec(), 10_000),
        Err(Refused::Package(archive::Refused::Unreadable { .. }))
    ));
    assert!(matches!(
        rewritten(b"no zstd".to_vec(), 10_000),
        Err(Refused::Package(archive::Refused::Unreadable { .. }))
    ));
}

#[test]
fn without_a_package_there_are_the_three_directories() {
    let mut out = Vec::new();
    rewrite(None, OWNER, 0, &mut out).unwrap();
    assert_eq!(tar::Archive::new(&out[..]).entries().unwrap().count(), 3);
}
