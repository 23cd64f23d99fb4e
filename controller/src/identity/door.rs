//! Who may hold how many connections: one address cannot take what all others need.
//!
//! Invariants: what was let in is counted until its [`Pass`] is dropped; connections from the machine itself are counted in the
//! sum only unless it is said otherwise, because a proxy on it brings everybody; IPv6 is counted by networks of 64 bits, because whoever has one
//! address there has all of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much one address, and all together, may hold of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a TLS handshake may take, and how long the head of an HTTP request.
    pub handshake: Duration,
    /// Connections whose handshake is not over, of one address.
    pub handshakes_per_address: u32,
    /// Connections of one address.
    pub per_address: u32,
    /// Connections of one address to the agents' port that showed no certificate.
    pub strangers_per_address: u32,
    /// How long a connection to the agents' port without a certificate may last: enrolling takes less.
    pub stranger: Duration,
    /// Connections of one port.
    pub in_all: u32,
    /// Connections from the machine itself count by their address too.
    pub count_loopback: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            handshakes_per_address: 256,
            per_address: 4_096,
            strangers_per_address: 128,
            stranger: Duration::from_secs(60),
            in_all: 24_576,
            count_loopback: false,
        }
    }
}

/// Which limit a connection met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    All,
    Address,
    Handshakes,
    Strangers,
}

impl Full {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::All => "in_all",
            Self::Address => "per_address",
            Self::Handshakes => "handshakes_per_address",
            Self::Strangers => "strangers_per_address",
        }
    }
}

/// What one address holds.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    open: u32,
    shaking: u32,
    strangers: u32,
    /// That it holds too much was said; not again until it holds nothing.
    told: bool,
}

#[derive(Debug, Default)]
struct State {
    all: u32,
    all_told: bool,
    addresses: HashMap<IpAddr, Held>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    plane: &'static str,
    state: Mutex<State>,
}

/// The door of one port. Clones are the same door.
#[derive(Debug, Clone)]
pub struct Door(Arc<Inner>);

/// One connection that was let in.
#[derive(Debug)]
pub(crate) struct Pass {
    door: Door,
    /// `None`: it is not counted by its address.
    place: Option<IpAddr>,
    shaking: bool,
    stranger: bool,
}

impl Door {
    /// `plane` is named in log lines and metrics.
    #[must_use]
    pub fn new(limits: Limits, plane: &'static str) -> Self {
        Self(Arc::new(Inner { limits, plane, state: Mutex::default() }))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn plane(&self) -> &'static str {
        self.0.plane
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, or not; `None`: it is to be closed, and everything about that was said.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Pass> {
        let place = self.place(address);
        match self.count(place) {
            Ok(()) => Some(Pass { door: self.clone(), place, shaking: true, stranger: false }),
            Err(full) => {
                self.turned_away(full, address);
                None
            }
        }
    }

    /// By what an address is counted; `None`: in the sum only.
    fn place(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        if address.is_loopback() && !self.limits().count_loopback {
            return None;
        }
        Some(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }

    fn count(&self, place: Option<IpAddr>) -> Result<(), Full> {
        let (limits, mut state) = (self.limits(), self.lock());
        if state.all >= limits.in_all {
            return Err(Full::All);
        }
        if let Some(place) = place {
            let held = state.addresses.entry(place).or_default();
            // A place without connections is under both limits, so nothing empty stays in the map.
            if held.open >= limits.per_address {
                return Err(Full::Address);
            }
            if held.shaking >= limits.handshakes_per_address {
                return Err(Full::Handshakes);
            }
            held.open += 1;
            held.shaking += 1;
        }
        state.all += 1;
        Ok(())
    }

    /// Counts it, and says it once for each address: a flood must not become one of the log.
    fn turned_away(&self, full: Full, address: IpAddr) {
        let (plane, limit) = (self.0.plane, full.as_str());
        metrics::counter!("longshore_connections_refused_total", "plane" => plane, "limit" => limit).increment(1);
        let first = {
            let mut state = self.lock();
            match self.place(address).filter(|_| full != Full::All) {
                Some(place) => {
                    state.addresses.get_mut(&place).is_some_and(|held| !std::mem::replace(&mut held.told, true))
                }
                None => !std::mem::replace(&mut state.all_told, true),
            }
        };
        if first {
            tracing::warn!(plane, %address, limit, "connections are refused: there are as many as `connections` permits");
        }
    }
}

impl Pass {
    /// The handshake is over; `stranger`: without a certificate on a port where there should be one.
    pub(crate) fn shaken(&mut self, stranger: bool, address: IpAddr) -> bool {
        let full = {
            let mut state = self.door.lock();
            let Some(held) = self.place.and_then(|place| state.addresses.get_mut(&place)) else { return true };
            if std::mem::take(&mut self.shaking) {
                held.shaking = held.shaking.saturating_sub(1);
            }
            let full = stranger && held.strangers >= self.door.limits().strangers_per_address;
            if stranger && !full {
                held.strangers += 1;
                self.stranger = true;
            }
            full
        };
        if full {
            self.door.turned_away(Full::Strangers, address);
        }
        !full
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.door.lock();
        state.all = state.all.saturating_sub(1);
        if state.all < self.door.limits().in_all / 2 {
            state.all_told = false;
        }
        let Some(place) = self.place else { return };
        let Some(held) = state.addresses.get_mut(&place) else { return };
        held.open = held.open.saturating_sub(1);
        held.shaking = held.shaking.saturating_sub(u32::from(self.shaking));
        held.strangers = held.strangers.saturating_sub(u32::from(self.stranger));
        if held.open == 0 {
            state.addresses.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn door() -> Door {
        let limits = Limits {
            handshakes_per_address: 2,
            per_address: 3,
            strangers_per_address: 1,
            in_all: 5,
            ..Limits::default()
        };
        Door::new(limits, "test")
    }

    #[test]
    fn one_address_cannot_take_it_all() {
        let door = door();
        let mut held = vec![door.enter(ip("192.0.2.1")).unwrap(), door.enter(ip("192.0.2.1")).unwrap()];
        assert!(door.enter(ip("192.0.2.1")).is_none(), "two handshakes at once");
        assert!(door.enter(ip("::ffff:192.0.2.1")).is_none(), "nor by its other name");
        assert!(held.iter_mut().all(|pass| pass.shaken(false, ip("192.0.2.1"))));
        held.push(door.enter(ip("192.0.2.1")).unwrap());
        assert!(held[2].shaken(false, ip("192.0.2.1")));
        assert!(door.enter(ip("192.0.2.1")).is_none(), "three connections");
        let other = door.enter(ip("192.0.2.2")).unwrap();
        let near = door.enter(ip("127.0.0.1")).unwrap();
        assert!(door.enter(ip("127.0.0.1")).is_none(), "five in all");
        drop((held, other, near));
        assert!(door.lock().addresses.is_empty() && door.lock().all == 0, "nothing is left of those that went");
        let _again = door.enter(ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn those_without_a_certificate_are_few() {
        let door = door();
        let (mut one, mut two) = (door.enter(ip("192.0.2.1")).unwrap(), door.enter(ip("192.0.2.1")).unwrap());
        assert!(one.shaken(true, ip("192.0.2.1")));
        assert!(!two.shaken(true, ip("192.0.2.1")));
        drop((one, two));
        assert!(door.enter(ip("192.0.2.1")).unwrap().shaken(true, ip("192.0.2.1")));
    }

    #[test]
    fn a_network_of_ipv6_is_one_place() {
        let door = door();
        let _held = [door.enter(ip("2001:db8::1")).unwrap(), door.enter(ip("2001:db8::2")).unwrap()];
        assert!(door.enter(ip("2001:db8::ffff:1")).is_none());
        assert!(door.enter(ip("2001:db8:0:1::1")).is_some());
    }
}
