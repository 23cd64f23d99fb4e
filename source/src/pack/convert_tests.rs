use std::io::{Cursor, Seek as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use tar::EntryType;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::super::{Package, pack};
use super::*;

/// A tar past the checks of its crate, so that hostile names get through.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn raw(mut self, kind: EntryType, name: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(EntryType::Regular, name, "", 0o644, content)
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn converted(bytes: &[u8]) -> Result<Package, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    pack(file.path(), &mut |_, _| {})
}

fn refused(bytes: &[u8]) -> String {
    let error = converted(bytes).unwrap_err();
    assert!(matches!(error, Error::Form(_) | Error::Refused(_) | Error::Damaged { .. }), "{error:?}");
    error.to_string()
}

/// Path, type, mode, owner, time, and content or target of each entry.
fn listing(package: &mut Package) -> Vec<String> {
    package.file.rewind().unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(&package.file).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let header = entry.header();
        let target = entry.link_name().unwrap().map(|target| target.display().to_string()).unwrap_or_default();
        let zero = header.uid().unwrap() + header.mtime().unwrap();
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        format!("{} {kind:?} {mode:o} {zero} {text}{target}", entry.path().unwrap().display())
    });
    entries.collect()
}

/// A folder as it would be unpacked from [`archives`].
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir_all(root.join("bin/empty")).unwrap();
    for (name, content, mode) in [("bin/run.sh", "#!/bin/sh\n", 0o755), ("bin-notes", "x", 0o644), ("a", "", 0o600)] {
        std::fs::write(root.join(name), content).unwrap();
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    for name in ["bin", "bin/empty"] {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    symlink("bin/run.sh", root.join("go")).unwrap();
    folder
}

fn tarred() -> Vec<u8> {
    Tar::new()
        .raw(EntryType::XGlobalHeader, "pax_global_header", "", 0o666, b"19 comment=0123456\n")
        .raw(EntryType::Directory, "./", "", 0o700, b"")
        .raw(EntryType::Symlink, "./go", "bin/run.sh", 0o777, b"")
        .file("a", b"an earlier one, which tar -r replaced")
        .raw(EntryType::Regular, "./bin/run.sh", "", 0o4755, b"#!/bin/sh\n")
        .raw(EntryType::Directory, "bin/empty", "", 0o755, b"")
        .file("bin-notes", b"x")
        .raw(EntryType::Regular, "a", "", 0o600, b"")
        .bytes()
}

fn zipped() -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = |mode| SimpleFileOptions::default().unix_permissions(mode);
    zip.add_symlink("go", "bin/run.sh", options(0o777)).unwrap();
    for (name, content, mode) in [("bin/run.sh", "#!/bin/sh\n", 0o755), ("bin-notes", "x", 0o644), ("a", "", 0o600)] {
        zip.start_file(name, options(mode)).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.add_directory("bin/empty", options(0o755)).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn an_archive_gives_the_same_package_as_its_folder() {
    let folder = folder();
    let mut packed = pack(folder.path(), &mut |_, _| {}).unwrap();
    let tar = tarred();
    for bytes in [tar.clone(), gzip(&tar), zstd(&tar), [gzip(&tar[..700]), gzip(&tar[700..])].concat(), zipped()] {
        let mut package = converted(&bytes).unwrap();
        assert_eq!(listing(&mut package), listing(&mut packed));
        assert_eq!((package.sha256.as_str(), package.size), (packed.sha256.as_str(), packed.size));
        assert_eq!(package.entries, packed.entries);
    }
}

#[test]
fn hard_links_become_files_and_long_names_survive() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(150));
    let mut tar =
        Tar::new().raw(EntryType::Regular, "one", "", 0o755, b"same").raw(EntryType::Link, "two", "./one", 0o644, b"");
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(1);
    tar.0.append_data(&mut header, &long, &b"x"[..]).unwrap();
    let listed = listing(&mut converted(&tar.bytes()).unwrap());
    assert_eq!(listed[1], format!("{long} Regular 644 0 x"));
    assert_eq!(listed[2..], ["one Regular 755 0 same", "two Regular 755 0 same"]);
}

#[test]
fn hostile_tars_are_refused_by_name_in_every_form() {
    let tar = Tar::new;
    for (hostile, name, why) in [
        (tar().file("/tmp/escape", b""), "/tmp/escape", "absolute"),
        (tar().file("../../escape", b""), "../../escape", "`..`"),
        (tar().raw(EntryType::Symlink, "out", "/etc", 0o777, b""), "out", "outside"),
        (tar().raw(EntryType::Symlink, "d/out", "../../etc", 0o777, b""), "d/out", "outside"),
        (tar().raw(EntryType::Link, "out", "../etc/passwd", 0o644, b""), "out", "`..`"),
        (tar().raw(EntryType::Symlink, "in", "d", 0o777, b"").file("in/x", b""), "in/x", "behind the link"),
        (tar().file("f", b"").raw(EntryType::Directory, "f", "", 0o755, b""), "f", "twice"),
        (tar().raw(EntryType::Char, "null", "", 0o644, b""), "null", "device"),
        (tar().raw(EntryType::Block, "sda", "", 0o644, b""), "sda", "device"),
        (tar().raw(EntryType::Fifo, "pipe", "", 0o644, b""), "pipe", "pipe"),
        (
            tar()
                .raw(EntryType::Directory, &"d/".repeat(45), "", 0o755, b"")
                .raw(EntryType::GNULongName, "l", "", 0o644, "d/".repeat(101).as_bytes())
                .file("x", b""),
            "d/d/d",
            "deeper",
        ),
        (tar().raw(EntryType::GNULongName, "l", "", 0o644, &[b'n'; 300]).file("x", b""), "nnn", "longer than 255"),
        (
            tar().file("before", b"").raw(EntryType::GNULongName, "l", "", 0o644, &vec![b'n'; 2 << 20]),
            "before",
            "headers",
        ),
    ] {
        let bytes = hostile.bytes();
        for bytes in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
            let said = refused(&bytes);
            assert!(said.contains(name) && said.contains(why) && said.contains("refused"), "{said}: {why}");
        }
    }
}

#[test]
fn bombs_and_damage_are_refused() {
    let zeros = vec![0; 70 << 20];
    let tar = Tar::new().file("zeros", &zeros).bytes();
    for bytes in [gzip(&tar), zstd(&tar)] {
        assert!(refused(&bytes).contains("200-fold"));
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("zeros", SimpleFileOptions::default()).unwrap();
    zip.write_all(&zeros).unwrap();
    assert!(refused(&zip.finish().unwrap().into_inner()).contains("200-fold"));
    let many = (0..LIMITS.entries / 90).fold(Tar::new(), |tar, n| {
        tar.raw(EntryType::Directory, &format!("{n}/{}", "d/".repeat(45)), "", 0o755, b"").raw(
            EntryType::Directory,
            &format!("{n}x/{}", "d/".repeat(44)),
            "",
            0o755,
            b"",
        )
    });
    assert!(refused(&many.bytes()).contains("200000 entries"));

    let tar = tarred();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("stored", SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
    zip.write_all(b"checked by its sum").unwrap();
    let mut broken = zip.finish().unwrap().into_inner();
    let at = broken.windows(7).position(|bytes| bytes == b"checked").unwrap();
    broken[at] ^= 0x55;
    for bytes in [&gzip(&tar)[..200], &zstd(&tar)[..200], &tar[..700], &zipped()[..200], &broken] {
        let said = refused(bytes);
        assert!(said.contains("cannot be read") || said.contains("ends before"), "{said}");
    }
}

#[test]
fn hostile_zips_are_refused_by_name() {
    let zip = |names: &[&str]| {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for name in names {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    for (bytes, name, why) in [
        (zip(&["ok", "../../escape"]), "../../escape", "`..`"),
        (zip(&["/tmp/escape"]), "/tmp/escape", "absolute"),
        (zip(&["a\\..\\b"]), "a\\..\\b", "separated by `/`"),
        (zip(&["f", "f/x"]), "f/x", "not a folder"),
        (link("/etc/passwd"), "go", "outside"),
        (link("../x"), "go", "outside"),
        (special(0o010_644), "pipe", "neither file"),
        (special(0o020_644), "pipe", "neither file"),
    ] {
        let said = refused(&bytes);
        assert!(said.contains(name) && said.contains(why), "{said}: {why}");
    }
}

fn link(target: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink("go", target, SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap().into_inner()
}

/// A zip of one entry whose mode in the central directory is this.
fn special(mode: u32) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("pipe", SimpleFileOptions::default().unix_permissions(0o644)).unwrap();
    let mut bytes = zip.finish().unwrap().into_inner();
    let at = bytes.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    bytes[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
    bytes
}

/// As people make them, if this machine can.
#[test]
fn a_zip_of_another_program_is_read() {
    let folder = folder();
    std::fs::remove_file(folder.path().join("go")).unwrap();
    let zip = tempfile::tempdir().unwrap();
    let zip = zip.path().join("made.zip");
    let mut python = Command::new("python3");
    python.args(["-m", "zipfile", "-c"]).arg(&zip).args(["bin", "bin-notes", "a"]).current_dir(folder.path());
    match python.stdout(Stdio::null()).status() {
        Ok(status) => assert!(status.success()),
        // The other tests read what this crate's own library writes.
        Err(error) => return assert_eq!(error.kind(), io::ErrorKind::NotFound),
    }
    let mut packed = pack(folder.path(), &mut |_, _| {}).unwrap();
    let mut package = pack(&zip, &mut |_, _| {}).unwrap();
    assert_eq!(listing(&mut package), listing(&mut packed));
    assert_eq!(package.sha256, packed.sha256);
}
