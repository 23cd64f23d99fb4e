//! A group that a program of the operator's scales.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// So much of what it says is read.
const MAX: u64 = 4 << 10;

/// Runs the program with what it is to do in its environment. What it prints is shown when it fails.
///
/// # Errors
/// Why it did not end well.
pub(super) async fn run(argv: &[String], variables: &[(&str, String)], limit: Duration) -> Result<(), String> {
    let (program, arguments) = argv.split_first().ok_or("it names no program")?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(format!("the output of `{program}` cannot be read"));
    };
    let (mut out, mut said) = (Vec::new(), Vec::new());
    let ended = async {
        let (read, other, status) = tokio::join!(head(stderr, &mut said), head(stdout, &mut out), child.wait());
        read.and(other).and(status)
    };
    let status = match tokio::time::timeout(limit, ended).await {
        Err(_) => return Err(format!("`{program}` did not end within {} s and was stopped", limit.as_secs())),
        Ok(status) => status.map_err(|error| format!("`{program}` cannot be followed: {error}"))?,
    };
    if status.success() {
        return Ok(());
    }
    let said = if said.is_empty() { out } else { said };
    let text = String::from_utf8_lossy(&said);
    let line: String =
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect();
    let shown: String = line.chars().take(300).collect();
    Err(format!("`{program}` failed ({status}) and said: {}", if shown.is_empty() { "nothing" } else { &shown }))
}

/// Reads the beginning. What is beyond is dropped, so that the program does not wait for a reader.
async fn head(mut source: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> std::io::Result<()> {
    (&mut source).take(MAX).read_to_end(into).await?;
    tokio::io::copy(&mut source, &mut tokio::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn a_program_gets_what_to_do_and_says_why_it_did_not() {
        let limit = Duration::from_secs(60);
        let wish = [("LONGSHORE_DESIRED", "7".to_owned())];
        assert_eq!(run(&shell("test \"$LONGSHORE_DESIRED\" = 7"), &wish, limit).await, Ok(()));
        let failed = run(&shell("echo no quota left >&2; exit 3"), &wish, limit).await.unwrap_err();
        assert!(failed.contains("said: no quota left"), "{failed}");
        let loud = run(&shell("yes | head -c 1000000; yes | head -c 1000000 >&2"), &wish, limit).await;
        assert_eq!(loud, Ok(()), "much output is no reason to wait");
        assert!(run(&["/no/such".to_owned()], &wish, limit).await.unwrap_err().contains("cannot be started"));
        let late = run(&shell("exec sleep 1000"), &wish, Duration::from_millis(50)).await.unwrap_err();
        assert!(late.contains("was stopped"), "{late}");
    }
}
