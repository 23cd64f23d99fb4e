//! Encryption of what the database keeps secret.
//!
//! Envelope: a key-encryption key (`kek`, a file of the data directory) wraps one data key (a row); the data key seals
//! values. AES-256-GCM with random 96-bit nonces; the associated data names the row and field, so a sealed value that is
//! moved to another row does not open. A sealed value is: version byte (1), nonce (12 bytes), ciphertext, tag (16 bytes).
//!
//! Invariants: no key leaves this module; a wrong or missing kek stops the start before anything is written.

mod kek;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::data_dir::{self, DataDir};

/// First byte of each sealed value.
const VERSION: u8 = 1;
/// Associated data of the wrapped data key.
const DATA_KEY: &str = "data_key:1";

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The crypto library refused to seal.
    #[error("cannot seal `{0}`")]
    Seal(String),
    /// Changed, cut, moved from another row, or sealed with another key.
    #[error("cannot open the sealed value of `{0}`: it was changed, or sealed with another key")]
    Open(String),
    /// The key file cannot be used.
    #[error("the key file `kek` is not 64 hex digits and a line end: restore it from the backup of the data directory")]
    BadKek,
    /// The key file is gone, the data it protects is not.
    #[error(
        "the key file `kek` is missing, but the database holds values sealed under it: restore `kek` from the backup that belongs to this database"
    )]
    MissingKek,
    /// The key file belongs to another database.
    #[error(
        "the key file `kek` does not open this database: restore the `kek` that was backed up with it. Nothing was changed"
    )]
    WrongKek,
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

    fn seal(&self, aad: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let mut body = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(aad.as_bytes()), &mut body)
            .map_err(|_| Error::Seal(aad.to_owned()))?;
        let mut out = Vec::with_capacity(1 + NONCE_LEN + body.len());
        out.push(VERSION);
        out.extend_from_slice(nonce.as_ref());
        out.extend_from_slice(&body);
        Ok(out)
    }

    fn open(&self, aad: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let wrong = || Error::Open(aad.to_owned());
        let (&version, rest) = sealed.split_first().ok_or_else(wrong)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        if version != VERSION {
            return Err(wrong());
        }
        let mut plain = Zeroizing::new(body.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(aad.as_bytes()), &mut plain).map_err(|_| wrong())?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// What seals and opens values with the data key.
pub struct Vault {
    key: Key,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

/// A vault, and the wrapped data key to store when it was just made.
#[derive(Debug)]
pub struct Opened {
    /// The vault.
    pub vault: Vault,
    /// To be stored before the vault is used; `None` when it came from the store.
    pub fresh: Option<Vec<u8>>,
}

impl Vault {
    /// Opens the vault with the directory's kek and the wrapped data key of the database, or makes both at the first
    /// start. `random` gives 32 unpredictable bytes a call.
    ///
    /// # Errors
    /// When the kek is missing, damaged or of another database; it says what to restore.
    pub fn open_or_create(
        dir: &DataDir,
        wrapped: Option<&[u8]>,
        random: impl Fn() -> [u8; 32],
    ) -> Result<Opened, Error> {
        let stored = kek::read(dir)?;
        let opened = match (stored, wrapped) {
            (None, Some(_)) => return Err(Error::MissingKek),
            (Some(kek), Some(wrapped)) => {
                let data_key = Key::new(&kek)?.open(DATA_KEY, wrapped).map_err(|_| Error::WrongKek)?;
                let data_key = <&[u8; 32]>::try_from(data_key.as_slice()).map_err(|_| Error::WrongKek)?;
                Opened { vault: Self { key: Key::new(data_key)? }, fresh: None }
            }
            (kek, None) => {
                let kek = match kek {
                    Some(kek) => kek,
                    None => kek::create(dir, Zeroizing::new(random()))?,
                };
                let data_key = Zeroizing::new(random());
                let wrapped = Key::new(&kek)?.seal(DATA_KEY, data_key.as_slice())?;
                Opened { vault: Self { key: Key::new(&data_key)? }, fresh: Some(wrapped) }
            }
        };
        opened.vault.self_test()?;
        Ok(opened)
    }

    /// Encrypts a value. `aad` names its row and field and must be the same when it is opened.
    ///
    /// # Errors
    /// Only when the crypto library fails.
    pub fn seal(&self, aad: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        self.key.seal(aad, plain)
    }

    /// Decrypts what [`Vault::seal`] made.
    ///
    /// # Errors
    /// When it was changed, cut, or sealed for another `aad` or with another key.
    pub fn open(&self, aad: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.key.open(aad, sealed)
    }

    /// A round trip, and a refusal: a broken crypto build must not get as far as a row.
    fn self_test(&self) -> Result<(), Error> {
        let sealed = self.seal("self-test", b"longshore")?;
        let opened = self.open("self-test", &sealed)?;
        if opened.as_slice() != b"longshore" || self.open("other", &sealed).is_ok() {
            return Err(Error::Open("self-test".to_owned()));
        }
        Ok(())
    }

    /// A vault with a fixed key, for tests of other modules.
    ///
    /// # Errors
    /// Only when the crypto library fails.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Result<Self, Error> {
        Ok(Self { key: Key::new(&[7; 32])? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn random() -> impl Fn() -> [u8; 32] {
        let next = Cell::new(0);
        move || {
            next.set(next.get() + 1);
            [next.get(); 32]
        }
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let vault = Vault::for_tests().unwrap();
        let sealed = vault.seal("variable:v1:value", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        assert_ne!(sealed, vault.seal("variable:v1:value", b"hunter2").unwrap(), "nonces differ");
        assert_eq!(vault.open("variable:v1:value", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(vault.open("variable:v2:value", &sealed).is_err(), "moved to another row");
        for cut in 0..sealed.len() {
            assert!(vault.open("variable:v1:value", &sealed[..cut]).is_err());
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(vault.open("variable:v1:value", &changed).is_err());
        }
    }

    #[test]
    fn the_kek_decides_whether_a_database_opens() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let first = Vault::open_or_create(&dir, None, random()).unwrap();
        let wrapped = first.fresh.unwrap();
        let sealed = first.vault.seal("a", b"b").unwrap();

        let again = Vault::open_or_create(&dir, Some(&wrapped), random()).unwrap();
        assert!(again.fresh.is_none());
        assert_eq!(again.vault.open("a", &sealed).unwrap().as_slice(), b"b");

        let kek = std::fs::read(root.path().join("kek")).unwrap();
        dir.write("kek", format!("{}\n", "ab".repeat(32)).as_bytes()).unwrap();
        assert!(matches!(Vault::open_or_create(&dir, Some(&wrapped), random()), Err(Error::WrongKek)));
        dir.write("kek", b"rubbish").unwrap();
        assert!(matches!(Vault::open_or_create(&dir, Some(&wrapped), random()), Err(Error::BadKek)));
        std::fs::remove_file(root.path().join("kek")).unwrap();
        assert!(matches!(Vault::open_or_create(&dir, Some(&wrapped), random()), Err(Error::MissingKek)));
        assert!(!root.path().join("kek").exists(), "no new key beside old data");
        dir.write("kek", &kek).unwrap();
        Vault::open_or_create(&dir, Some(&wrapped), random()).unwrap();
    }
}
