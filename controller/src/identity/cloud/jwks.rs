//! Google's public keys, fetched when they are needed and kept for a while.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use tokio::sync::Mutex;

use super::{Refused, body};

/// How long keys are kept when the answer does not say, and at most.
const KEPT: Duration = Duration::from_secs(3_600);
/// Shortest time between two fetches: a token with a key of its own making must not make us ask Google each time.
const PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Jwks {
    known: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    keys: Arc<JwkSet>,
    at: Duration,
    kept: Duration,
}

impl Jwks {
    /// The key of an id; `now` by a clock that does not jump.
    pub(super) async fn key(
        &self,
        client: &reqwest::Client,
        url: &str,
        id: &str,
        now: Duration,
    ) -> Result<DecodingKey, Refused> {
        // Held over the fetch: whoever comes meanwhile gets what it brings.
        let mut known = self.known.lock().await;
        let old = known.as_ref().map(|known| now.saturating_sub(known.at));
        let usable = known.as_ref().is_some_and(|known| {
            now.saturating_sub(known.at) < known.kept
                && (known.keys.find(id).is_some() || old.is_some_and(|old| old < PAUSE))
        });
        if !usable {
            let (keys, kept) = fetch(client, url).await?;
            *known = Some(Known { keys: Arc::new(keys), at: now, kept });
        }
        let keys = known.as_ref().map(|known| Arc::clone(&known.keys));
        drop(known);
        let keys = keys.ok_or_else(|| Refused::Unreachable("there are no keys".to_owned()))?;
        let key =
            keys.find(id).ok_or_else(|| Refused::Token("it is signed with a key that is not Google's".to_owned()))?;
        DecodingKey::from_jwk(key).map_err(|_| Refused::Token("its key is none for RS256".to_owned()))
    }
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<(JwkSet, Duration), Refused> {
    let failed = |why: String| Refused::Unreachable(format!("the keys at `{url}` (`join.gcp.jwks_url`): {why}"));
    let response = client.get(url).send().await.map_err(|error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        failed(format!("{error}{cause}"))
    })?;
    if !response.status().is_success() {
        return Err(failed(format!("it answered {}", response.status().as_u16())));
    }
    let kept = response
        .headers()
        .get(reqwest::header::CACHE_CONTROL)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(',').find_map(|part| part.trim().strip_prefix("max-age=")?.parse().ok()))
        .map_or(KEPT, |seconds| Duration::from_secs(seconds).clamp(PAUSE, KEPT));
    let bytes = body(response).await.map_err(failed)?;
    let keys = serde_json::from_slice(&bytes).map_err(|_| failed("the answer is no set of keys".to_owned()))?;
    Ok((keys, kept))
}
