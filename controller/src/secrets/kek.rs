//! The key-encryption key: from the data directory, a file, an environment variable or a command.
//!
//! It is 32 bytes as 64 hex digits or as base64. Only the file of the data directory is ever made here. What a source gave
//! is in no error; of a command only its standard error is shown.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use super::Error;
use crate::data_dir::DataDir;
use crate::hex;

/// Name of the file in the data directory.
const FILE: &str = "kek";
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(30);
/// Most bytes that are read of a key, and of a command's standard error.
const MAX: u64 = 4 << 10;

/// The key itself.
pub type Bytes = Zeroizing<[u8; 32]>;

/// Where the key comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The file `kek` of the data directory, made at the first start.
    #[default]
    DataDir,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// Program and arguments; the key is what it prints.
    Command(Vec<String>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir => f.write_str("the file `kek` of the data directory"),
            Self::File(path) => write!(f, "the file `{}`", path.display()),
            Self::Env(name) => write!(f, "the environment variable `{name}`"),
            // Arguments may say more than a log should hold.
            Self::Command(argv) => write!(f, "the command `{}`", argv.first().map_or("", String::as_str)),
        }
    }
}

impl Source {
    /// Gets the key; `None` only for a data directory that has none yet.
    ///
    /// # Errors
    /// [`Error::Kek`] with the source and what is wrong with it.
    pub async fn get(&self, dir: &DataDir) -> Result<Option<Bytes>, Error> {
        let text = match self {
            Self::DataDir => match dir.read(FILE)? {
                Some(bytes) => Zeroizing::new(bytes),
                None => return Ok(None),
            },
            Self::File(path) => file(path).map_err(|why| self.error(why))?,
            Self::Env(name) => {
                let value = std::env::var(name).map_err(|_| self.error("it is not set, or no text".to_owned()))?;
                Zeroizing::new(value.into_bytes())
            }
            Self::Command(argv) => command(argv, COMMAND).await.map_err(|why| self.error(why))?,
        };
        parse(&text).map(Some).ok_or_else(|| {
            self.error(
                "it gives no key of 32 bytes, written as 64 hex digits or as base64 (`openssl rand -hex 32` makes one)"
                    .to_owned(),
            )
        })
    }

    /// The key for a database that has nothing sealed yet: of a data directory it is made.
    ///
    /// # Errors
    /// As [`Source::get`], and when the file cannot be written.
    pub async fn get_or_create(&self, dir: &DataDir, random: impl Fn() -> [u8; 32]) -> Result<Bytes, Error> {
        if let Some(key) = self.get(dir).await? {
            return Ok(key);
        }
        let key = Zeroizing::new(random());
        let mut text = Zeroizing::new(hex::encode(key.as_slice()));
        text.push('\n');
        dir.write(FILE, text.as_bytes())?;
        Ok(key)
    }

    fn error(&self, why: String) -> Error {
        Error::Kek { source_name: self.to_string(), why }
    }
}

/// 64 hex digits or base64 of 32 bytes, with white space around it.
fn parse(text: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bytes = if text.len() == 64 {
        hex::decode(&Zeroizing::new(text.to_ascii_lowercase()))?
    } else {
        STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?
    };
    let bytes = Zeroizing::new(bytes);
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

fn file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |error: std::io::Error| format!("it cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(format!("it has mode {mode:04o}, so everybody can read it: `chmod 600` it"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(256));
    file.take(MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

async fn command(argv: &[String], limit: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let (program, arguments) = argv.split_first().ok_or("it names no program")?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("its output cannot be read".to_owned());
    };
    let (mut key, mut said) = (Zeroizing::new(Vec::with_capacity(8 << 10)), Vec::new());
    let ended = async {
        let (mut stdout, mut stderr) = (stdout.take(MAX), stderr.take(MAX));
        let (out, err, status) =
            tokio::join!(stdout.read_to_end(&mut key), stderr.read_to_end(&mut said), child.wait());
        out.and(err).and(status)
    };
    let status = match tokio::time::timeout(limit, ended).await {
        Err(_) => return Err(format!("it did not end within {} s and was stopped", limit.as_secs())),
        Ok(status) => status.map_err(|error| format!("it cannot be followed: {error}"))?,
    };
    if status.success() {
        return Ok(key);
    }
    let said: String =
        String::from_utf8_lossy(&said).trim().chars().filter(|c| !c.is_control() || *c == '\n').collect();
    Err(format!("it failed ({status}) and said: {}", if said.is_empty() { "nothing" } else { said.as_str() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

    fn key() -> [u8; 32] {
        std::array::from_fn(|at| u8::try_from(at % 16 * 17).unwrap())
    }

    fn shell(script: &str) -> Source {
        Source::Command(["sh", "-c", script].map(str::to_owned).to_vec())
    }

    #[test]
    fn a_key_is_hex_or_base64_and_nothing_else() {
        let base64 = STANDARD.encode(key());
        for good in [HEX, &format!(" {HEX}\n"), &base64, base64.trim_end_matches('='), &format!("{base64}\r\n")] {
            assert_eq!(*parse(good.as_bytes()).unwrap(), key(), "{good}");
        }
        let short = STANDARD.encode([1; 31]);
        for bad in [
            "",
            "x",
            HEX.strip_prefix('0').unwrap(),
            &HEX.replace('0', "g"),
            &short,
            &STANDARD.encode([1; 33]),
            "\u{e9}",
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(parse(&[0xff; 32]).is_none());
    }

    #[tokio::test]
    async fn every_source_gives_the_key_or_says_what_is_wrong_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&folder.path().join("data")).unwrap();
        let path = folder.path().join("k");
        let get = async |source: &Source| source.get(&dir).await;
        assert!(get(&Source::DataDir).await.unwrap().is_none());
        let made = Source::DataDir.get_or_create(&dir, key).await.unwrap();
        assert_eq!((*made, get(&Source::DataDir).await.unwrap().map(|key| *key)), (key(), Some(key())));
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);

        let file = Source::File(path.clone());
        let error = |result: Result<Option<Bytes>, Error>| result.map(|_| ()).unwrap_err().to_string();
        assert!(error(get(&file).await).contains("cannot be read"));
        std::fs::write(&path, HEX).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(error(get(&file).await).contains("0644"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(*get(&file).await.unwrap().unwrap(), key());

        assert!(error(get(&Source::Env("LONGSHORE_NO_SUCH_KEK".to_owned())).await).contains("`LONGSHORE_NO_SUCH_KEK`"));
        assert_eq!(*get(&shell(&format!("echo noise >&2; echo {HEX}"))).await.unwrap().unwrap(), key());
        let failed = error(get(&shell("echo topsecret; echo permission denied >&2; exit 3")).await);
        assert!(failed.contains("permission denied") && !failed.contains("topsecret"), "{failed}");
        let wrong = error(get(&shell("echo topsecret")).await);
        assert!(wrong.contains("the command `sh`") && !wrong.contains("topsecret"), "{wrong}");
        assert!(error(get(&Source::Command(vec!["/no/such/program".to_owned()])).await).contains("cannot be started"));
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_stopped() {
        let argv = ["sh", "-c", "exec sleep 1000"].map(str::to_owned);
        let error = command(&argv, Duration::from_millis(50)).await.unwrap_err();
        assert!(error.contains("was stopped"), "{error}");
    }
}
