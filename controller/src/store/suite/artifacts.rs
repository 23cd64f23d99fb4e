//! Files that steps left.

use std::sync::Arc;

use longshore_core::artifacts::{Kind, Reason};

use super::{assigned, at, deployment_id};
use crate::store::artifacts::{ArtifactCount, ArtifactRow, Fate, UploadRow};
use crate::store::{Error, Store};

pub(super) async fn files_of_steps_are_kept_once_and_counted(store: &Arc<dyn Store>) {
    let first = assigned(store).await;
    let (attempt, deployment) = (first.id, first.deployment);
    let upload =
        move |sha256: &str| UploadRow { attempt, slot: 0, sha256: sha256.to_owned(), bytes: 7, created_at: at(1) };
    let row = move |slot, path: &str, fate| {
        let (path, created_at) = (path.to_owned(), at(2));
        ArtifactRow { id: 0, deployment, attempt, slot, kind: Kind::State, path, fate, created_at }
    };
    let kept = || Fate::Kept { bytes: 7, sha256: "a".to_owned() };
    write!(store, tx => {
        for sha256 in ["b", "a", "b"] {
            tx.save_upload(&upload(sha256)).await?;
        }
        assert_eq!(tx.uploads(attempt, 0).await?, [upload("a"), upload("b")]);
        assert_eq!(tx.uploads(attempt, 1).await?, []);
        tx.forget_uploads(attempt, Some(1)).await?;
        assert_eq!(tx.uploads(attempt, 0).await?.len(), 2, "another try's stay");
        tx.forget_uploads(attempt, None).await?;
        assert_eq!(tx.uploads(attempt, 0).await?, []);
        let out = row(1, "", Fate::LeftOut { reason: Reason::TooMany, count: 5 });
        for row in [row(0, "x", kept()), row(1, "x", kept()), out.clone()] {
            tx.insert_artifact(&row).await?;
        }
        let rows = tx.artifacts(deployment).await?;
        assert_eq!(rows[2], ArtifactRow { id: rows[2].id, ..out });
        assert_eq!(tx.artifact(deployment, rows[0].id).await?.as_ref(), Some(&rows[0]));
        assert_eq!(tx.artifact(deployment_id(2), rows[0].id).await?, None, "another deployment's");
        let count = |slot, kept, left_out| ArtifactCount { slot, kept, left_out };
        assert_eq!(tx.artifact_counts(deployment).await?, [count(0, 1, 0), count(1, 1, 5)]);
        Ok(())
    })
    .unwrap();
    let again = row(1, "x", kept());
    assert!(write!(store, tx => tx.insert_artifact(&again).await).is_err(), "a second time");
}
