//! Channels: lines of releases with rules for their versions and, where they have one, a lifecycle of their own.
//!
//! Invariants: a project without channels has one, [`IMPLICIT`], without rules. A release is in exactly one channel, whose rules its
//! version fulfils; both are fixed when it is made. Which channel that is, is never left to chance: [`choose`] answers one or says
//! why not.

mod range;

use std::sync::LazyLock;

use semver::Version;
use serde::{Deserialize, Serialize};

pub use range::Range;

use crate::spec::{Phase, Project};
use crate::version;

/// Name of the channel of a project that has none.
pub const IMPLICIT: &str = "default";
/// In a list of pre-releases: versions without one.
pub const NONE: &str = "none";
/// Instead of a list of pre-releases: all versions.
pub const ANY: &str = "any";

static WITHOUT_RULES: LazyLock<[Channel; 1]> = LazyLock::new(|| {
    let name = IMPLICIT.to_owned();
    [Channel { name, versions: None, prerelease: Vec::new(), lifecycle: Vec::new(), default: true }]
});

/// A line of releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Versions of its releases; `None`: all.
    #[serde(default)]
    pub versions: Option<Range>,
    /// What the first part of a version's pre-release may be, such as `rc` of `1.4.0-rc.1`: a word as it is, the beginning of one
    /// with a `*` behind it, or [`NONE`]. Empty: anything, and versions without one.
    #[serde(default)]
    pub prerelease: Vec<String>,
    /// Phases of its own; empty: those of the project.
    #[serde(default)]
    pub lifecycle: Vec<Phase>,
    /// Takes what more than one channel would take, and what is deployed without a release.
    #[serde(default)]
    pub default: bool,
}

/// Why a version is not in a channel, or a channel cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such channel.
    #[error("there is no channel `{name}`; nothing was made")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
        /// The one that was probably meant.
        meant: Option<String>,
    },
    /// The channel that was asked for does not take the version.
    #[error("channel `{channel}` does not take version `{version}`: {why}; nothing was made")]
    Rule {
        /// The channel.
        channel: String,
        /// The version.
        version: String,
        /// The rule that it breaks.
        why: String,
        /// Nobody asked for this version: it is the next one.
        generated: bool,
    },
    /// No channel takes the version.
    #[error("no channel takes version `{version}`: {}; nothing was made", why.join("; "))]
    Nowhere {
        /// The version.
        version: String,
        /// The rule that it breaks of each channel.
        why: Vec<String>,
        /// Nobody asked for this version: it is the next one.
        generated: bool,
    },
    /// More than one channel takes it, and none of them is the default.
    #[error(
        "version `{version}` fits more than one channel ({}), and none of them is the default; nothing was made",
        quoted(channels)
    )]
    Several {
        /// The version.
        version: String,
        /// The channels.
        channels: Vec<String>,
    },
}

impl Refusal {
    /// The same, of a version that nobody asked for.
    fn of_next(self) -> Self {
        match self {
            Self::Rule { channel, version, why, .. } => Self::Rule { channel, version, why, generated: true },
            Self::Nowhere { version, why, .. } => Self::Nowhere { version, why, generated: true },
            other => other,
        }
    }

    /// The stable word.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "not_found",
            Self::Rule { .. } => "channel_refuses",
            Self::Nowhere { .. } => "no_channel",
            Self::Several { .. } => "channel_ambiguous",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let version = "give a version that fits with `--version`: `longshore release create PROJECT --version V`";
        match self {
            Self::Unknown { known, meant: None, .. } => format!("the project has {}", quoted(known)),
            Self::Unknown { meant: Some(meant), .. } => format!("did you mean `{meant}`?"),
            Self::Rule { generated: true, .. } | Self::Nowhere { generated: true, .. } => version.to_owned(),
            Self::Rule { .. } => "choose another version, or a channel that takes it with `--channel`".to_owned(),
            Self::Nowhere { .. } => "choose another version, or change the rules of a channel in the spec".to_owned(),
            Self::Several { .. } => "choose one with `--channel`, or write `default: true` at one of them".to_owned(),
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Channel {
    /// The first version above all that it admits, if there is one.
    #[must_use]
    pub fn end(&self) -> Option<&Version> {
        self.versions.as_ref()?.end()
    }

    /// Whether a release of this version may be in it.
    ///
    /// # Errors
    /// The rule that it breaks, in words.
    pub fn admits(&self, version: &Version) -> Result<(), String> {
        if let Some(range) = self.versions.as_ref().filter(|range| !range.admits(version)) {
            return Err(format!("its `versions` are `{range}`"));
        }
        if self.prerelease.is_empty() || self.prerelease.iter().any(|rule| fits(rule, version)) {
            return Ok(());
        }
        let has = match first_part(version) {
            Some(part) => format!("this one has `{part}`"),
            None => "this one has none".to_owned(),
        };
        Err(format!("its `prerelease` is {}, and {has}", quoted(&self.prerelease)))
    }
}

/// The first part of a version's pre-release.
fn first_part(version: &Version) -> Option<&str> {
    version.pre.split('.').next().filter(|part| !part.is_empty())
}

fn fits(rule: &str, version: &Version) -> bool {
    match (first_part(version), rule.strip_suffix('*')) {
        (None, _) => rule == NONE,
        (Some(part), Some(start)) => part.starts_with(start),
        (Some(part), None) => rule == part && rule != NONE,
    }
}

impl Project {
    /// Its channels; at least one.
    #[must_use]
    pub fn all_channels(&self) -> &[Channel] {
        if self.channels.is_empty() { &*WITHOUT_RULES } else { &self.channels }
    }

    /// The channel that counts where none is named: the one that says so, or the only one.
    #[must_use]
    pub fn default_channel(&self) -> Option<&Channel> {
        match self.all_channels() {
            [only] => Some(only),
            all => all.iter().find(|channel| channel.default),
        }
    }

    /// A channel by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn channel(&self, name: &str) -> Result<&Channel, Refusal> {
        self.all_channels().iter().find(|channel| channel.name == name).ok_or_else(|| {
            let known: Vec<String> = self.all_channels().iter().map(|channel| channel.name.clone()).collect();
            let meant = crate::spec::suggest::closest(name, known.iter().map(String::as_str)).map(str::to_owned);
            Refusal::Unknown { name: name.to_owned(), known, meant }
        })
    }

    /// The phases that releases of a channel go through; of a channel that it does not have those of the project.
    #[must_use]
    pub fn lifecycle_of(&self, channel: &str) -> &[Phase] {
        match self.channels.iter().find(|known| known.name == channel) {
            Some(channel) if !channel.lifecycle.is_empty() => &channel.lifecycle,
            _ => &self.lifecycle,
        }
    }
}

/// The channel that is meant where no version is named: the one of this name, or the default. `None`: the version decides.
///
/// # Errors
/// When there is no channel of that name.
pub fn meant<'a>(project: &'a Project, name: Option<&str>) -> Result<Option<&'a Channel>, Refusal> {
    match name {
        Some(name) => project.channel(name).map(Some),
        None => Ok(project.default_channel()),
    }
}

/// The next version, and its channel. `newest`: the highest one of all releases that the channel that is [`meant`] admits, whichever
/// they are in. So the next one is free if the channel admits it, and a pre-release elsewhere does not lead to it.
///
/// # Errors
/// As [`choose`].
pub fn next<'a>(
    project: &'a Project,
    name: Option<&str>,
    newest: Option<&Version>,
) -> Result<(&'a Channel, Version), Refusal> {
    let version = version::next(newest);
    let name = meant(project, name)?.map(|channel| channel.name.as_str());
    match choose(project, name, &version) {
        Ok(channel) => Ok((channel, version)),
        Err(refusal) => Err(refusal.of_next()),
    }
}

/// The channel of a release with a version, and whether it takes it.
///
/// # Errors
/// When the channel that is named does not take it; when none is named, and none takes it, or several of which none is the default.
pub fn choose<'a>(project: &'a Project, name: Option<&str>, version: &Version) -> Result<&'a Channel, Refusal> {
    if let Some(name) = name {
        let channel = project.channel(name)?;
        return channel.admits(version).map(|()| channel).map_err(|why| {
            let (channel, version) = (name.to_owned(), version.to_string());
            Refusal::Rule { channel, version, why, generated: false }
        });
    }
    let (mut taken, mut why) = (Vec::new(), Vec::new());
    for channel in project.all_channels() {
        match channel.admits(version) {
            Ok(()) => taken.push(channel),
            Err(rule) => why.push(format!("of `{}`, {rule}", channel.name)),
        }
    }
    let version = version.to_string();
    match taken.as_slice() {
        [] => Err(Refusal::Nowhere { version, why, generated: false }),
        [only] => Ok(only),
        several => several.iter().find(|channel| channel.default).copied().ok_or_else(|| {
            let channels = several.iter().map(|channel| channel.name.clone()).collect();
            Refusal::Several { version, channels }
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "version: 1\nproject: shop\nenvironments: [{name: dev}, {name: live}]\nlifecycle: [{phase: a, environments: [dev]}]\n\
        steps: [{name: one, image: i, run: x}]\n";

    fn project(channels: &str) -> Project {
        let text = if channels.is_empty() { HEAD.to_owned() } else { format!("{HEAD}channels: [{channels}]\n") };
        crate::spec::parse(&text).unwrap_or_else(|errors| panic!("{channels}: {errors:#?}"))
    }

    fn chosen(project: &Project, name: Option<&str>, version: &str) -> Result<String, Refusal> {
        choose(project, name, &version::parse(version).unwrap()).map(|channel| channel.name.clone())
    }

    const THREE: &str = "{name: stable, prerelease: none, default: true}, {name: beta, prerelease: [beta, 'rc*']}, \
        {name: old, versions: '<2.0.0', lifecycle: [{phase: b, environments: [live]}]}";

    #[test]
    fn without_channels_there_is_one_that_takes_everything() {
        let project = project("");
        for version in ["0.0.1", "1.0.0-rc.1"] {
            assert_eq!(chosen(&project, None, version).unwrap(), IMPLICIT);
            assert_eq!(chosen(&project, Some(IMPLICIT), version).unwrap(), IMPLICIT);
        }
        assert_eq!(chosen(&project, Some("beta"), "1.0.0").unwrap_err().code(), "not_found");
        assert_eq!(project.lifecycle_of(IMPLICIT).len(), 1);
    }

    #[test]
    fn the_version_decides_and_the_default_takes_what_several_would() {
        let project = project(THREE);
        for (version, channel) in [
            ("2.0.0", "stable"),
            ("1.0.0", "stable"),
            ("2.0.0-rc4.1", "beta"),
            ("2.0.0-beta.1", "beta"),
            ("1.0.0-x", "old"),
        ] {
            assert_eq!(chosen(&project, None, version).as_deref(), Ok(channel), "{version}");
        }
        assert_eq!(chosen(&project, Some("old"), "1.0.0").as_deref(), Ok("old"));
        let refused = |name, version| {
            let refusal = chosen(&project, name, version).unwrap_err();
            format!("{}: {refusal}; {}", refusal.code(), refusal.hint())
        };
        let nowhere = refused(None, "2.0.0-x");
        for part in
            ["no_channel: ", "of `stable`, its `prerelease` is `none`, and this one has `x`", "of `beta`", "`<2.0.0`"]
        {
            assert!(nowhere.contains(part), "{part}: {nowhere}");
        }
        assert!(
            refused(None, "1.0.0-rc.1")
                .starts_with("channel_ambiguous: version `1.0.0-rc.1` fits more than one channel (`beta`, `old`)")
        );
        assert!(
            refused(Some("beta"), "1.0.0").contains("channel_refuses: channel `beta` does not take version `1.0.0`")
        );
        assert!(refused(Some("bata"), "1.0.0").contains("did you mean `beta`?"));
    }

    #[test]
    fn a_pre_release_is_told_by_its_first_part() {
        let fits = |rule: &str, text: &str| fits(rule, &version::parse(text).unwrap());
        assert!(
            fits("rc", "1.0.0-rc.1") && fits("rc", "1.0.0-rc") && !fits("rc", "1.0.0-rc1") && !fits("rc", "1.0.0-a.rc")
        );
        assert!(
            fits("rc*", "1.0.0-rc1") && fits("rc*", "1.0.0-rc.1") && !fits("rc*", "1.0.0-r") && !fits("*", "1.0.0")
        );
        assert!(fits("*", "1.0.0-x") && fits(NONE, "1.0.0") && !fits(NONE, "1.0.0-none"));
    }

    #[test]
    fn the_next_version_is_one_of_its_channel_or_none() {
        let project = project(THREE);
        let next = |name, newest: Option<&str>| {
            let newest = newest.map(|text| version::parse(text).unwrap());
            next(&project, name, newest.as_ref()).map(|(channel, version)| format!("{}@{version}", channel.name))
        };
        assert_eq!(next(None, Some("2.0.0-rc.1")).as_deref(), Ok("stable@2.0.0"));
        assert_eq!(next(None, None).as_deref(), Ok("stable@0.0.1"));
        assert_eq!(next(Some("old"), Some("1.9.9")).as_deref(), Ok("old@1.9.10"));
        let refused = next(Some("beta"), Some("2.0.0-rc.1")).unwrap_err();
        assert_eq!(refused.code(), "channel_refuses");
        assert!(refused.hint().contains("--version"), "{}", refused.hint());
    }

    #[test]
    fn a_channel_has_its_own_phases_or_those_of_the_project() {
        let project = project(THREE);
        let names =
            |channel: &str| project.lifecycle_of(channel).iter().map(|phase| phase.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names("old"), names("beta"), names("gone")),
            (vec!["b".to_owned()], vec!["a".to_owned()], vec!["a".to_owned()])
        );
    }

    proptest! {
        /// A channel that is answered takes the version; a refusal is true; the order of channels in the file does not count.
        #[test]
        fn the_choice_is_sound_and_does_not_hang_on_the_order(
            rules in proptest::collection::vec(("|>=1\\.0\\.0|<1\\.0\\.0|>=1\\.0\\.0-b", "|none|a|b\\*|none,a"), 1..5),
            default in 0..6_usize,
            version in "[0-1]\\.0\\.0(-(a|b|b2)(\\.1)?)?",
        ) {
            let mut channels: Vec<String> = rules.iter().enumerate().map(|(at, (versions, pre))| {
                let mut text = format!("name: c{at}, default: {}", at == default);
                if !versions.is_empty() { text.push_str(&format!(", versions: '{versions}'")); }
                if !pre.is_empty() {
                    let words: Vec<String> = pre.split(',').map(|word| format!("'{word}'")).collect();
                    text.push_str(&format!(", prerelease: [{}]", words.join(", ")));
                }
                format!("{{{text}}}")
            }).collect();
            let one = project(&channels.join(", "));
            channels.reverse();
            let other = project(&channels.join(", "));
            let parsed = version::parse(&version).unwrap();
            let takes: Vec<&Channel> = one.all_channels().iter().filter(|channel| channel.admits(&parsed).is_ok()).collect();
            match chosen(&one, None, &version) {
                Ok(name) => {
                    prop_assert!(takes.iter().any(|channel| channel.name == name && (channel.default || takes.len() == 1)));
                    prop_assert_eq!(chosen(&other, None, &version), Ok(name));
                }
                Err(Refusal::Nowhere { .. }) => prop_assert!(takes.is_empty()),
                Err(Refusal::Several { .. }) => prop_assert!(takes.len() > 1 && takes.iter().all(|channel| !channel.default)),
                Err(refusal) => prop_assert!(false, "{}", refusal),
            }
        }
    }
}
