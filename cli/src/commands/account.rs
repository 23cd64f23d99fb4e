//! `longshore account`: secret fields come from standard input, never from the command line.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use longshore_core::secret::Secret;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::people::{list, show, time};
use super::{Context, rows, text};
use crate::args::account::{AccountCommand, AccountCreate};
use crate::client::Request;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::table::Cell;

/// Longest JSON object in bytes.
const LONGEST: u64 = 1 << 20;

pub(super) async fn run(context: &Context, command: &AccountCommand) -> Result<Exit, Failure> {
    match command {
        AccountCommand::Create(args) => create(context, args).await,
        AccountCommand::List => {
            list(context, "accounts", (["ACCOUNT", "TYPE", "VALUES FOR", "MADE", "BY"], "no accounts"), |row| {
                let cell = |name| Cell::optional(text(row, name));
                let places = rows(row, "environments").iter().map(|place| place.as_str().unwrap_or("all"));
                let places = places.collect::<Vec<_>>().join(", ");
                [cell("name"), cell("type"), Cell::optional(Some(places)), time(row, "created_at"), cell("created_by")]
            })
            .await
        }
    }
}

async fn create(context: &Context, args: &AccountCreate) -> Result<Exit, Failure> {
    let untouched = format!("account `{}` is as it was", args.name);
    let fields = fields(args, io::stdin().lock()).map_err(|failure| failure.untouched(&*untouched))?;
    let values: serde_json::Map<String, Value> =
        fields.iter().map(|(name, value)| (name.clone(), json!(value.expose()))).collect();
    let body = json!({ "type": args.kind.as_str(), "environment": args.env, "fields": values });
    let request = Request::put(&["accounts", &args.name]).json(&body);
    let scope = args.env.as_ref().map(|name| format!(" for environment {name}")).unwrap_or_default();
    show(context, &request, |_| format!("account {} of type {} is set{scope}", args.name, args.kind))
        .await
        .map_err(|failure| failure.untouched(&*untouched))
}

/// The fields of the command line and of standard input.
fn fields(args: &AccountCreate, input: impl io::Read) -> Result<BTreeMap<String, Secret>, Failure> {
    let mut fields = BTreeMap::new();
    for (name, value) in &args.fields {
        if args.kind.field(name).is_some_and(|field| field.secret) {
            return Err(Failure::usage(format!("field `{name}` is a secret, and others can see command lines"))
                .next(format!("give it on standard input: `{{\"{name}\": \"...\"}}`")));
        }
        fields.insert(name.clone(), Secret::new(value.clone()));
    }
    let mut text = Zeroizing::new(String::with_capacity(64 << 10));
    let read = input.take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
    if text.trim().is_empty() {
        return Ok(fields);
    }
    // serde's words could quote a value.
    let wrong = || {
        Failure::usage("standard input is no JSON object of texts")
            .next("write it as `{\"secret_access_key\": \"...\"}`")
    };
    let given: BTreeMap<String, Secret> = serde_json::from_str(&text).map_err(|_| wrong())?;
    for (name, value) in given {
        if fields.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("field `{name}` is given twice: by `--field` and on standard input")));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use longshore_core::account::Kind;

    use super::*;

    fn read(kind: Kind, given: &[(&str, &str)], input: &str) -> Result<Vec<(String, String)>, String> {
        let fields_given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let args = AccountCreate { name: "a".to_owned(), kind, env: None, fields: fields_given };
        let read = fields(&args, input.as_bytes()).map_err(|failure| format!("{failure:?}"))?;
        Ok(read.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect())
    }

    #[test]
    fn secrets_come_from_standard_input_alone() {
        let both = read(Kind::Pulumi, &[("backend_url", "https://x")], "{\"access_token\": \"canary\"}\n").unwrap();
        assert_eq!(
            both,
            [("access_token", "canary"), ("backend_url", "https://x")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        for (given, input) in [
            (&[("access_token", "canary")][..], ""),
            (&[], "canary"),
            (&[], "{\"access_token\": {\"canary\": 1}}"),
            (&[("backend_url", "x")], "{\"backend_url\": \"canary\"}"),
        ] {
            let error = read(Kind::Pulumi, given, input).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
