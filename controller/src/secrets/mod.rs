//! Encryption of what the database keeps secret.
//!
//! Envelope: a key-encryption key ([`kek`]) wraps data keys (rows); the newest data key seals values, older ones still open
//! what they sealed until a rotation has moved it. AES-256-GCM with random 96-bit nonces; the associated data names the row and
//! field ([`Place`]), so a sealed value that is moved to another row does not open. A sealed value is: version byte, for
//! version 2 the data key's number (4 bytes, version 1 is key 1), nonce (12 bytes), ciphertext, tag (16 bytes).
//!
//! Invariants: no key leaves this module in clear; a wrong or missing kek stops the start before anything is written; a data
//! key is stored before anything is sealed with it, and goes only when no row is on it.

pub mod kek;
mod place;
pub mod startup;

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::data_dir;

pub use place::{Kind, Place};

/// First byte of what key 1 sealed, and of wrapped keys.
const VERSION_1: u8 = 1;
/// First byte of what names its key.
const VERSION_2: u8 = 2;
/// Length of a key's number.
const ID: usize = 4;

/// Where the kek comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The kek.
    pub kek: kek::Source,
    /// The one before it. What only this one opens is wrapped anew under `kek` at the start.
    pub previous: Option<kek::Source>,
}

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The crypto library refused to seal.
    #[error("cannot seal `{0}`")]
    Seal(String),
    /// Changed, cut, moved from another row, or sealed with another key.
    #[error("cannot open the sealed value of `{0}`: it was changed, or sealed with another key")]
    Open(String),
    /// The kek cannot be had.
    #[error("no key-encryption key from {source_name}: {why}; nothing was changed")]
    Kek {
        /// Where it should come from.
        source_name: String,
        /// What is wrong.
        why: String,
    },
    /// The key file is gone, the data it protects is not.
    #[error(
        "the key file `kek` is missing, but the database holds values sealed under it: restore `kek` from the backup that belongs to this database"
    )]
    MissingKek,
    /// The kek belongs to another database.
    #[error(
        "the key from {0} does not open this database: restore the one that its secrets were sealed under, or name that one as `previous_kek_*` under `[secrets]` to change to a new one. Nothing was changed"
    )]
    WrongKek(String),
    /// A stored value does not pass the test at the start.
    #[error(
        "the test of stored secrets at the start failed at `{place}`: {why}. Nothing was changed; restore the database and its key from one backup"
    )]
    SelfTest {
        /// The value.
        place: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The key file cannot be read or written.
    #[error(transparent)]
    File(#[from] data_dir::Error),
}

/// A key that seals and opens.
struct Key(RandomizedNonceKey);

impl Key {
    fn new(bytes: &[u8; 32]) -> Result<Self, Error> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| Error::Seal("key".to_owned()))
    }

    /// Adds nonce, ciphertext and tag to what is in `out`.
    fn seal(&self, aad: &str, plain: &[u8], mut out: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut body = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(aad.as_bytes()), &mut body)
            .map_err(|_| Error::Seal(aad.to_owned()))?;
        out.reserve(NONCE_LEN + body.len());
        out.extend_from_slice(nonce.as_ref());
        out.extend_from_slice(&body);
        Ok(out)
    }

    fn open(&self, aad: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let wrong = || Error::Open(aad.to_owned());
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(aad.as_bytes()), &mut plain).map_err(|_| wrong())?.len();
        plain.truncate(length);
        Ok(plain)
    }

    fn wrap(&self, id: u32, data_key: &[u8; 32]) -> Result<Vec<u8>, Error> {
        self.seal(&wrapped_aad(id), data_key, vec![VERSION_1])
    }

    fn unwrap(&self, id: u32, wrapped: &[u8]) -> Option<kek::Bytes> {
        let (&version, body) = wrapped.split_first()?;
        let bytes = self.open(&wrapped_aad(id), body).ok().filter(|_| version == VERSION_1)?;
        <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
    }
}

/// Associated data of a wrapped data key.
fn wrapped_aad(id: u32) -> String {
    format!("data_key:{id}")
}

/// Number of the data key that a value was sealed with, and the rest.
fn split(sealed: &[u8]) -> Option<(u32, &[u8])> {
    match sealed.split_first()? {
        (&VERSION_1, rest) => Some((1, rest)),
        (&VERSION_2, rest) => {
            let (id, rest) = rest.split_first_chunk::<ID>()?;
            Some((u32::from_be_bytes(*id), rest))
        }
        _ => None,
    }
}

/// Number of the data key that a value was sealed with; `None` for what is no sealed value.
#[must_use]
pub fn key_of(sealed: &[u8]) -> Option<u32> {
    split(sealed).map(|(id, _)| id)
}

/// The data keys that are known.
struct Ring {
    /// The one that seals.
    current: u32,
    keys: BTreeMap<u32, Key>,
}

/// What seals and opens values with the data keys.
pub struct Vault {
    kek: Key,
    /// Where the kek came from, for people.
    source: String,
    ring: RwLock<Ring>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// A vault over these data keys, the newest of which seals. `source`: where the kek came from.
    fn new(kek: Key, source: String, keys: BTreeMap<u32, Key>) -> Result<Self, Error> {
        let current = keys.keys().next_back().copied().ok_or_else(|| Error::Seal("key".to_owned()))?;
        let vault = Self { kek, source, ring: RwLock::new(Ring { current, keys }) };
        vault.self_test()?;
        Ok(vault)
    }

    /// Encrypts a value. `aad` names its row and field and must be the same when it is opened.
    ///
    /// # Errors
    /// Only when the crypto library fails.
    pub fn seal(&self, aad: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let key = ring.keys.get(&ring.current).ok_or_else(|| Error::Seal(aad.to_owned()))?;
        let mut head = vec![VERSION_2];
        if ring.current == 1 {
            // As before there were others, so that an older controller can still open it.
            head = vec![VERSION_1];
        } else {
            head.extend_from_slice(&ring.current.to_be_bytes());
        }
        key.seal(aad, plain, head)
    }

    /// Decrypts what [`Vault::seal`] made.
    ///
    /// # Errors
    /// When it was changed, cut, or sealed for another `aad` or with a key that is not there.
    pub fn open(&self, aad: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let wrong = || Error::Open(aad.to_owned());
        let (id, body) = split(sealed).ok_or_else(wrong)?;
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.keys.get(&id).ok_or_else(wrong)?.open(aad, body)
    }

    /// Number of the data key that seals.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).current
    }

    /// How many data keys there are.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).keys.len()
    }

    /// Where the kek came from, for people.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Learns a new data key, wrapped as it has to be stored. It opens, but does not seal before [`Vault::promote`].
    ///
    /// # Errors
    /// Only when the crypto library fails.
    pub fn add(&self, id: u32, data_key: &[u8; 32]) -> Result<Vec<u8>, Error> {
        let (wrapped, key) = (self.kek.wrap(id, data_key)?, Key::new(data_key)?);
        self.ring.write().unwrap_or_else(PoisonError::into_inner).keys.insert(id, key);
        Ok(wrapped)
    }

    /// Seals with this key from now on. Call it once the key is durable.
    pub fn promote(&self, id: u32) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if ring.keys.contains_key(&id) {
            ring.current = ring.current.max(id);
        }
    }

    /// A round trip, and a refusal: a broken crypto build must not get as far as a row.
    fn self_test(&self) -> Result<(), Error> {
        let probe = b"longshore";
        let sealed = self.seal("self-test", probe)?;
        let opened = self.open("self-test", &sealed)?;
        let shown = sealed.windows(probe.len()).any(|window| window == probe);
        if opened.as_slice() != probe || shown || self.open("other", &sealed).is_ok() {
            return Err(Error::SelfTest { place: "probe".to_owned(), why: "it is not what was sealed" });
        }
        Ok(())
    }

    /// A vault with a fixed key 1, for tests of other modules; `more`: further data keys, wrapped by such a vault.
    #[cfg(test)]
    pub(crate) fn for_tests(more: &[crate::store::DataKeyRow]) -> Result<Self, Error> {
        let kek = Key::new(&[9; 32])?;
        let mut keys = BTreeMap::from([(1, Key::new(&[7; 32])?)]);
        for row in more {
            keys.insert(row.id, Key::new(&*kek.unwrap(row.id, &row.wrapped).ok_or(Error::MissingKek)?)?);
        }
        Self::new(kek, "a test".to_owned(), keys)
    }
}

#[cfg(test)]
mod tests;
