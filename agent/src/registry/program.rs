//! Programs that are asked for a login: Docker credential helpers, and any that prints JSON.
//!
//! The host goes to standard input (and into `LONGSHORE_REGISTRY`), never into an argument.

use std::process::Stdio;
use std::time::Duration;

use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{Dated, Login, until};

/// A program may take this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most that is read of what it prints.
const MOST: u64 = 64 << 10;
/// Most of its standard error that is repeated.
const MOST_SAID: usize = 300;
/// The user that stands for an identity token in the helpers' protocol.
const TOKEN: &str = "<token>";
/// What helpers print when they have no login.
const NONE: &str = "credentials not found";

/// Answer of a Docker credential helper.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    username: String,
    secret: Secret,
}

/// Answer of any other program.
#[derive(Deserialize)]
struct Printed {
    username: String,
    password: Secret,
    #[serde(default)]
    expires_at: Option<String>,
}

/// Asks a Docker credential helper.
pub(super) async fn helper(words: &[String], host: &str) -> Result<Dated, String> {
    let mut words = words.to_vec();
    words.push("get".to_owned());
    let (ok, printed, said) = run(&words, host).await?;
    if !ok {
        // The one case that is no failure: then the registry is asked without a login.
        if printed.contains(NONE) {
            return Ok(Dated { login: None, until: Some(until(None)) });
        }
        return Err(failed(&words, &said));
    }
    let found: Found = serde_json::from_str(&printed).map_err(|_| unreadable(&words, "`Username` and `Secret`"))?;
    let token = found.username == TOKEN;
    let username = if token { String::new() } else { found.username };
    Ok(Dated { login: Some(Login { username, password: found.secret, token }), until: Some(until(None)) })
}

/// Asks a program that prints JSON.
pub(super) async fn command(words: &[String], host: &str) -> Result<Dated, String> {
    let (ok, printed, said) = run(words, host).await?;
    if !ok {
        return Err(failed(words, &said));
    }
    let found: Printed = serde_json::from_str(&printed).map_err(|_| unreadable(words, "`username` and `password`"))?;
    let expires = match found.expires_at.as_deref() {
        None => None,
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| unreadable(words, "an `expires_at` in RFC 3339"))?),
    };
    let login = Login { username: found.username, password: found.password, token: false };
    Ok(Dated { login: Some(login), until: Some(until(expires)) })
}

/// Runs a program with the host on its standard input; whether it ended well, what it printed and what it complained about.
async fn run(words: &[String], host: &str) -> Result<(bool, Zeroizing<String>, String), String> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    let broken = |error: std::io::Error| format!("`{program}` cannot be run: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .env("LONGSHORE_REGISTRY", host)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(broken)?;
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ended = async {
        let asked = async {
            if let Some(mut stdin) = stdin.take() {
                // One that does not read it has its answer without.
                drop(stdin.write_all(format!("{host}\n").as_bytes()).await);
            }
        };
        let (mut printed, mut said) = (Zeroizing::new(String::new()), Vec::new());
        let out = async {
            if let Some(stdout) = stdout {
                stdout.take(MOST).read_to_string(&mut printed).await?;
            }
            std::io::Result::Ok(())
        };
        let err = async {
            if let Some(stderr) = stderr {
                stderr.take(MOST).read_to_end(&mut said).await?;
            }
            std::io::Result::Ok(())
        };
        let ((), out, err) = tokio::join!(asked, out, err);
        out.and(err)?;
        let status = child.wait().await?;
        Ok((status.success(), printed, String::from_utf8_lossy(&said).into_owned()))
    };
    match tokio::time::timeout(PATIENCE, ended).await {
        Ok(ended) => ended.map_err(broken),
        Err(_) => Err(format!("`{program}` did not end within {} s and was killed", PATIENCE.as_secs())),
    }
}

fn failed(words: &[String], said: &str) -> String {
    let program = words.first().map_or("", String::as_str);
    let line: String = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MOST_SAID).collect();
    let line = if line.is_empty() { "nothing on its standard error".to_owned() } else { line };
    format!("`{program}` failed and said: {line}")
}

/// What it printed is not repeated: it may be a password of another form.
fn unreadable(words: &[String], wanted: &str) -> String {
    format!("what `{}` printed is no JSON with {wanted}", words.first().map_or("", String::as_str))
}
