//! Whether TCP connections to some places come about, told by an exit code: the agent's question before it takes jobs.
//!
//! Only `init reach`, a run in a container of its own, does this; PID 1 of a job opens no connection. Nothing is sent.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// Connections that have not come about by then are taken for blocked.
const WITHIN: Duration = Duration::from_secs(2);

/// Tries all of them at once. The code is `REACHED` and a bit for each that was reached, or 0.
pub fn reach(targets: &[&str]) -> Result<u8, String> {
    use longshore_core::init::reach::{MOST, code};
    if targets.is_empty() || targets.len() > MOST {
        return Err(format!("1 to {MOST} places are needed"));
    }
    let targets =
        targets.iter().map(|text| text.parse().map_err(|_| format!("`{text}` is not of the form ADDRESS:PORT")));
    let targets: Vec<SocketAddr> = targets.collect::<Result<_, _>>()?;
    Ok(code(&reached(&targets, WITHIN)))
}

/// For each place whether a connection came about.
fn reached(targets: &[SocketAddr], within: Duration) -> Vec<bool> {
    let mut reached = vec![false; targets.len()];
    let mut waiting: Vec<(usize, OwnedFd)> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        match begin(target) {
            Ok((socket, true)) => waiting.push((index, socket)),
            Ok((_, false)) => reached[index] = true,
            // No way there, or no such protocol: blocked.
            Err(_) => {}
        }
    }
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let deadline = crate::clock::boot_micros().saturating_add(micros(within));
    while !waiting.is_empty() {
        let left = deadline.saturating_sub(crate::clock::boot_micros()) / 1_000;
        let timeout = u16::try_from(left).map_or(PollTimeout::MAX, PollTimeout::from);
        let mut polled: Vec<PollFd<'_>> =
            waiting.iter().map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLOUT)).collect();
        match poll(&mut polled, timeout) {
            Ok(0) if left == 0 => break,
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => break,
        }
        let decided: Vec<bool> =
            polled.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect();
        let mut decided = decided.into_iter();
        waiting.retain(|(index, socket)| {
            let over = decided.next().unwrap_or(false);
            if over {
                reached[*index] = matches!(sockopt::socket_error(socket), Ok(Ok(())));
            }
            !over
        });
    }
    reached
}

/// A socket and whether its connection is still to come about.
fn begin(target: &SocketAddr) -> Result<(OwnedFd, bool), Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, target) {
        Ok(()) => Ok((socket, false)),
        Err(Errno::INPROGRESS) => Ok((socket, true)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn only_a_connection_counts() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let places = [closed, open.local_addr().unwrap()];
        assert_eq!(reached(&places, WITHIN), [false, true]);
        let [closed, open] = places.map(|place| place.to_string());
        assert_eq!(reach(&[&closed]), Ok(0));
        let code = reach(&[&closed, &open]).unwrap();
        assert_eq!(longshore_core::init::reach::read(i64::from(code), 2), Some(vec![false, true]));
        assert!(reach(&["example.com:80"]).is_err() && reach(&[]).is_err());
    }

    #[test]
    fn an_address_that_is_silent_is_given_up() {
        // Of TEST-NET-1: nobody answers, or there is no way.
        let silent = "192.0.2.254:9".parse().unwrap();
        assert_eq!(reached(&[silent], Duration::from_millis(50)), [false]);
    }
}
