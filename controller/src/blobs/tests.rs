//! Good packages are kept; everything else leaves nothing.

use super::*;
use futures_util::stream;

struct Store {
    blobs: Blobs,
    root: tempfile::TempDir,
}

fn store(limits: Limits) -> Store {
    let root = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(root.path().join("packages"), limits, Tasks::new()).unwrap();
    Store { blobs, root }
}

/// One entry of a test archive: name, kind, link target, content.
type Entry<'a> = (&'a str, tar::EntryType, &'a str, &'a [u8]);

fn package(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, target, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        // Written as they are: the library would refuse the hostile ones.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap()
}

/// A package of one sparse file that ends with nothing at `size`.
fn sparse(size: u64) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..5].copy_from_slice(b"holes");
    gnu.set_real_size(size);
    gnu.sparse[0].set_offset(size);
    gnu.sparse[0].set_length(0);
    header.set_cksum();
    archive.append(&header, io::empty()).unwrap();
    zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap()
}

fn sha(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

impl Store {
    async fn put(&self, bytes: &[u8]) -> Result<Stored, Error> {
        let chunks: Vec<_> = bytes.chunks(1000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        self.blobs.put(&sha(bytes), stream::iter(chunks)).await
    }

    fn files(&self) -> usize {
        fn count(dir: &Path) -> usize {
            std::fs::read_dir(dir)
                .unwrap()
                .map(|e| e.unwrap())
                .map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 })
                .sum()
        }
        count(self.root.path())
    }
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const LINK: tar::EntryType = tar::EntryType::Symlink;
const HARD: tar::EntryType = tar::EntryType::Link;
const DIR: tar::EntryType = tar::EntryType::Directory;

#[tokio::test]
async fn a_package_is_kept_once_and_read_back() {
    let store = store(Limits::default());
    let bytes = package(&[
        ("./", DIR, "", b""),
        ("infra/", DIR, "", b""),
        ("./infra/Pulumi.yaml", FILE, "", b"name: x\n"),
        ("node_modules/.bin/tool", LINK, "../tool/bin.js", b""),
        ("inner", LINK, "infra/Pulumi.yaml", b""),
        ("same", HARD, "infra/Pulumi.yaml", b""),
    ]);
    assert_eq!(store.put(&bytes).await.unwrap(), Stored { bytes: bytes.len() as u64, new: true });
    assert!(!store.put(&bytes).await.unwrap().new);
    let name = sha(&bytes);
    assert_eq!(std::fs::read(store.blobs.path_of(&name).unwrap()).unwrap(), bytes);
    assert!(store.blobs.exists(&name).await.unwrap() && store.blobs.open_file(&name).await.unwrap().is_some());
    assert_eq!(store.blobs.read_entry(&name, "infra/Pulumi.yaml", 100).await.unwrap().unwrap(), b"name: x\n");
    assert_eq!(store.blobs.read_entry(&name, "infra", 100).await.unwrap(), None);
    assert_eq!(store.blobs.read_entry(&name, "other", 100).await.unwrap(), None);
    assert!(matches!(store.blobs.read_entry(&name, "infra/Pulumi.yaml", 3).await, Err(Error::EntryTooLarge { .. })));
    assert_eq!(store.blobs.read_entry(&sha(b""), "infra", 100).await.unwrap(), None);
    assert_eq!(store.files(), 1);
}

#[tokio::test]
async fn what_is_wrong_or_cut_leaves_nothing() {
    let store = store(Limits { packed: 2_000, ..Limits::default() });
    let bytes = package(&[("a", FILE, "", b"x")]);
    let whole = || stream::iter([Ok(Bytes::from(bytes.clone()))]);
    assert!(matches!(store.blobs.put(&"a".repeat(64), whole()).await, Err(Error::Mismatch { .. })));
    for bad in ["", "../../x", &"A".repeat(64)] {
        assert!(matches!(store.blobs.put(bad, whole()).await, Err(Error::Digest(_))), "{bad}");
    }
    let cut = stream::iter([Ok(Bytes::from(bytes.clone())), Err(axum::Error::new(io::Error::other("gone")))]);
    assert!(matches!(store.blobs.put(&sha(&bytes), cut).await, Err(Error::Cut(_))));
    let noise: Vec<u8> =
        (0..100_u32).flat_map(|i| digest::digest(&digest::SHA256, &i.to_be_bytes()).as_ref().to_vec()).collect();
    assert!(matches!(store.put(&noise).await, Err(Error::TooLarge { limit: 2_000 })));
    for garbage in [
        b"".as_slice(),
        b"rubbish",
        &bytes[..bytes.len() - 5],
        &zstd::encode_all(&b"no tar at all, but longer than nothing"[..], 1).unwrap(),
    ] {
        assert!(matches!(store.put(garbage).await, Err(Error::Archive(_))), "{garbage:?}");
    }
    assert_eq!(store.files(), 0);
}

#[tokio::test]
async fn what_reaches_outside_is_refused_by_name() {
    let store = store(Limits::default());
    let cases: &[(&[Entry<'_>], &str)] = &[
        (&[("/etc/passwd", FILE, "", b"x")], "absolute"),
        (&[("a/../../b", FILE, "", b"x")], "`..`"),
        (&[("dir/out", LINK, "../../etc", b"")], "outside"),
        (&[("out", LINK, "/etc", b"")], "outside"),
        (&[("out", LINK, "..", b"")], "outside"),
        (&[("a/b/out", LINK, "c/../../../..", b"")], "beginning"),
        (&[("out", HARD, "/etc/passwd", b"")], "absolute"),
        (&[("out", HARD, "../x", b"")], "`..`"),
        (&[("in", LINK, "dir", b""), ("in/x", FILE, "", b"x")], "behind the link"),
        (&[("in/x", FILE, "", b"x"), ("in", LINK, "dir", b"")], "twice"),
        (&[("in", LINK, "dir", b""), ("hard", HARD, "in/x", b"")], "no file before it"),
        (&[("hard", HARD, "missing", b"")], "no file before it"),
        (&[("f", FILE, "", b"x"), ("f/x", FILE, "", b"x")], "not a folder"),
        (&[("f", FILE, "", b"x"), ("f", DIR, "", b"")], "twice"),
        (&[("null", tar::EntryType::Char, "", b"")], "device"),
        (&[("sda", tar::EntryType::Block, "", b"")], "device"),
        (&[("pipe", tar::EntryType::Fifo, "", b"")], "pipe"),
    ];
    for (entries, why) in cases {
        let error = store.put(&package(entries)).await.unwrap_err().to_string();
        let name = entries.last().unwrap().0;
        assert!(error.contains(why) && error.contains(name), "{error}");
    }
    assert_eq!(store.files(), 0);
}

#[tokio::test]
async fn bombs_are_refused() {
    let store = store(Limits { entries: 3, unpacked: 80 << 20, ..Limits::default() });
    let many: Vec<Entry<'_>> = ["a", "b", "c", "d"].map(|name| (name, FILE, "", b"".as_slice())).to_vec();
    assert!(store.put(&package(&many)).await.unwrap_err().to_string().contains("3 entries"));
    let deep = "d/".repeat(48);
    let nested = store.put(&package(&[(&deep, DIR, "", b"")])).await.unwrap_err().to_string();
    assert!(nested.contains("3 entries"), "implied folders count: {nested}");
    // A name of 2 MiB, which the reader would keep in memory.
    let long = vec![b'n'; 2 << 20];
    let error = store.put(&package(&[("a", FILE, "", b"x"), ("l", tar::EntryType::GNULongName, "", &long)])).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("bytes of headers") && error.contains("`a`"), "{error}");
    // A file of holes: a terabyte in half a kilobyte, which no decompressor sees.
    let error = store.put(&sparse(1 << 40)).await.unwrap_err().to_string();
    assert!(error.contains("200-fold"), "{error}");
    let zeros = vec![0; 70 << 20];
    let error = store.put(&package(&[("zeros", FILE, "", &zeros)])).await.unwrap_err().to_string();
    assert!(error.contains("200-fold"), "{error}");
    assert_eq!(store.files(), 0);
}

#[tokio::test]
async fn a_restart_forgets_half_uploads() {
    let store = store(Limits::default());
    std::fs::write(store.root.path().join("packages/incoming/half"), b"x").unwrap();
    Blobs::open(store.root.path().join("packages"), Limits::default(), Tasks::new()).unwrap();
    assert_eq!(store.files(), 0);
}

#[tokio::test]
async fn a_file_is_kept_as_it_was_announced_or_not_at_all() {
    let store = store(Limits { packed: 3, ..Limits::default() });
    let text = b"whatever a step wrote".as_slice();
    let put = async |sha256: &str, bytes: u64, body: &[u8], cut: bool| {
        let mut chunks: Vec<_> = body.chunks(5).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        if cut {
            chunks.push(Err(axum::Error::new(io::Error::other("gone"))));
        }
        store.blobs.put_file(sha256, bytes, stream::iter(chunks)).await
    };
    let (digest, length) = (sha(text), text.len() as u64);
    let long = [text, b"!"].concat();
    assert!(matches!(put(&digest, length, &long, false).await, Err(Error::Length { .. })));
    assert!(matches!(put(&digest, length + 1, text, false).await, Err(Error::Length { .. })));
    assert!(matches!(put(&digest, length, &text[1..], false).await, Err(Error::Mismatch { .. })));
    assert!(matches!(put(&digest, length, text, true).await, Err(Error::Cut(_))));
    assert!(matches!(put("../x", length, text, false).await, Err(Error::Digest(_))));
    assert_eq!(store.files(), 0);
    for _ in 0..2 {
        put(&digest, length, text, false).await.unwrap();
    }
    assert_eq!(std::fs::read(store.blobs.path_of(&digest).unwrap()).unwrap(), text);
    assert!(put(&digest, length, &text[1..], false).await.is_err(), "whoever brings it has to have it");
    assert_eq!(store.files(), 1);
}
