//! Reading a zip, by its central directory.

use std::collections::HashSet;
use std::io::{self, Read as _, Seek};

use longshore_core::archive::{MAX_NAME, Refused, What};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::convert::{Collected, Content, Packed};
use super::{Error, LIMITS};

/// The part of a mode that says what an entry is, and its values.
const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Takes every entry of the zip.
pub(super) fn read(file: impl io::Read + Seek, packed: &Packed<'_>, into: &mut Collected) -> Result<(), Error> {
    let damaged = |error: ZipError| packed.damaged(plain(error));
    let mut archive = ZipArchive::new(io::BufReader::with_capacity(128 << 10, file)).map_err(damaged)?;
    if archive.len() > LIMITS.entries {
        return Err(Error::Refused(Refused::TooMany(LIMITS.entries)));
    }
    if archive.has_overlapping_files().map_err(damaged)? {
        return Err(packed.damaged(io::Error::other("several of its entries share their bytes")));
    }
    if archive.has_duplicate_names() {
        return Err(packed.damaged(io::Error::other("several of its entries have the same name")));
    }
    // Different in the zip and the same in UTF-8.
    let mut names = HashSet::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| unreadable(error, packed, index))?;
        let name = entry.name().map_err(damaged)?.into_owned();
        let refused = |why: &str| Error::Refused(Refused::entry(name.as_bytes(), why));
        if !names.insert(name.clone()) {
            return Err(refused("stands in the zip twice"));
        }
        if name.contains('\\') {
            return Err(refused("has a `\\` in its name: folders in a zip are separated by `/`"));
        }
        if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            return Err(refused("is compressed by a method other than deflate"));
        }
        let (bytes, mode) = (entry.size(), entry.unix_mode().unwrap_or(0));
        let mut target = Vec::new();
        let what = match mode & KIND {
            LINK => {
                // What a link points to is its content.
                (&mut entry)
                    .take(MAX_NAME as u64 + 1)
                    .read_to_end(&mut target)
                    .map_err(|error| packed.damaged(error))?;
                What::Symlink { target: &target }
            }
            FOLDER => What::Folder,
            0 | FILE if entry.is_dir() => What::Folder,
            0 | FILE => What::File { bytes },
            _ => What::Other("neither file, folder nor link"),
        };
        let default = if what == What::Folder { 0o755 } else { 0o644 };
        into.entry(name.as_bytes(), if mode & 0o777 == 0 { default } else { mode }, what)?;
        if what == (What::File { bytes }) {
            into.content(name.as_bytes(), bytes, &mut entry).map_err(|error| match error {
                // Its checksum too is looked at where it ends.
                Content::From(error) => refused(&format!("cannot be read ({error})")),
                Content::Error(error) => error,
            })?;
        }
    }
    Ok(())
}

fn unreadable(error: ZipError, packed: &Packed<'_>, index: usize) -> Error {
    let number = index + 1;
    let detail = match error {
        ZipError::UnsupportedArchive(_) | ZipError::InvalidPassword => {
            format!("entry {number} is encrypted, or in a form that is not read here")
        }
        other => format!("entry {number}: {}", plain(other)),
    };
    packed.damaged(io::Error::other(detail))
}

fn plain(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
