//! Images that this agent has pulled, and which of them go when they take more room than they may.
//!
//! Invariants: an image that was there before this agent pulled it, or that somebody else brought, is never removed; neither is one
//! that a job here needs, from its claim to its last trace, nor one that any container of the engine is made of (the engine
//! itself refuses that). Whoever needs an image says so ([`Executor::uses`]) before it is looked for, and both that and a removal take the
//! same lock, so no image goes between the look and the container.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptions};
use longshore_core::offer::OfferStep;
use longshore_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Executor;
use super::engine::{is_missing, status};
use crate::{clock, durable};

/// The record's file in the state directory.
const FILE: &str = "images.json";

/// One image that this agent has pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// What it was pulled as.
    references: BTreeSet<String>,
    bytes: u64,
    used_at: Timestamp,
}

/// The images that this agent has pulled, by the engine's id.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    images: BTreeMap<String, Kept>,
}

impl Record {
    /// Reads the record. Without one that can be read nothing is ours, and so nothing is removed.
    pub(super) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let images = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "the record of pulled images cannot be read; those in it are left to you");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        Self { path, images }
    }

    fn save(&self) {
        let written = serde_json::to_vec(&self.images).map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|bytes| durable::write(&self.path, &bytes)) {
            tracing::warn!(%error, "the record of pulled images is not saved; some may be left on this host");
        }
    }

    fn bytes(&self) -> u64 {
        self.images.values().map(|kept| kept.bytes).sum()
    }

    /// The images, the one that was not used for longest first.
    fn oldest(&self) -> Vec<String> {
        let mut ids: Vec<(&Timestamp, &String)> = self.images.iter().map(|(id, kept)| (&kept.used_at, id)).collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| id.clone()).collect()
    }
}

/// Images that jobs here need, by reference and by digest, each as often as jobs need it.
#[derive(Debug, Clone, Default)]
pub(super) struct Uses(Arc<std::sync::Mutex<HashMap<String, u32>>>);

impl Uses {
    fn change(&self, names: &[String], up: bool) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            let count = uses.entry(name.clone()).or_default();
            *count = if up { count.saturating_add(1) } else { count.saturating_sub(1) };
        }
        uses.retain(|_, count| *count > 0);
    }

    fn any(&self, id: &str, kept: &Kept) -> bool {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.contains_key(id) || kept.references.iter().any(|reference| uses.contains_key(reference))
    }
}

/// As long as this is there, the images that it was made for are not removed.
#[derive(Debug, Default)]
pub struct InUse {
    names: Vec<String>,
    uses: Uses,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.uses.change(&self.names, false);
    }
}

/// What came of looking for images that can go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Ids of images that were removed.
    pub removed: Vec<String>,
    /// What is kept.
    pub kept: KeptImages,
}

/// What is kept, for `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptImages {
    /// How many.
    pub images: usize,
    /// Their bytes, as the engine counts: layers that images share count for each.
    pub bytes: u64,
}

impl Executor {
    /// Says that a job here needs the images of these steps, until what this returns is dropped.
    #[must_use]
    pub fn uses(&self, steps: &[OfferStep]) -> InUse {
        let names: Vec<String> =
            steps.iter().flat_map(|step| step.digest.iter().cloned().chain([step.image.clone()])).collect();
        let uses = self.inner.in_use.clone();
        uses.change(&names, true);
        InUse { names, uses }
    }

    /// What is kept.
    pub async fn kept_images(&self) -> KeptImages {
        let record = self.inner.kept.lock().await;
        KeptImages { images: record.images.len(), bytes: record.bytes() }
    }

    /// Removes images that this agent has pulled and no job here needs, the longest unused first: down to the configured bytes when
    /// the agent is idle, and in any case as long as the disk that holds them has less room than is kept free.
    pub async fn collect_images(&self, idle: bool) -> Collected {
        let config = self.current();
        let budget = config.limits.image_cache_bytes;
        let limits = &config.limits;
        // Twice what a step needs to begin, so that room is made before jobs fail; and enough that low water, at which no job comes
        // any more after which images could go, is left behind.
        let enough = limits.disk_reserve_bytes.saturating_mul(2);
        let enough = enough.max(limits.disk_low_water_bytes.saturating_add(limits.disk_low_water_bytes / 4));
        let root = self.inner.engine_root.as_ref().filter(|root| root.exists()).unwrap_or(&config.state_dir);
        let low = || free(root).is_some_and(|free| free < enough);
        let ids = self.inner.kept.lock().await.oldest();
        let mut collected = Collected::default();
        for id in ids {
            // Held over look and removal, and taken anew for each: jobs that begin need not wait for all of them.
            let mut record = self.inner.kept.lock().await;
            let over = (idle && record.bytes() > budget) || low();
            let Some(kept) = record.images.get(&id) else { continue };
            if !over {
                break;
            }
            if self.inner.in_use.any(&id, kept) {
                continue;
            }
            if self.remove_kept(&id, &kept.references.clone()).await {
                record.images.remove(&id);
                record.save();
                collected.removed.push(id);
            }
        }
        collected.kept = self.kept_images().await;
        if !collected.removed.is_empty() {
            tracing::info!(images = ?collected.removed, kept_bytes = collected.kept.bytes, budget, "images that were not used for longest are removed");
        }
        collected
    }

    /// Whether the image is gone, or not ours any more.
    async fn remove_kept(&self, id: &str, references: &BTreeSet<String>) -> bool {
        let docker = &self.inner.docker;
        let tags = match docker.inspect_image(id).await {
            Ok(found) => found.repo_tags.unwrap_or_default(),
            Err(error) if is_missing(&error) => return true,
            Err(error) => {
                tracing::debug!(%error, id, "an image is not looked at, so it stays");
                return false;
            }
        };
        let ours = |tag: &String| references.iter().any(|reference| names(reference, tag));
        if !tags.iter().all(ours) {
            tracing::info!(id, ?tags, "an image was given another name by somebody else, so it is theirs now");
            return true;
        }
        // Never by force: the engine keeps what a container is made of.
        let targets = if tags.is_empty() { vec![id.to_owned()] } else { tags };
        for target in targets {
            match docker.remove_image(&target, None::<RemoveImageOptions>, None).await {
                Ok(_) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) if status(&error) == Some(409) => {
                    tracing::debug!(%error, id, "an image is used by a container and stays");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(%error, id, "an image cannot be removed");
                    return false;
                }
            }
        }
        true
    }

    /// Ids of all images that are there; `None`: the engine does not tell.
    pub(super) async fn image_ids(&self) -> Option<HashSet<String>> {
        let options = ListImagesOptionsBuilder::new().all(true).build();
        let found = self.inner.docker.list_images(Some(options)).await.ok()?;
        Some(found.into_iter().map(|image| image.id).collect())
    }

    /// Notes that an image was pulled. One that was there before is not ours.
    pub(super) async fn keep_image(&self, reference: &str, before: Option<&HashSet<String>>) {
        let Ok(found) = self.inner.docker.inspect_image(reference).await else { return };
        let (Some(id), Some(before)) = (found.id, before) else { return };
        let mut record = self.inner.kept.lock().await;
        if before.contains(&id) && !record.images.contains_key(&id) {
            return;
        }
        let bytes = found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        let kept = record.images.entry(id).or_insert_with(|| Kept {
            references: BTreeSet::new(),
            bytes,
            used_at: clock::now(),
        });
        (kept.bytes, kept.used_at) = (bytes, clock::now());
        kept.references.insert(reference.to_owned());
        record.save();
    }

    /// Notes that an image is used now; waits while one is being removed.
    pub(super) async fn used_image(&self, id: &str) {
        let mut record = self.inner.kept.lock().await;
        if let Some(kept) = record.images.get_mut(id) {
            kept.used_at = clock::now();
            record.save();
        }
    }

    /// Waits while an image is being removed, so that one that is looked for then is there or not.
    pub(super) async fn settled(&self) {
        drop(self.inner.kept.lock().await);
    }
}

/// Whether the engine's tag is what was pulled by this reference.
fn names(reference: &str, tag: &str) -> bool {
    let plain = |text: &str| {
        let text = text.strip_prefix("docker.io/").unwrap_or(text);
        text.strip_prefix("library/").unwrap_or(text).to_owned()
    };
    let (reference, tag) = (plain(reference), plain(tag));
    reference == tag || format!("{reference}:latest") == tag
}

/// Bytes free where a path is.
fn free(path: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(references: &[&str], bytes: u64, at: i64) -> Kept {
        let references = references.iter().map(|reference| (*reference).to_owned()).collect();
        Kept { references, bytes, used_at: Timestamp::from_micros(at) }
    }

    #[test]
    fn the_record_outlives_the_agent_and_a_broken_one_removes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path());
        record.images.insert("sha256:a".to_owned(), kept(&["a:1"], 5, 20));
        record.images.insert("sha256:b".to_owned(), kept(&["b:1"], 7, 10));
        record.save();
        let again = Record::open(dir.path());
        assert_eq!((again.bytes(), again.oldest()), (12, vec!["sha256:b".to_owned(), "sha256:a".to_owned()]));
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(Record::open(dir.path()).images.is_empty());
    }

    #[test]
    fn what_a_job_needs_is_known_by_name_and_by_digest_until_the_last_is_over() {
        let uses = Uses::default();
        let of = |name: &str| {
            uses.change(&[name.to_owned()], true);
            InUse { names: vec![name.to_owned()], uses: uses.clone() }
        };
        let image = kept(&["a:1"], 1, 1);
        let (first, second, by_digest) = (of("a:1"), of("a:1"), of("sha256:b"));
        drop(first);
        assert!(uses.any("sha256:a", &image) && uses.any("sha256:b", &kept(&["b:1"], 1, 1)));
        drop((second, by_digest));
        assert!(!uses.any("sha256:a", &image) && !uses.any("sha256:b", &kept(&["b:1"], 1, 1)));
    }

    #[test]
    fn the_engine_s_names_are_those_of_the_references() {
        for (reference, tag, same) in [
            ("host:5000/a", "host:5000/a:latest", true),
            ("docker.io/library/busybox:1", "busybox:1", true),
            ("busybox", "busybox:latest", true),
            ("host:5000/a:1", "mine/a:1", false),
        ] {
            assert_eq!(names(reference, tag), same, "{reference} {tag}");
        }
    }
}
