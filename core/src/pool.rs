//! What is set for a pool on the server, and never by an agent.
//!
//! A pool that nothing was set for has the defaults: there is no need to make one. Every field may be left out, none is unknown.

use serde::{Deserialize, Serialize};

use crate::offer::Pull;
use crate::placement::{Placement, Strategy};
use crate::plugins::{self, Plugin};
use crate::quarantine;
use crate::scaling::Settings;

/// Longest text for people, in characters.
const MAX_TEXT: usize = 500;

/// The settings of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// What the pool is for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Why no job starts there; what runs goes on. Absent: jobs start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// When images are asked of their registries; a step that says `always` has that anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// Plugins that every agent has ready before it is given a job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Plugin>,
    /// How many machines it has is the controller's affair; see `docs/scaling.md`. Absent: nobody's, or somebody else's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Settings>,
    /// Which of several free agents gets a job.
    #[serde(skip_serializing_if = "is_default")]
    pub placement: Strategy,
    /// Most jobs of one project that run there at once. Absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_project: Option<u32>,
    /// Failures of its own in a row after which an agent gets no jobs until a probe passes; 0: never. Absent: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_after: Option<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {message}")]
pub struct BadSetting {
    /// The field, as in a file.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl Pool {
    /// Looks at what the types do not say.
    ///
    /// # Errors
    /// The first setting that cannot be.
    pub fn check(&self) -> Result<(), BadSetting> {
        for (field, text) in [("description", &self.description), ("paused", &self.paused)] {
            let Some(text) = text else { continue };
            let bad = |message| Err(BadSetting { field, message });
            if text.trim().is_empty() {
                return bad("is empty: leave it out, or say something".to_owned());
            }
            if text.chars().count() > MAX_TEXT {
                return bad(format!("has more than {MAX_TEXT} characters"));
            }
        }
        if let Some(scaling) = &self.scaling {
            scaling.check().map_err(|(field, message)| BadSetting { field, message })?;
        }
        if self.max_per_project == Some(0) {
            let message = "0 would let no job start: leave it out, or pause the pool".to_owned();
            return Err(BadSetting { field: "max_per_project", message });
        }
        plugins::check(&self.plugins)
            .map_err(|(field, message)| BadSetting { field: "plugins", message: format!("{field}: {message}") })
    }

    /// What it says about its jobs' places.
    #[must_use]
    pub const fn placement(&self) -> Placement {
        Placement { strategy: self.placement, max_per_project: self.max_per_project }
    }

    /// Failures in a row after which an agent is quarantined; 0: never.
    #[must_use]
    pub fn quarantine_after(&self) -> u32 {
        self.quarantine_after.unwrap_or(quarantine::DEFAULT_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_default_and_what_is_unknown_is_refused() {
        assert_eq!(serde_json::from_str::<Pool>("{}").unwrap(), Pool::default());
        assert_eq!(serde_json::to_string(&Pool::default()).unwrap(), "{}");
        let error = serde_json::from_str::<Pool>(r#"{"pause": "x"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `pause`"), "{error}");
    }

    #[test]
    fn places_of_jobs_are_set_and_have_defaults() {
        let set: Pool =
            serde_json::from_str(r#"{"placement": "pack", "max_per_project": 2, "quarantine_after": 0}"#).unwrap();
        assert_eq!(set.placement(), Placement { strategy: Strategy::Pack, max_per_project: Some(2) });
        assert_eq!((set.quarantine_after(), Pool::default().quarantine_after()), (0, 3));
        assert!(serde_json::from_str::<Pool>(r#"{"placement": "random"}"#).is_err());
        let none = Pool { max_per_project: Some(0), ..Pool::default() };
        assert_eq!(none.check().unwrap_err().field, "max_per_project");
    }

    #[test]
    fn plugins_are_looked_at_one_by_one() {
        let text = r#"{"pull": "always", "plugins": [{"name": "random", "version": "4.16.7", "checksum": "sha256:0", "from": {"folder": "/p"}}]}"#;
        let pool: Pool = serde_json::from_str(text).unwrap();
        assert_eq!(pool.pull, Some(Pull::Always));
        let bad = pool.check().unwrap_err().to_string();
        assert!(bad.contains("`plugins`: plugins[0].checksum") && bad.contains("64 hex digits"), "{bad}");
        let unknown =
            r#"{"plugins": [{"name": "random", "version": "4.16.7", "checksum": "sha256:0", "from": {"url": "/p"}}]}"#;
        assert!(serde_json::from_str::<Pool>(unknown).is_err());
    }

    #[test]
    fn texts_have_bounds() {
        let pool = |text: &str| Pool { paused: Some(text.to_owned()), ..Pool::default() };
        assert_eq!(pool("update of the hosts").check(), Ok(()));
        assert_eq!(pool(" ").check().unwrap_err().field, "paused");
        assert_eq!(pool(&"ä".repeat(500)).check(), Ok(()));
        assert!(pool(&"ä".repeat(501)).check().is_err());
    }
}
