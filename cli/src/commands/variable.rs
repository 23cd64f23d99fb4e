//! `longshore variable set`: a value from standard input, byte for byte.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use longshore_core::secret::Secret;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::json;
use zeroize::Zeroizing;

use super::Context;
use crate::args::VariableSet;
use crate::client::Request;
use crate::client::retry::Patience;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::tasks;

/// Longest value in bytes.
const LONGEST: usize = 1 << 20;

pub(super) async fn set(context: &Context, args: &VariableSet) -> Result<Exit, Failure> {
    put(context, args, ("project", &["projects", &args.project, "variables", &args.name])).await
}

/// Sends a value from standard input to `path`; `owner`: what `args.project` names.
pub(super) async fn put(
    context: &Context,
    args: &VariableSet,
    (owner, path): (&str, &[&str]),
) -> Result<Exit, Failure> {
    let client = context.client()?;
    let untouched = format!("variable `{}` of {owner} `{}` is as it was", args.name, args.project);
    let bytes = if io::stdin().is_terminal() { asked(args).await } else { piped(context, args) };
    let value = bytes.and_then(|bytes| checked(&bytes)).map_err(|failure| failure.untouched(&*untouched))?;
    let mut body = json!({ "value": value.expose(), "secret": args.secret });
    let scopes = [("environment", &args.env), ("channel", &args.channel), ("step", &args.step), ("pool", &args.pool)];
    let scope = scopes.into_iter().find_map(|(kind, name)| Some((kind, name.as_ref()?)));
    if let Some((kind, name)) = scope {
        body[kind] = json!(name);
    }
    let request = Request::put(path).json(&body);
    let answer =
        client.json(&request, Patience::SHORT).await.map_err(|error| Failure::from(error).untouched(&*untouched))?;
    if context.output.is_json() {
        context.output.json(&answer)?;
    } else {
        let kind = if args.secret { "secret " } else { "" };
        let scope = scope.map(|(kind, name)| format!(" for {kind} {name}")).unwrap_or_default();
        context.output.text(&format!("{owner} {}: {kind}variable {} is set{scope}", args.project, args.name))?;
    }
    Ok(Exit::Done)
}

/// The value as it comes through a pipe or from a file.
fn piped(context: &Context, args: &VariableSet) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Full capacity from the start: a growing buffer would leave copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX) + 1;
    io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
    if bytes.len() > LONGEST {
        return Err(Failure::usage(format!("the value is longer than {LONGEST} bytes")));
    }
    if args.trim {
        trim(&mut bytes);
    } else if bytes.ends_with(b"\n") {
        context.output.message("warning: the value ends with a newline, which is kept; --trim takes it off");
    }
    Ok(bytes)
}

/// The value as someone types it; the newline that ends it is not part of it.
async fn asked(args: &VariableSet) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("the terminal cannot be read: {error}"));
    let mut signals = Signals::listen().map_err(failed)?;
    let _echo_comes_back = if args.secret { Some(NoEcho::begin().map_err(failed)?) } else { None };
    let _nobody_reads = write!(io::stderr(), "value of {}: ", args.name).and_then(|()| io::stderr().flush());
    let typed = tasks::blocking(|| {
        let mut line = Zeroizing::new(String::with_capacity(LONGEST));
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = typed => line.and_then(|line| line).map_err(failed)?,
        exit = signals.next() => return Err(Failure::new(exit, "interrupted")),
    };
    let mut bytes = Zeroizing::new(line.as_bytes().to_vec());
    trim(&mut bytes);
    Ok(bytes)
}

/// Takes one newline off the end.
fn trim(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

/// What can be stored and reach a job as an environment variable.
fn checked(bytes: &[u8]) -> Result<Secret, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        Failure::usage("the value is not UTF-8 text")
            .next("encode it, for example with `base64 -w0`, and decode it in the step")
    })?;
    if text.contains('\0') {
        return Err(Failure::usage("the value holds a NUL byte, which no environment variable can")
            .next("encode it, for example with `base64 -w0`, and decode it in the step"));
    }
    Ok(Secret::new(text.to_owned()))
}

/// Keeps the terminal from showing what is typed, until it is dropped.
struct NoEcho(Termios);

impl NoEcho {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        silent.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // Nothing better can be done for a terminal that is gone.
        let _gone = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_byte_for_byte() {
        for text in ["", "a", " a \n", "é\r\n", "\t\u{7f}"] {
            assert_eq!(checked(text.as_bytes()).unwrap().expose(), text);
        }
        for bytes in [&b"a\0b"[..], b"\xff"] {
            assert_eq!(checked(bytes).unwrap_err().exit, Exit::Usage);
        }
    }

    #[test]
    fn trim_takes_one_newline() {
        for (before, after) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("\n", ""), ("a\r", "a\r")]
        {
            let mut bytes = before.as_bytes().to_vec();
            trim(&mut bytes);
            assert_eq!(bytes, after.as_bytes(), "{before:?}");
        }
    }
}
