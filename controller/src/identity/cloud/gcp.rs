//! Identity tokens of Google for instances of Compute Engine.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use longshore_core::join::Machine;
use longshore_core::time::Timestamp;
use serde::Deserialize;

use super::{MAX_PROOF, Refused};

/// How far clocks may be apart, in seconds.
const LEEWAY: i64 = 60;

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    google: Option<Google>,
}

#[derive(Deserialize)]
struct Google {
    compute_engine: Option<Engine>,
}

#[derive(Deserialize)]
struct Engine {
    project_id: String,
    zone: String,
    instance_id: String,
}

fn refused(why: impl Into<String>) -> Refused {
    Refused::Token(why.into())
}

/// The id of the key that a token says it was signed with.
pub(super) fn key_of(token: &str) -> Result<String, Refused> {
    if token.len() > MAX_PROOF {
        return Err(refused("it is too long for one"));
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| refused("it is no JSON Web Token"))?;
    if header.alg != Algorithm::RS256 {
        return Err(refused("it is not signed with RS256"));
    }
    header.kid.ok_or_else(|| refused("it does not say its key"))
}

/// Reads and verifies a token.
pub(super) fn read(
    token: &str,
    key: &DecodingKey,
    issuer: &str,
    audience: &str,
    now: Timestamp,
) -> Result<Machine, Refused> {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    // By our own clock, below.
    validation.validate_exp = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|error| {
        use jsonwebtoken::errors::ErrorKind;
        refused(match error.kind() {
            ErrorKind::InvalidAudience => "its audience is not this controller and this try".to_owned(),
            ErrorKind::InvalidIssuer => format!("its issuer is not `{issuer}`"),
            ErrorKind::InvalidSignature => "its signature is not by Google's key".to_owned(),
            _ => "it is not one of an instance".to_owned(),
        })
    })?;
    let claims = decoded.claims;
    let now = now.as_micros() / 1_000_000;
    if claims.exp <= now.saturating_sub(LEEWAY) {
        return Err(refused("it has expired"));
    }
    if claims.iat > now.saturating_add(LEEWAY) {
        return Err(refused("it was made in the future; compare the clocks of both machines"));
    }
    let engine = claims
        .google
        .and_then(|google| google.compute_engine)
        .ok_or_else(|| refused("it does not speak of an instance: ask for it with `format=full`"))?;
    let service_account = claims.email.filter(|_| claims.email_verified).unwrap_or_default();
    Ok(Machine::Gcp { project: engine.project_id, zone: engine.zone, service_account, instance: engine.instance_id })
}
