//! Reading packages by the rules of [`longshore_core::archive`]: a client may be hostile, whatever the CLI refuses to send.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};

use longshore_core::archive::{Checker, Gate, Limits, Meter, Refused, What, parts};
use tar::EntryType;

use super::Error;

/// What a package is, for messages.
const FORM: &str = "a zstd-compressed tar";
/// Largest window of the decompressor, as a power of two: 128 MiB of memory.
const WINDOW_LOG: u32 = 27;

/// Reads the whole archive and checks every entry. `packed` is the file's length.
pub(super) fn check(file: &File, packed: u64, limits: Limits) -> Result<(), Refused> {
    let (mut reader, meter) = open(file, packed, limits)?;
    let unreadable = |error| meter.refused(FORM, error);
    let mut checker = Checker::new(limits, packed);
    let mut archive = tar::Archive::new(&mut reader);
    let mut entries = archive.entries().map_err(unreadable)?;
    let mut before = Vec::new();
    loop {
        meter.headers(&before);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(unreadable)?;
        meter.content();
        before = entry.path_bytes().into_owned();
        // What `git archive` puts in front; it means nothing to a workspace.
        if entry.header().entry_type() != EntryType::XGlobalHeader {
            let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
            checker.entry(&before, what(&entry, &target))?;
        }
        io::copy(&mut entry, &mut io::sink()).map_err(unreadable)?;
    }
    meter.content();
    // What follows the end mark: nothing of use, but it must be whole and within the bounds.
    io::copy(&mut reader, &mut io::sink()).map_err(unreadable)?;
    Ok(())
}

fn what<'a, R: Read>(entry: &tar::Entry<'_, R>, target: &'a [u8]) -> What<'a> {
    match entry.header().entry_type() {
        EntryType::Directory => What::Folder,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => What::File { bytes: entry.size() },
        EntryType::Symlink => What::Symlink { target },
        EntryType::Link => What::HardLink { target },
        EntryType::Char | EntryType::Block => What::Other("a device"),
        EntryType::Fifo => What::Other("a named pipe"),
        _ => What::Other("of a kind that is not known here"),
    }
}

/// One regular file of the archive.
pub(super) fn read_entry(file: &File, path: &str, max: u64, limits: Limits) -> Result<Option<Vec<u8>>, Error> {
    let wanted = parts(path.as_bytes()).map_err(|why| Refused::entry(path.as_bytes(), why))?;
    let (reader, meter) = open(file, file.metadata().map_or(0, |metadata| metadata.len()), limits)?;
    let damaged = |error| Error::Archive(meter.refused(FORM, error));
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let found = parts(&entry.path_bytes()).is_ok_and(|parts| parts == wanted);
        if !found || !entry.header().entry_type().is_file() {
            continue;
        }
        if entry.size() > max {
            return Err(Error::EntryTooLarge { path: path.to_owned(), limit: max });
        }
        let mut bytes = Vec::new();
        entry.take(max).read_to_end(&mut bytes).map_err(damaged)?;
        return Ok(Some(bytes));
    }
    Ok(None)
}

type Reader = Gate<zstd::Decoder<'static, BufReader<File>>>;

fn open(file: &File, packed: u64, limits: Limits) -> Result<(Reader, Meter), Refused> {
    let decoder = || {
        let mut file = file.try_clone()?;
        file.rewind()?;
        let mut decoder = zstd::Decoder::new(file)?;
        decoder.window_log_max(WINDOW_LOG)?;
        Ok(decoder)
    };
    let decoder = decoder().map_err(|source| Refused::Unreadable { form: FORM, source })?;
    Ok(Gate::new(decoder, limits, packed))
}
