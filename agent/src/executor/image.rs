//! Images: a local one is used as it is, else it is pulled, once at a time a reference.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as Bollard;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use tokio::sync::watch;

use super::engine::{detail, is_missing};
use super::{Class, Error, Executor};
use crate::retry::{Policy, Retry};

/// Tries of one pull. What lasts longer is for a person.
const TRIES: u32 = 3;
/// Waits between them.
const WAITS: Policy = Policy { first: Duration::from_secs(1), most: Duration::from_secs(8) };

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

/// How far a pull is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// For people.
    pub message: String,
    /// Bytes downloaded so far.
    pub current: u64,
    /// Bytes to download, as far as known.
    pub total: u64,
}

/// A pull that everyone who needs the image waits for; whoever is polled drives it.
#[derive(Clone)]
pub(super) struct Pull {
    done: Shared<BoxFuture<'static, Result<(), Failure>>>,
    progress: watch::Receiver<PullProgress>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    cause: String,
    class: Class,
    again: bool,
}

impl Executor {
    /// Makes the step's image present: a local one is used as it is, else it is pulled (once at a time a reference).
    ///
    /// `progress` is called from this future while a pull runs.
    ///
    /// # Errors
    /// [`Error::Image`] names the reference and why it could not be had; others when the engine does not answer.
    pub async fn prepare_image(
        &self,
        reference: &str,
        mut progress: impl FnMut(PullProgress) + Send,
    ) -> Result<Image, Error> {
        let failed =
            |failure: Failure| Error::Image { image: reference.to_owned(), cause: failure.cause, class: failure.class };
        if !is_reference(reference) {
            let cause = "is no image reference; it reads like `name:tag`".to_owned();
            return Err(failed(Failure { cause, class: Class::Permanent, again: false }));
        }
        if let Some(image) = self.local_image(reference).await? {
            return Ok(image);
        }
        let Pull { mut done, progress: mut reports } = self.pull(reference).await;
        let ended = loop {
            tokio::select! {
                ended = &mut done => break ended,
                Ok(()) = reports.changed() => progress(reports.borrow_and_update().clone()),
            }
        };
        self.inner.pulls.lock().await.retain(|_, pull| pull.done.peek().is_none());
        ended.map_err(failed)?;
        self.local_image(reference).await?.ok_or_else(|| {
            let cause = "was pulled and is not there; something removes images on the agent's host".to_owned();
            failed(Failure { cause, class: Class::AgentFault, again: false })
        })
    }

    async fn local_image(&self, reference: &str) -> Result<Option<Image>, Error> {
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
        let (report, progress) = watch::channel(PullProgress::default());
        let done = pull(self.inner.docker.clone(), reference.to_owned(), report).boxed().shared();
        let started = Pull { done, progress };
        pulls.insert(reference.to_owned(), started.clone());
        started
    }
}

async fn pull(docker: Docker, reference: String, report: watch::Sender<PullProgress>) -> Result<(), Failure> {
    let mut retry = Retry::new(WAITS);
    for left in (0..TRIES).rev() {
        let Err(failure) = pull_once(&docker, &reference, &report).await else {
            return Ok(());
        };
        if !failure.again || left == 0 {
            return Err(failure);
        }
        report.send_replace(PullProgress {
            message: format!("{}; trying again", failure.cause),
            ..PullProgress::default()
        });
        retry.pause().await;
    }
    Ok(())
}

async fn pull_once(docker: &Docker, reference: &str, report: &watch::Sender<PullProgress>) -> Result<(), Failure> {
    // Without a tag the engine would pull every tag there is.
    let tagged = reference.contains('@') || reference.rsplit('/').next().is_some_and(|name| name.contains(':'));
    let from = if tagged { reference.to_owned() } else { format!("{reference}:latest") };
    let options = CreateImageOptionsBuilder::new().from_image(&from).build();
    let mut stream = std::pin::pin!(docker.create_image(Some(options), None, None));
    let mut layers: HashMap<String, (u64, u64)> = HashMap::new();
    while let Some(info) = stream.next().await {
        let info = info.map_err(|error| classify(&error))?;
        if let Some(error) = info.error_detail {
            return Err(classify(&Bollard::DockerStreamError { error: error.message.unwrap_or_default() }));
        }
        let status = info.status.unwrap_or_default();
        if let (Some(layer), Some(detail), "Downloading") = (&info.id, &info.progress_detail, status.as_str()) {
            let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
            layers.insert(layer.clone(), (bytes(detail.current), bytes(detail.total)));
        }
        let sum = |pick: fn(&(u64, u64)) -> u64| layers.values().map(pick).sum();
        let (current, total) = (sum(|layer| layer.0), sum(|layer| layer.1));
        report.send_replace(PullProgress { message: status, current, total });
    }
    Ok(())
}

/// The engine's words for a failed pull, sorted by who can do something about it.
///
/// A registry that cannot be reached stays a failure of the step (after the tries here): it is said at once and plainly, instead
/// of the job going round among agents that mostly share their way to the registry.
fn classify(error: &Bollard) -> Failure {
    let Some(text) = detail(error) else {
        let cause = format!("was not pulled, the container engine broke off: {error}");
        return Failure { cause, class: Class::AgentFault, again: true };
    };
    let has = |words: &[&str]| words.iter().any(|word| text.to_lowercase().contains(word));
    let (cause, class, again) = if has(&["no space left"]) {
        ("does not fit: full disk on the agent's host; free some space there", Class::AgentFault, false)
    } else if has(&["access denied", "unauthorized", "denied", "forbidden", "no basic auth"]) {
        (
            "was not found, or the registry denies access to it; check the name and the engine's registry login",
            Class::Permanent,
            false,
        )
    } else if has(&["not found", "manifest unknown", "does not exist", "no matching manifest"]) {
        ("was not found, neither on the agent's host nor in the registry; check name and tag", Class::Permanent, false)
    } else if has(&["invalid reference", "invalid argument"]) {
        ("is no image reference; it reads like `name:tag`", Class::Permanent, false)
    } else {
        (
            "is not on the agent's host and its registry cannot be reached; check the host's network, or load the image there",
            Class::Permanent,
            true,
        )
    };
    Failure { cause: format!("{cause} ({text})"), class, again }
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

    fn said(message: &str) -> Failure {
        classify(&Bollard::DockerResponseServerError { status_code: 500, message: message.to_owned() })
    }

    #[test]
    fn failures_are_sorted_by_who_can_do_something() {
        for (message, says, class, again) in [
            (
                "pull access denied for x, repository does not exist or may require 'docker login'",
                "denies access",
                Class::Permanent,
                false,
            ),
            ("manifest for x:1 not found: manifest unknown", "not found", Class::Permanent, false),
            (
                "Get https://registry/v2/: dial tcp: lookup registry: no such host",
                "cannot be reached",
                Class::Permanent,
                true,
            ),
            ("toomanyrequests: rate limit", "cannot be reached", Class::Permanent, true),
            ("write /var/lib/docker/tmp/x: no space left on device", "full disk", Class::AgentFault, false),
        ] {
            let failure = said(message);
            assert!(failure.cause.contains(says) && failure.cause.contains(message), "{failure:?}");
            assert_eq!((failure.class, failure.again), (class, again), "{message}");
        }
        assert_eq!(classify(&Bollard::RequestTimeoutError).class, Class::AgentFault);
    }

    #[test]
    fn references_cannot_reach_other_paths_of_the_engine() {
        for good in ["longshore/tiny:1", "host:5000/a/b@sha256:0", "busybox"] {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["", "../containers", "a/../b", "a b", "a?x=1", "a#b", "-a", "a%2f", "a//b"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
