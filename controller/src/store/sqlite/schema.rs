//! The steps of the schema, in their order. A step that was taken anywhere is never changed: one that differs is refused.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA384, digest};

/// One step.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) version: i64,
    pub(super) description: String,
    pub(super) sql: Cow<'static, str>,
}

impl Step {
    /// A step by the name of its file without the ending, as in `0007_indexes`.
    fn named(name: &str, sql: impl Into<Cow<'static, str>>) -> Option<Self> {
        let (version, description) = name.split_once('_')?;
        Some(Self { version: version.parse().ok()?, description: description.replace('_', " "), sql: sql.into() })
    }

    /// What tells it from one that was changed.
    pub(super) fn checksum(&self) -> Vec<u8> {
        digest(&SHA384, self.sql.as_bytes()).as_ref().to_vec()
    }
}

macro_rules! files {
    ($($name:literal,)*) => {
        [$(($name, include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")))),*]
    };
}

/// The files, by their names without the ending.
const FILES: [(&str, &str); 21] = files![
    "0001_first_deployment",
    "0002_people",
    "0003_releases",
    "0004_plans",
    "0005_children",
    "0006_secrets",
    "0007_indexes",
    "0008_artifacts",
    "0009_channels",
    "0010_sources",
    "0011_local",
    "0012_operations",
    "0013_joins",
    "0014_placement",
    "0015_pools",
    "0016_join_rules",
    "0017_scaling",
    "0018_fair_queue",
    "0019_leaving",
    "0020_plugins",
    "0022_traces",
];

/// The steps that this program knows.
pub(super) fn known() -> Vec<Step> {
    FILES.iter().filter_map(|(name, sql)| Step::named(name, *sql)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_step_and_they_come_in_their_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.collect();
        files.sort();
        assert_eq!(files, FILES.map(|(name, _)| format!("{name}.sql")));
        let known = known();
        assert_eq!(known.len(), FILES.len());
        assert!(known.is_sorted_by(|a, b| a.version < b.version));
        assert_eq!((known[0].version, known[0].description.as_str()), (1, "first deployment"));
    }
}
