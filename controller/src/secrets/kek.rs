//! The key-encryption key as a file: 64 hex digits and a line end, 0600.

use zeroize::Zeroizing;

use super::Error;
use crate::data_dir::DataDir;
use crate::hex;

/// Name of the file in the data directory.
const FILE: &str = "kek";

pub(super) fn read(dir: &DataDir) -> Result<Option<Zeroizing<[u8; 32]>>, Error> {
    let Some(bytes) = dir.read(FILE)?.map(Zeroizing::new) else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::BadKek)?;
    let key = hex::decode(text.trim_end()).map(Zeroizing::new).ok_or(Error::BadKek)?;
    let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| Error::BadKek)?;
    Ok(Some(Zeroizing::new(key)))
}

pub(super) fn create(dir: &DataDir, key: Zeroizing<[u8; 32]>) -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut text = Zeroizing::new(hex::encode(key.as_slice()));
    text.push('\n');
    dir.write(FILE, text.as_bytes())?;
    Ok(key)
}
