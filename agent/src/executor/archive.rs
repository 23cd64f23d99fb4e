//! A package on its way into a workspace: rewritten entry by entry, hostile entries refused.
//!
//! The engine unpacks what leaves here below the job's volume. Invariants: every entry lies under `workspace/`, no
//! entry lies behind a link, every link leads to a place in the workspace, and there are only directories, files and
//! links. Modes, times and links stay; owners become the image's user; names of owners and extended attributes go.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use longshore_core::archive::{self, Checker, Gate, Limits, Meter, What};
use tar::{Builder, EntryType, Header};

use super::Owner;

/// Most entries of a package; more than any controller stores.
const MAX_ENTRIES: usize = 500_000;
/// Log of the largest zstd window accepted (16 MiB): what unpacking may take of the agent's memory.
const WINDOW_LOG_MAX: u32 = 24;
/// The setuid and setgid bits have no effect without new privileges, so they go.
const MODE_MASK: u32 = 0o1777;
/// What a package is, for messages.
const FORM: &str = "tar.zst";

/// Why a package was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It breaks the rules of packages.
    #[error(transparent)]
    Package(#[from] archive::Refused),
    /// Whoever takes the result has hung up; that side knows why.
    #[error("the rewritten package was not taken")]
    NotTaken(#[source] io::Error),
}

/// Writes `workspace/`, `home/` and `artifacts/` with the package (tar.zst) in the first as a plain tar.
pub(super) fn rewrite(
    package: Option<Box<dyn Read + Send>>,
    owner: Owner,
    most_bytes: u64,
    out: impl Write,
) -> Result<(), Refused> {
    // The controller has looked at the ratio; the packed length is not known here.
    let limits = Limits { unpacked: most_bytes, entries: MAX_ENTRIES, ..Limits::default() };
    let mut writer = Writer { tar: Builder::new(out), owner, checker: Checker::new(limits, u64::MAX) };
    for name in ["workspace/", "home/", "artifacts/"] {
        writer.directory(Path::new(name), 0o755, 0)?;
    }
    if let Some(package) = package {
        let unreadable = |source| archive::Refused::Unreadable { form: FORM, source };
        let mut plain = zstd::Decoder::new(package).map_err(unreadable)?;
        plain.window_log_max(WINDOW_LOG_MAX).map_err(unreadable)?;
        // Beside the files' bytes there are headers, so the gate is wider than what the checker counts.
        let wide = Limits { unpacked: most_bytes.saturating_mul(2).saturating_add(1 << 30), ..limits };
        let (gate, meter) = Gate::new(plain, wide, u64::MAX);
        writer.entries(tar::Archive::new(gate), &meter)?;
    }
    writer.tar.into_inner().and_then(|mut out| out.flush()).map_err(Refused::NotTaken)
}

struct Writer<W: Write> {
    tar: Builder<W>,
    owner: Owner,
    checker: Checker,
}

impl<W: Write> Writer<W> {
    fn entries(&mut self, mut archive: tar::Archive<impl Read>, meter: &Meter) -> Result<(), Refused> {
        let unreadable = |error| meter.refused(FORM, error);
        let mut entries = archive.entries().map_err(unreadable)?;
        let mut before = Vec::new();
        loop {
            meter.headers(&before);
            let Some(entry) = entries.next() else { return Ok(()) };
            let entry = entry.map_err(unreadable)?;
            meter.content();
            before = entry.path_bytes().into_owned();
            if entry.header().entry_type() != EntryType::XGlobalHeader {
                self.entry(entry, meter)?;
            }
        }
    }

    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>, meter: &Meter) -> Result<(), Refused> {
        let raw = entry.path_bytes().into_owned();
        let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let kind = entry.header().entry_type();
        let size = entry.size();
        let what = match kind {
            EntryType::Directory => What::Folder,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => What::File { bytes: size },
            EntryType::Symlink => What::Symlink { target: &target },
            EntryType::Link => What::HardLink { target: &target },
            _ => What::Other("neither directory, file nor link"),
        };
        let Some(admitted) = self.checker.entry(&raw, what)? else {
            return Ok(());
        };
        let mtime = entry.header().mtime().unwrap_or(0);
        let mode = entry.header().mode().unwrap_or(0o644) & MODE_MASK;
        // Directories that the package leaves out get the image's user too.
        for folder in &admitted.implied {
            self.directory(Path::new(OsStr::from_bytes(&in_workspace(folder))), 0o755, mtime)?;
        }
        let path = in_workspace(&admitted.path);
        let path = Path::new(OsStr::from_bytes(&path));
        match (what, admitted.target) {
            (What::Folder, _) => self.directory(path, mode, mtime),
            (What::File { .. }, _) => {
                let mut header = self.header(EntryType::Regular, mode, mtime, size);
                let content = Exactly { from: &mut entry, left: size };
                self.tar.append_data(&mut header, path, content).map_err(|error| file_error(error, meter))
            }
            (_, Some(to)) => self.link(EntryType::Link, path, Path::new(OsStr::from_bytes(&in_workspace(&to))), mtime),
            (_, None) => self.link(EntryType::Symlink, path, Path::new(OsStr::from_bytes(&target)), mtime),
        }
    }

    fn header(&self, kind: EntryType, mode: u32, mtime: u64, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(mtime);
        header.set_size(size);
        header.set_uid(u64::from(self.owner.uid));
        header.set_gid(u64::from(self.owner.gid));
        header
    }

    fn directory(&mut self, path: &Path, mode: u32, mtime: u64) -> Result<(), Refused> {
        let mut header = self.header(EntryType::Directory, mode, mtime, 0);
        self.tar.append_data(&mut header, path, io::empty()).map_err(Refused::NotTaken)
    }

    fn link(&mut self, kind: EntryType, path: &Path, target: &Path, mtime: u64) -> Result<(), Refused> {
        let mut header = self.header(kind, 0o777, mtime, 0);
        self.tar.append_link(&mut header, path, target).map_err(Refused::NotTaken)
    }
}

/// Marks errors of the package, so that they are told from those of whoever takes the result.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OfPackage(io::Error);

fn file_error(error: io::Error, meter: &Meter) -> Refused {
    if error.get_ref().is_some_and(|inner| inner.is::<OfPackage>()) {
        meter.refused(FORM, error).into()
    } else {
        Refused::NotTaken(error)
    }
}

/// Reads as many bytes as a header promised: fewer would shift every later entry.
struct Exactly<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.from.read(&mut buffer[..most]).map_err(|error| io::Error::other(OfPackage(error)))?;
        if read == 0 && most > 0 {
            return Err(io::Error::other(OfPackage(io::ErrorKind::UnexpectedEof.into())));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn in_workspace(inner: &[u8]) -> Vec<u8> {
    [b"workspace/", inner].concat()
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
