//! Nonces that nothing has to be kept of before they are used: time and random bytes under a key of this process.
//!
//! Invariant: each counts once, and no longer than [`LIFETIME`]. Handing them out costs no memory, so anyone may ask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Refused;
use crate::clock::Clock;

/// How long a nonce counts.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// Most used ones that are remembered; only those of proofs that could be right are.
const MOST: usize = 100_000;
const RANDOM: usize = 16;
const BODY: usize = RANDOM + 8;
const TAG: usize = 16;

/// A nonce of ours that has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nonce<'a> {
    text: &'a str,
    random: [u8; RANDOM],
}

impl<'a> Nonce<'a> {
    pub(super) fn text(&self) -> &'a str {
        self.text
    }
}

pub(super) struct Nonces {
    key: hmac::Key,
    clock: Clock,
    /// Used ones and when.
    used: Mutex<HashMap<[u8; RANDOM], Duration>>,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces")
    }
}

impl Nonces {
    pub(super) fn new(clock: Clock) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &clock.random::<32>());
        Self { key, clock, used: Mutex::default() }
    }

    pub(super) fn make(&self) -> String {
        let micros = u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut bytes = self.clock.random::<RANDOM>().to_vec();
        bytes.extend_from_slice(&micros.to_be_bytes());
        let tag = hmac::sign(&self.key, &bytes);
        bytes.extend_from_slice(&tag.as_ref()[..TAG]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whether it is one of ours and has not ended. It is not used up.
    pub(super) fn read<'a>(&self, text: &'a str) -> Result<Nonce<'a>, Refused> {
        let foreign = || Refused::Nonce("is not one of this controller's, or is of before its last start");
        let bytes = (text.len() < 100).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten().ok_or_else(foreign)?;
        let (body, tag) = bytes.split_at_checked(BODY).filter(|(_, tag)| tag.len() == TAG).ok_or_else(foreign)?;
        let right = hmac::sign(&self.key, body);
        aws_lc_rs::constant_time::verify_slices_are_equal(&right.as_ref()[..TAG], tag).map_err(|_| foreign())?;
        let (random, micros) = body.split_at_checked(RANDOM).ok_or_else(foreign)?;
        let random: [u8; RANDOM] = random.try_into().map_err(|_| foreign())?;
        let micros = u64::from_be_bytes(micros.try_into().map_err(|_| foreign())?);
        if self.clock.elapsed().saturating_sub(Duration::from_micros(micros)) > LIFETIME {
            return Err(Refused::Nonce("is older than 60 s"));
        }
        Ok(Nonce { text, random })
    }

    /// Uses it up.
    pub(super) fn take(&self, nonce: Nonce<'_>) -> Result<(), Refused> {
        let now = self.clock.elapsed();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MOST / 2 {
            used.retain(|_, at| now.saturating_sub(*at) <= LIFETIME);
        }
        if used.len() >= MOST {
            return Err(Refused::Unreachable("too many machines want to join at once".to_owned()));
        }
        if used.insert(nonce.random, now).is_some() {
            return Err(Refused::Nonce("was used before"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::time::Timestamp;

    use super::*;

    #[test]
    fn each_counts_once_and_for_a_minute() {
        let clock = Clock::manual(Timestamp::from_micros(0));
        let (nonces, others) = (Nonces::new(clock.clone()), Nonces::new(clock.clone()));
        let (first, second) = (nonces.make(), nonces.make());
        assert_ne!(first, second);
        let read = nonces.read(&first).unwrap();
        nonces.take(read).unwrap();
        assert_eq!(nonces.take(read), Err(Refused::Nonce("was used before")));
        assert!(others.read(&first).is_err(), "of another process");
        clock.advance(LIFETIME);
        assert!(nonces.read(&second).is_ok());
        clock.advance(Duration::from_micros(1));
        assert_eq!(nonces.read(&second).unwrap_err(), Refused::Nonce("is older than 60 s"));
    }

    #[test]
    fn a_changed_one_is_none() {
        let nonces = Nonces::new(Clock::system());
        let good = nonces.make();
        for place in 0..good.len() {
            let mut bad = good.clone();
            let other = if bad.as_bytes()[place] == b'A' { "B" } else { "A" };
            bad.replace_range(place..=place, other);
            // The last character carries bits that do not count; it is then no base64 or the same bytes.
            assert!(nonces.read(&bad).is_err() || place + 1 == good.len(), "{place}");
        }
        for bad in ["", "x", &"A".repeat(1_000)] {
            assert!(nonces.read(bad).is_err(), "{bad}");
        }
    }
}
