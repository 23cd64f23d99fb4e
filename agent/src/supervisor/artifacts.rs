//! Brings what a step left to the controller, before the step's end is reported.
//!
//! Nothing is written down: until the end is acknowledged the container and the volume are there, so a new process reads them again,
//! and the controller keeps a file once, however often it comes. What cannot be brought does not hold the step's end up for ever: the
//! controller says then what is missing.

use bytes::Bytes;
use longshore_core::artifacts::Artifact;
use longshore_core::init::ExitRecord;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::Runtime;
use super::attempt::{Attempt, Halt};
use super::reporter::Reporter;
use crate::executor::Piece;
use crate::retry::Retry;
use crate::session::{Error as CallError, Phase};

/// Tries, while the controller is there, before the rest is given up.
const TRIES: u32 = 10;
/// Pieces that may wait between engine and controller; each has at most 256 KiB.
const PIECES: usize = 4;

/// Why a pass over the files did not bring all of them.
enum Stopped {
    /// The attempt is not ours any more.
    Fenced(String),
    /// It may go better the next time.
    Again(String),
}

impl<R: Runtime> Attempt<R> {
    /// Uploads what the exit record lists. Only a fence ends the step for it.
    pub(super) async fn deliver(
        &self,
        step: u32,
        container: &str,
        record: &ExitRecord,
        reporter: &Reporter,
    ) -> Result<(), Halt> {
        // Those that are there, or that will never be.
        let mut settled = vec![false; record.artifacts.len()];
        let mut retry = Retry::new(self.shared.retry);
        let mut failed = 0;
        while settled.contains(&false) {
            match self.pass(step, container, &record.artifacts, &mut settled, reporter).await {
                Ok(()) => return Ok(()),
                Err(Stopped::Fenced(reason)) => return Err(Halt::Fenced(reason)),
                Err(Stopped::Again(reason)) => {
                    failed += u32::from(self.shared.contact.borrow().connected);
                    if failed >= TRIES {
                        tracing::error!(attempt = %self.id(), slot = step, reason, "files of a step are given up; its end is reported without them");
                        return Ok(());
                    }
                    tracing::warn!(attempt = %self.id(), slot = step, reason, "files of a step could not be brought, trying again");
                }
            }
            self.pause(&mut retry).await;
        }
        Ok(())
    }

    /// Reads all files once and sends those that are not settled. With `Ok` there is nothing that another pass would bring.
    async fn pass(
        &self,
        step: u32,
        container: &str,
        artifacts: &[Artifact],
        settled: &mut [bool],
        reporter: &Reporter,
    ) -> Result<(), Stopped> {
        let (pieces_tx, mut pieces) = mpsc::channel(PIECES);
        let reading = self.shared.runtime.artifacts(container, step, pieces_tx);
        let sending = async {
            // Dropped at the end of this, so that an early one ends the reading too.
            let pieces = &mut pieces;
            let mut next = pieces.recv().await;
            let mut stopped = None;
            while let (Some(piece), None) = (next.take(), &stopped) {
                let Piece::File { index, bytes } = piece else {
                    next = pieces.recv().await;
                    continue;
                };
                match artifacts.get(index).filter(|artifact| !settled[index] && artifact.bytes == bytes) {
                    Some(artifact) => {
                        reporter.say(Phase::Shipping, &artifact.path, 0, bytes);
                        let sent = self.send(step, artifact, pieces, &mut next).await;
                        stopped = settle(sent, artifact, &mut settled[index]);
                    }
                    None => next = pieces.recv().await,
                }
            }
            pieces.close();
            while pieces.try_recv().is_ok() {}
            stopped
        };
        let (read, stopped) = tokio::join!(reading, sending);
        match (stopped, read) {
            (Some(stopped), _) => Err(stopped),
            (None, Err(error)) => Err(Stopped::Again(error.full())),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Sends one file; `next` is the piece behind it afterwards. False: what was read is not what init saw.
    async fn send(
        &self,
        step: u32,
        artifact: &Artifact,
        pieces: &mut mpsc::Receiver<Piece>,
        next: &mut Option<Piece>,
    ) -> Result<bool, CallError> {
        let (data_tx, data) = mpsc::channel::<Bytes>(1);
        let mut sha = Sha256::new();
        let feeding = async {
            // Moved in, so that the upload ends with the last piece.
            let data_tx = data_tx;
            loop {
                match pieces.recv().await {
                    Some(Piece::Data(bytes)) => {
                        sha.update(&bytes);
                        // An upload that was answered early takes no more; the rest is read past.
                        drop(data_tx.send(bytes).await);
                    }
                    other => return other,
                }
            }
        };
        let shipping = self.shared.client.ship_artifact(self.offer.fence, step, artifact, data);
        let (shipped, behind) = tokio::join!(shipping, feeding);
        *next = behind;
        let found: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        match shipped {
            Ok(()) => Ok(true),
            Err(CallError::Fenced(reason)) => Err(CallError::Fenced(reason)),
            Err(_) if found != artifact.sha256 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What the end of an upload means for its file; answers why the pass cannot go on.
fn settle(sent: Result<bool, CallError>, artifact: &Artifact, settled: &mut bool) -> Option<Stopped> {
    match sent {
        Ok(true) => *settled = true,
        // Cut short by the engine, which the reading says; or changed, and then it stays so.
        Ok(false) => tracing::warn!(path = artifact.path, "a file is not what it was when the step ended"),
        Err(CallError::Fenced(reason)) => return Some(Stopped::Fenced(reason)),
        Err(CallError::Refused(reason)) => {
            tracing::warn!(path = artifact.path, reason, "the controller does not take a file");
            *settled = true;
        }
        Err(error) => return Some(Stopped::Again(error.to_string())),
    }
    None
}
