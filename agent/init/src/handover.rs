//! Receiving the hand-over: one connection, one message, two descriptors.

use longshore_core::init::{ACK, Handover, MAX_HANDOVER};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the agent may take to send the next part. It has everything at hand, so this is for one that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no hand-over. Then nothing has been run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("cannot connect to the agent at `{path}`")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke; the agent ended, or did not accept this process.
    #[error("the agent broke off the hand-over")]
    Read(#[source] std::io::Error),
    /// More than an agent ever sends.
    #[error("hand-over of {0} bytes is longer than {MAX_HANDOVER}")]
    TooLong(u64),
    /// The descriptors are not the two expected.
    #[error("hand-over came with {0} descriptors, 2 are needed")]
    Descriptors(usize),
    /// The message is not what this version reads. The cause is left out: it could quote a secret.
    #[error("hand-over cannot be read (line {line}, column {column})")]
    Message {
        /// Line of the message.
        line: usize,
        /// Column of the message.
        column: usize,
    },
    /// The answer did not go out.
    #[error("cannot answer the agent")]
    Answer(#[source] std::io::Error),
}

/// What the agent handed over.
#[derive(Debug)]
pub struct Received {
    /// What to do.
    pub handover: Handover,
    /// The spool, open for appending.
    pub spool: OwnedFd,
    /// The control file, open for reading and writing.
    pub control: OwnedFd,
}

/// Connects to the agent, takes the hand-over and acknowledges it.
pub fn receive(path: &Path) -> Result<Received, Error> {
    let connect = |source| Error::Connect { path: path.to_owned(), source };
    let mut socket = UnixStream::connect(path).map_err(connect)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(connect)?;
    let (length, descriptors) = head(&mut socket)?;
    if length > MAX_HANDOVER {
        return Err(Error::TooLong(length));
    }
    let mut message = Zeroizing::new(vec![0; usize::try_from(length).map_err(|_| Error::TooLong(length))?]);
    socket.read_exact(&mut message).map_err(Error::Read)?;
    let handover = serde_json::from_slice(&message)
        .map_err(|error| Error::Message { line: error.line(), column: error.column() })?;
    let [spool, control] = <[OwnedFd; 2]>::try_from(descriptors).map_err(|all| Error::Descriptors(all.len()))?;
    socket.write_all(&[ACK]).map_err(Error::Answer)?;
    Ok(Received { handover, spool, control })
}

/// The message's length, and the descriptors that come with its first byte.
fn head(socket: &mut UnixStream) -> Result<(u64, Vec<OwnedFd>), Error> {
    let mut length = [0; 8];
    // Room for more than the two descriptors, so that a third is seen (and closed) instead of cut off.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(&*socket, &mut [IoSliceMut::new(&mut length)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .map_err(|error| Error::Read(error.into()))?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    socket.read_exact(&mut length[received.bytes..]).map_err(Error::Read)?;
    Ok((u64::from_le_bytes(length), descriptors))
}
