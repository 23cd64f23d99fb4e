//! Accounts of clouds and of Pulumi, as they are typed.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use longshore_core::account::Kind;

use super::releases::pair;

fn kind() -> impl clap::builder::TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::as_str)).try_map(|text| text.parse::<Kind>())
}

/// `account ...`
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Make an account, or give it new values; secret fields are read from standard input as JSON.
    ///
    /// Fields: aws access_key_id, secret_access_key, session_token (optional), region (optional); azure client_id,
    /// client_secret, tenant_id, subscription_id; gcp credentials (the key file), project (optional); pulumi access_token,
    /// backend_url (optional). Values are never shown again. Releases that were made before keep the old ones.
    Create(AccountCreate),
    /// List the accounts; their values are never shown.
    List,
}

/// `account create`
#[derive(Debug, Clone, Args)]
pub struct AccountCreate {
    /// The account.
    pub name: String,
    /// What it is for.
    #[arg(long = "type", value_name = "TYPE", value_parser = kind())]
    pub kind: Kind,
    /// Only for this environment.
    #[arg(long, value_name = "E")]
    pub env: Option<String>,
    /// A field that is no secret; may be repeated. The others are given as a JSON object on standard input.
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = pair)]
    pub fields: Vec<(String, String)>,
}
