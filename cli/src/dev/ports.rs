//! The two loopback ports of `longshore dev`.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// Where the controller listens, on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    /// The API.
    pub(super) api: u16,
    /// The agents' side.
    pub(super) agents: u16,
}

impl Ports {
    /// Two ports that are free now.
    pub(super) fn free() -> io::Result<Self> {
        // Both are held while they are chosen, so that they differ.
        let (one, two) = (bind(0)?, bind(0)?);
        Ok(Self { api: one.local_addr()?.port(), agents: two.local_addr()?.port() })
    }

    /// Whether nobody listens on them.
    pub(super) fn are_free(self) -> bool {
        bind(self.api).is_ok() && bind(self.agents).is_ok()
    }
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_a_taken_one_is_noticed() {
        let ports = Ports::free().unwrap();
        assert_ne!(ports.api, ports.agents);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ports = Ports { api: taken.local_addr().unwrap().port(), ..ports };
        assert!(!ports.are_free());
    }
}
