//! Reading a tar, compressed or not.

use std::io::Read;

use longshore_core::archive::{Gate, What};
use tar::EntryType;

use super::convert::{Collected, Content, Packed};
use super::{Error, LIMITS};

/// Largest window of the decompressor, as a power of two: 128 MiB of memory, as on the server.
const WINDOW_LOG: u32 = 27;

/// A decompressor for zstd.
pub(super) fn zstd<R: Read>(
    inner: R,
    packed: &Packed<'_>,
) -> Result<zstd::Decoder<'static, std::io::BufReader<R>>, Error> {
    let mut decoder = zstd::Decoder::new(inner).map_err(|error| packed.damaged(error))?;
    decoder.window_log_max(WINDOW_LOG).map_err(|error| packed.damaged(error))?;
    Ok(decoder)
}

/// Takes every entry of a tar that comes out of `plain`.
pub(super) fn read(plain: impl Read, packed: &Packed<'_>, into: &mut Collected) -> Result<(), Error> {
    let (mut reader, meter) = Gate::new(plain, LIMITS, packed.bytes);
    let refused = |error| Error::Refused(meter.refused(packed.form, error));
    let mut archive = tar::Archive::new(&mut reader);
    let mut entries = archive.entries().map_err(refused)?;
    let mut before = Vec::new();
    loop {
        meter.headers(&before);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(refused)?;
        meter.content();
        before = entry.path_bytes().into_owned();
        let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let bytes = entry.size();
        let what = match entry.header().entry_type() {
            // What `git archive` puts in front; it means nothing to a workspace.
            EntryType::XGlobalHeader => continue,
            EntryType::Directory => What::Folder,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => What::File { bytes },
            EntryType::Symlink => What::Symlink { target: &target },
            EntryType::Link => What::HardLink { target: &target },
            EntryType::Char | EntryType::Block => What::Other("a device"),
            EntryType::Fifo => What::Other("a named pipe"),
            _ => What::Other("of a kind that is not known here"),
        };
        into.entry(&before, entry.header().mode().unwrap_or(0o644), what)?;
        if matches!(what, What::File { .. }) {
            into.content(&before, bytes, &mut entry).map_err(|error| match error {
                Content::From(error) => refused(error),
                Content::Error(error) => error,
            })?;
        }
    }
    meter.content();
    // What follows the end mark means nothing, but a damaged end shows that more may be.
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(refused)?;
    Ok(())
}
