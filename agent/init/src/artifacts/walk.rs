//! From folder to folder, by descriptors alone: a path of the step's making is never resolved.

use super::{FOLDER, Keeper};
use crate::clock;
use crate::spool::hex;
use longshore_core::artifacts::{Kind, MAX_DEPTH, MAX_ENTRIES, MAX_FILES, Reason, is_path};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::read;
use sha2::{Digest as _, Sha256};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Without O_NONBLOCK a pipe that was put in a file's place would make this wait for a writer.
const FILE: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

impl Keeper<'_> {
    /// Looks at everything below a folder.
    pub(super) fn walk(&mut self, files: &OwnedFd) {
        let mut entries = MAX_ENTRIES;
        self.folder(files, "", 0, &mut entries);
    }

    /// One folder and what is in it, in the order of the names. `entries`: how many may still be looked at.
    fn folder(&mut self, folder: &OwnedFd, path: &str, depth: usize, entries: &mut usize) {
        let Ok((names, more)) = names(folder, *entries) else {
            return self.leave_out(Kind::File, path, Reason::Unreadable);
        };
        *entries -= names.len();
        if more {
            self.uncounted += 1;
        }
        for name in names {
            // What a name that is not UTF-8 looks like is for people alone.
            let lossy = name.to_string_lossy();
            let path = if path.is_empty() { lossy.into_owned() } else { format!("{path}/{lossy}") };
            if let Err(reason) = self.entry(folder, &name, &path, depth, entries) {
                self.leave_out(Kind::File, &path, reason);
            }
        }
    }

    fn entry(
        &mut self,
        folder: &OwnedFd,
        name: &CStr,
        path: &str,
        depth: usize,
        entries: &mut usize,
    ) -> Result<(), Reason> {
        let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|_| Reason::Unreadable)?;
        if found.st_dev != self.device {
            return Err(Reason::Mount);
        }
        match kind(&found) {
            SFlag::S_IFDIR if depth >= MAX_DEPTH => Err(Reason::Depth),
            SFlag::S_IFDIR if name.to_str().is_err() => Err(Reason::Name),
            SFlag::S_IFDIR => {
                let inner = openat(folder, name, FOLDER, Mode::empty()).map_err(|_| Reason::Unreadable)?;
                self.folder(&inner, path, depth + 1, entries);
                Ok(())
            }
            SFlag::S_IFREG => self.file(folder, name, path),
            _ => Err(Reason::NotRegular),
        }
    }

    fn file(&mut self, folder: &OwnedFd, name: &CStr, path: &str) -> Result<(), Reason> {
        if name.to_str().is_err() || !is_path(path) {
            return Err(Reason::Name);
        }
        if self.patterns.iter().any(|patterns| patterns.found_in(path.as_bytes())) {
            return Err(Reason::Secret);
        }
        if self.artifacts.len() >= MAX_FILES {
            return Err(Reason::TooMany);
        }
        let read = self.read(folder, name)?;
        self.keep(folder, name, Kind::File, path.to_owned(), read)
    }

    /// Reads a file to its end: its length and its SHA-256, or why it is not kept.
    pub(super) fn read(&self, folder: &OwnedFd, name: &CStr) -> Result<(u64, String), Reason> {
        let file = openat(folder, name, FILE, Mode::empty()).map_err(|error| match error {
            Errno::ELOOP | Errno::ENXIO => Reason::NotRegular,
            _ => Reason::Unreadable,
        })?;
        let found = fstat(&file).map_err(|_| Reason::Unreadable)?;
        let length = u64::try_from(found.st_size).unwrap_or(u64::MAX);
        match () {
            () if kind(&found) != SFlag::S_IFREG => return Err(Reason::NotRegular),
            () if found.st_nlink != 1 => return Err(Reason::HardLink),
            () if found.st_dev != self.device => return Err(Reason::Mount),
            () if length > self.limits.limits.file_bytes => return Err(Reason::TooLarge),
            () if self.total.saturating_add(length) > self.limits.limits.total_bytes => return Err(Reason::TotalSize),
            () => {}
        }
        let mut scanners: Vec<_> = self.patterns.iter().map(|patterns| patterns.scanner()).collect();
        let (mut sha, mut buffer, mut done) = (Sha256::new(), vec![0; CHUNK], 0);
        loop {
            if clock::boot_micros() > self.until {
                return Err(Reason::Time);
            }
            let chunk = match read(&file, &mut buffer) {
                Ok(0) => break,
                Ok(read) => &buffer[..read],
                Err(Errno::EINTR) => continue,
                Err(_) => return Err(Reason::Unreadable),
            };
            done += chunk.len() as u64;
            if done > length {
                return Err(Reason::Changed);
            }
            sha.update(chunk);
            if scanners.iter_mut().any(|scanner| scanner.push(chunk)) {
                return Err(Reason::Secret);
            }
        }
        if done == length { Ok((length, hex(&sha.finalize()))) } else { Err(Reason::Changed) }
    }
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

/// At most so many names of a folder, in order, and whether there are more.
fn names(folder: &OwnedFd, most: usize) -> nix::Result<(Vec<CString>, bool)> {
    let mut names: Vec<CString> = Vec::new();
    // A descriptor of its own: reading moves it, and it is closed with the listing.
    let mut listing = Dir::from_fd(openat(folder, ".", FOLDER, Mode::empty())?)?;
    let mut more = false;
    for entry in listing.iter() {
        let name = entry?.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        if names.len() == most {
            more = true;
            break;
        }
        // Sorting them at the end would make init larger by the sorting.
        let at = names.partition_point(|known| *known < name);
        names.insert(at, name);
    }
    Ok((names, more))
}
