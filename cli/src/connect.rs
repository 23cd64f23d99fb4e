//! Which server, and the token for it: from options, else from the environment.

use std::path::Path;

use longshore_core::secret::Secret;

use crate::args::Global;
use crate::client::{Address, Client};
use crate::exit::Exit;
use crate::failure::{Failure, chain};

/// Environment variable with the server's address.
pub const URL: &str = "LONGSHORE_URL";
/// Environment variable with the token.
pub const TOKEN: &str = "LONGSHORE_TOKEN";

/// Makes the client that the options and the environment ask for; nothing is sent yet.
///
/// # Errors
/// When no server is named, or the token file cannot be read.
pub fn client(global: &Global) -> Result<Client, Failure> {
    let from_environment = || std::env::var(URL).ok().filter(|value| !value.trim().is_empty());
    let url = global.url.clone().or_else(from_environment).ok_or_else(no_server)?;
    let address = Address::parse(&url)
        .map_err(|error| Failure::usage(error.to_string()).next(format!("check {URL} (or --url)")))?;
    let token = match &global.token_file {
        Some(file) => Some(token_from(file)?),
        None => std::env::var(TOKEN)
            .ok()
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .map(Secret::new),
    };
    if token.as_ref().is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Failure::usage("the token holds characters that no token has")
            .next(format!("check {TOKEN} (or --token-file)")));
    }
    Client::new(address, token).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot prepare TLS: {}", chain(&error)))
            .next("install the root certificates of this system (package `ca-certificates`)")
    })
}

fn no_server() -> Failure {
    Failure::usage("no server is named").next(format!("set {URL} and {TOKEN} (or --url and --token-file); to try things out: `longshore dev --data DIR`, then in another shell `set -a; . DIR/dev.env; set +a`"))
}

fn token_from(file: &Path) -> Result<Secret, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("the token file `{}` cannot be read: {error}", file.display())))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Failure::usage(format!("the token file `{}` is empty", file.display())));
    }
    Ok(Secret::new(token.to_owned()))
}
