//! The channel and the version of a release that is to be made. `longshore_core::channel` decides; here it gets what it has to know.

use longshore_core::channel::{self, Channel, Refusal};
use longshore_core::spec::Project;
use longshore_core::version::{self, Version};

use super::{Error, Result};
use crate::store::Tx;
use crate::store::rows::{ProjectRow, ReleaseFilter};

/// What is deployed, or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The release of this version, which is there.
    Release(String),
    /// A release that is made of the project as it is now.
    New {
        /// Its channel; `None`: what the rules say.
        channel: Option<String>,
        /// Its version; `None`: the next one.
        version: Option<String>,
    },
}

/// Where a release that is to be made belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) channel: String,
    pub(super) version: Version,
}

/// Chooses channel and version. Without a version that is the one after the newest that the channel admits.
pub(super) async fn choose(
    tx: &mut dyn Tx,
    project: &ProjectRow,
    spec: &Project,
    (channel, version): (Option<&str>, Option<&str>),
) -> Result<Chosen> {
    if let Some(text) = version {
        let version = parsed(text, "version")?;
        let channel = channel::choose(spec, channel, &version)?.name.clone();
        return Ok(Chosen { channel, version });
    }
    let newest = newest(tx, project, channel::meant(spec, channel)?).await?;
    let (channel, version) = channel::next(spec, channel, newest.as_ref())?;
    Ok(Chosen { channel: channel.name.clone(), version })
}

/// The highest version of all releases that a channel admits.
async fn newest(tx: &mut dyn Tx, project: &ProjectRow, channel: Option<&Channel>) -> Result<Option<Version>> {
    let before = channel.and_then(Channel::end).map(version::sort_key);
    // Most often it is the first one.
    let mut filter = ReleaseFilter { before, limit: 1, ..ReleaseFilter::default() };
    loop {
        let page = tx.releases(project.id, &filter).await?;
        let Some(last) = page.last() else { return Ok(None) };
        filter = ReleaseFilter { before: Some(last.sort_key.clone()), ..ReleaseFilter::default() };
        let mut versions = page.iter().filter_map(|row| version::parse(&row.version).ok());
        if let Some(found) = versions.find(|version| channel.is_none_or(|channel| channel.admits(version).is_ok())) {
            return Ok(Some(found));
        }
    }
}

/// The channel that a question is about: the one that it names, or the default.
pub(super) fn asked_about<'a>(spec: &'a Project, channel: Option<&str>) -> Result<&'a str> {
    let found = match channel {
        Some(name) => Some(spec.channel(name)?),
        None => spec.default_channel(),
    };
    found.map(|channel| channel.name.as_str()).ok_or_else(|| {
        let message = format!("project `{}` has more than one channel, and none of them is the default", spec.name);
        Error::invalid("channel", message, "name one with `--channel`".to_owned())
    })
}

pub(super) fn parsed(text: &str, field: &str) -> Result<Version> {
    version::parse(text).map_err(|message| Error::invalid(field, message, None))
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let hint = refusal.hint();
        match refusal {
            Refusal::Unknown { name, .. } => Self::NotFound { kind: "channel", name, hint: Some(hint) },
            other => Self::refused(other.code(), other.to_string(), hint),
        }
    }
}
