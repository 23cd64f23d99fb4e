//! The only place where init reads clocks and randomness.

use nix::time::{ClockId, clock_gettime};

/// Microseconds since the UNIX epoch, for the times of records.
#[must_use]
pub fn wall_micros() -> u64 {
    micros(ClockId::CLOCK_REALTIME)
}

/// Microseconds since the host booted, sleep included: the clock of the deadlines. Nothing sets it.
#[must_use]
pub fn boot_micros() -> u64 {
    micros(ClockId::CLOCK_BOOTTIME)
}

fn micros(clock: ClockId) -> u64 {
    // These clocks are there on every Linux that runs containers.
    clock_gettime(clock).map_or(0, |time| {
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        part(time.tv_sec()) * 1_000_000 + part(time.tv_nsec()) / 1000
    })
}

/// A nonce that no other message under the same key has.
pub fn nonce() -> std::io::Result<[u8; 12]> {
    let mut nonce = [0; 12];
    let filled = rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())?;
    if filled == nonce.len() { Ok(nonce) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}
