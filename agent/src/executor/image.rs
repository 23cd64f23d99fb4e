//! Images: a local one is used as it is, else it is pulled, once at a time a reference; or it is asked of its registry each time.
//!
//! Invariants: an image that is not what the release holds is not used in place of one that is; when the registry does not answer,
//! the copy on this host is used only if its digest is the one that the release holds, and that is said.

use futures_util::future::FutureExt as _;
use longshore_core::offer::{OfferStep, Pull as Policy};

use super::engine::is_missing;
use super::pull::{self, Failure, Pull};
use super::{Class, Error, Executor};

/// What the executor knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Reference as the user wrote it.
    pub reference: String,
    /// The engine's id of it, `sha256:...`: what containers are made from, so a tag that moves changes nothing.
    pub id: String,
    /// User of the image as it stands there (name, number, with or without group); empty for root.
    pub user: String,
    /// The image's own environment.
    pub env: Vec<(String, String)>,
}

/// An image that is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Reference as the user wrote it.
    pub reference: String,
    /// When its registry is asked.
    pub pull: Policy,
    /// Digest that the release holds, if it holds one.
    pub digest: Option<String>,
}

impl From<&str> for Wanted {
    fn from(reference: &str) -> Self {
        Self { reference: reference.to_owned(), ..Self::default() }
    }
}

impl From<&OfferStep> for Wanted {
    fn from(step: &OfferStep) -> Self {
        Self { reference: step.image.clone(), pull: step.pull, digest: step.digest.clone() }
    }
}

/// How far a pull is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// For people.
    pub message: String,
    /// Bytes downloaded so far.
    pub current: u64,
    /// Bytes to download, as far as known.
    pub total: u64,
    /// Something that should be known later too, and not only how far it is.
    pub note: bool,
}

impl PullProgress {
    fn note(message: String) -> Self {
        Self { message, note: true, ..Self::default() }
    }
}

impl Executor {
    /// Makes the step's image present: a local one is used as it is unless its registry is to be asked each time, else it is
    /// pulled (once at a time a reference).
    ///
    /// `progress` is called from this future while a pull runs.
    ///
    /// # Errors
    /// [`Error::Image`] names the reference and why it could not be had; others when the engine does not answer.
    pub async fn prepare_image(
        &self,
        wanted: &Wanted,
        mut progress: impl FnMut(PullProgress) + Send,
    ) -> Result<Image, Error> {
        let reference = wanted.reference.as_str();
        let failed =
            |failure: Failure| Error::Image { image: reference.to_owned(), cause: failure.cause, class: failure.class };
        if !is_reference(reference) {
            let cause = "is no image reference; it reads like `name:tag`".to_owned();
            return Err(failed(Failure { cause, class: Class::Permanent, again: false, denied: false }));
        }
        self.settled().await;
        let local = self.local_image(reference).await?;
        let by_digest = reference.contains("@sha256:");
        if let Some(image) = &local
            && (wanted.pull == Policy::IfNotPresent || by_digest)
        {
            self.used_image(&image.id).await;
            return Ok(image.clone());
        }
        match self.pulled(reference, &mut progress).await {
            Ok(bytes) => {
                let image = self.local_image(reference).await?.ok_or_else(|| {
                    let cause = "was pulled and is not there; something removes images on the agent's host".to_owned();
                    failed(Failure { cause, class: Class::AgentFault, again: false, denied: false })
                })?;
                if bytes > 0 {
                    progress(PullProgress::note(format!(
                        "pulled image `{reference}`: {} MiB",
                        bytes.div_ceil(1 << 20)
                    )));
                }
                self.used_image(&image.id).await;
                Ok(image)
            }
            Err(failure) if failure.again => match self.held_image(wanted).await? {
                Some(image) => {
                    progress(PullProgress::note(format!(
                        "the registry of image `{reference}` cannot be reached, so the copy on the agent's host is used: its digest {} is \
                         the one that the release holds ({})",
                        image.id, failure.cause
                    )));
                    self.used_image(&image.id).await;
                    Ok(image)
                }
                None => Err(failed(without_copy(failure, wanted, local.is_some()))),
            },
            Err(failure) => Err(failed(failure)),
        }
    }

    /// Waits for the pull of a reference; the bytes that came.
    async fn pulled(&self, reference: &str, progress: &mut (impl FnMut(PullProgress) + Send)) -> Result<u64, Failure> {
        let Pull { mut done, progress: mut reports } = self.pull(reference).await;
        let ended = loop {
            tokio::select! {
                ended = &mut done => break ended,
                Ok(()) = reports.changed() => progress(reports.borrow_and_update().clone()),
            }
        };
        self.inner.pulls.lock().await.retain(|_, pull| pull.done.peek().is_none());
        ended
    }

    /// The copy of this host that has the digest that the release holds.
    async fn held_image(&self, wanted: &Wanted) -> Result<Option<Image>, Error> {
        let Some(digest) = wanted.digest.as_deref().filter(|digest| is_digest(digest)) else { return Ok(None) };
        let found = self.local_image(digest).await?;
        // The engine looks up what begins with these digits, too.
        Ok(found.filter(|found| found.id == digest).map(|found| Image { reference: wanted.reference.clone(), ..found }))
    }

    pub(super) async fn local_image(&self, reference: &str) -> Result<Option<Image>, Error> {
        let found = match self.inner.docker.inspect_image(reference).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.failed(format!("look up image `{reference}`"), error)),
        };
        let config = found.config.unwrap_or_default();
        let env = config.env.unwrap_or_default();
        let env = env.iter().filter_map(|pair| pair.split_once('='));
        Ok(Some(Image {
            reference: reference.to_owned(),
            id: found.id.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }))
    }

    async fn pull(&self, reference: &str) -> Pull {
        let mut pulls = self.inner.pulls.lock().await;
        // One that has ended (its waiters were all dropped before they could take it out) counts for nothing.
        if let Some(running) = pulls.get(reference).filter(|pull| pull.done.peek().is_none()) {
            return running.clone();
        }
        let (report, progress) = tokio::sync::watch::channel(PullProgress::default());
        let done = pull::pull(self.clone(), reference.to_owned(), report).boxed().shared();
        let started = Pull { done, progress };
        pulls.insert(reference.to_owned(), started.clone());
        started
    }
}

/// Says why a copy that may be there is not used.
fn without_copy(failure: Failure, wanted: &Wanted, local: bool) -> Failure {
    let why = match (local, &wanted.digest) {
        (false, _) => return failure,
        (true, None) => "the release does not hold a digest for it yet".to_owned(),
        (true, Some(digest)) => format!("it is not the one that the release holds ({digest})"),
    };
    Failure {
        cause: format!("{}; a copy is on the agent's host and is not used, because {why}", failure.cause),
        ..failure
    }
}

fn is_digest(text: &str) -> bool {
    let hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    text.strip_prefix("sha256:").is_some_and(hex)
}

/// Whether the text can be sent to the engine as part of a path.
fn is_reference(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 500
        && text.chars().all(plain)
        && !text.contains("..")
        && !text.contains("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_cannot_reach_other_paths_of_the_engine() {
        for good in ["longshore/tiny:1", "host:5000/a/b@sha256:0", "busybox"] {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["", "../containers", "a/../b", "a b", "a?x=1", "a#b", "-a", "a%2f", "a//b"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }

    #[test]
    fn a_copy_that_is_not_used_is_explained() {
        let failure = || Failure { cause: "away".to_owned(), class: Class::Permanent, again: true, denied: false };
        let wanted = |digest: Option<&str>| Wanted { digest: digest.map(str::to_owned), ..Wanted::from("a:1") };
        assert_eq!(without_copy(failure(), &wanted(None), false).cause, "away");
        assert!(without_copy(failure(), &wanted(None), true).cause.contains("hold a digest"));
        assert!(without_copy(failure(), &wanted(Some("sha256:0")), true).cause.contains("(sha256:0)"));
        assert!(is_digest(&format!("sha256:{}", "a".repeat(64))));
        assert!(!is_digest("sha256:aa") && !is_digest(&"a".repeat(71)));
    }
}
