//! Releases, approvals and what deployments keep to themselves.

use std::collections::BTreeSet;

use longshore_core::approval::{Approval, ApprovalState};
use longshore_core::engine_event::{Change, DiffKind, Op, PropertyChange};
use longshore_core::id::ApprovalId;
use longshore_core::operation::StackOperation;
use longshore_core::spec::Operation;

use super::*;
use crate::store::rows::{
    ApprovalFilter, ApprovalRow, LocalRow, OperationRow, PlanRow, ReleaseFilter, ReservationRow, VoteRow,
};

pub(super) async fn a_release_is_made_once_and_images_are_pinned_once(store: &Arc<dyn Store>) {
    filled(store).await;
    write!(store, tx => {
        let (one, ten) = (release(1, "1.9.0"), release(2, "1.10.0"));
        assert!(tx.insert_release(&one).await? && tx.insert_release(&ten).await?);
        assert!(!tx.insert_release(&ReleaseRow { id: release_id(3), ..one.clone() }).await?, "a version twice");
        assert_eq!(tx.release(project_id(), "1.9.0").await?, Some(one.clone()));
        assert_eq!(tx.release_by_id(ten.id).await?, Some(ten.clone()));
        assert_eq!(tx.release_same(project_id(), "digest-1").await?, Some(one.clone()));
        assert_eq!(tx.releases(project_id(), &ReleaseFilter::default()).await?[..2], [ten.clone(), one.clone()], "as versions");
        let filter = ReleaseFilter { before: Some(ten.sort_key.clone()), limit: 1, ..ReleaseFilter::default() };
        assert_eq!(tx.releases(project_id(), &filter).await?, std::slice::from_ref(&one));
        let beta = ReleaseRow { channel: "beta".to_owned(), ..release(4, "1.9.5") };
        assert!(tx.insert_release(&beta).await?);
        let of = |channel: &str| ReleaseFilter { channel: Some(channel.to_owned()), ..ReleaseFilter::default() };
        assert_eq!(tx.releases(project_id(), &of("beta")).await?, std::slice::from_ref(&beta));
        assert_eq!(tx.releases(project_id(), &of("default")).await?[..2], [ten, one.clone()]);
        assert_eq!(tx.releases(project_id(), &of("other")).await?, []);
        let spec = longshore_core::spec::parse("version: 1\nproject: shop\nenvironments: [{name: dev}]\nsteps: [{name: one, image: i, run: true}]\n").unwrap();
        let (version, sort_key) = ("local-1".to_owned(), "local-1".to_owned());
        let local = ReleaseRow { version, sort_key, local: Some(spec), ..release(5, "9.0.0") };
        assert!(tx.insert_release(&local).await?);
        assert_eq!(tx.releases(project_id(), &ReleaseFilter::default()).await?.len(), 4, "it is in no list");
        let filter = ReleaseFilter { local: true, ..ReleaseFilter::default() };
        assert_eq!(tx.releases(project_id(), &filter).await?, std::slice::from_ref(&local));
        tx.block_release(one.id, Some("CVE")).await?;
        assert_eq!(tx.release_by_id(one.id).await?.unwrap().blocked.as_deref(), Some("CVE"));
        tx.pin_image(one.id, ("tiny", "sha256:1"), at(5)).await?;
        tx.pin_image(one.id, ("tiny", "sha256:2"), at(6)).await?;
        assert_eq!(tx.images(one.id).await?, BTreeMap::from([("tiny".to_owned(), "sha256:1".to_owned())]));
        Ok(())
    })
    .unwrap();
}

pub(super) async fn what_succeeded_where_is_known(store: &Arc<dyn Store>) {
    filled(store).await;
    write!(store, tx => {
        let from = deployment(1).deployment;
        assert!(!tx.succeeded_in(release_id(0), "live").await? && tx.asked_for_in(release_id(0), "live").await?);
        let to = Deployment { state: DeploymentState::Succeeded, ended_at: Some(at(9)), ..from.clone() };
        assert!(tx.begin_deployment(deployment_id(1), at(4)).await?);
        assert!(tx.update_deployment(&from, &to).await?);
        assert!(tx.succeeded_in(release_id(0), "live").await? && !tx.succeeded_in(release_id(0), "dev").await?);
        assert_eq!(tx.last_good(project_id(), "live").await?, None, "what is there now is nothing to go back to");
        assert!(tx.insert_release(&release(7, "7.0.0")).await?);
        let local = LocalRow { spec: "ab".to_owned(), commit: Some("c0ffee1".to_owned()), dirty: Some(true) };
        let row = DeploymentRow { release: release_id(7), local: Some(local), ..deployment(5) };
        tx.insert_deployment(&row).await?;
        assert_eq!(tx.deployment(deployment_id(5)).await?, Some(row));
        assert_eq!(tx.under_way(release_id(7)).await?, BTreeSet::from(["live".to_owned()]));
        assert!(tx.begin_deployment(deployment_id(5), at(5)).await?);
        assert_eq!(tx.last_good(project_id(), "live").await?, Some(release_id(0)));
        tx.block_release(release_id(0), Some("CVE")).await?;
        assert_eq!(tx.last_good(project_id(), "live").await?, None);
        assert!(!tx.asked_for_in(release_id(0), "staging").await?);
        Ok(())
    })
    .unwrap();
}

pub(super) async fn a_reservation_has_one_holder_and_a_deployment_begins_once(store: &Arc<dyn Store>) {
    filled(store).await;
    let row = |key: &str, n| ReservationRow { key: key.to_owned(), deployment: deployment_id(n), taken_at: at(4) };
    write!(store, tx => {
        let waiting: Vec<_> = tx.pending_deployments().await?.into_iter().map(|row| row.deployment.id).collect();
        assert_eq!(waiting, [deployment_id(2), deployment_id(1), deployment_id(3)], "by priority, then by age");
        assert!(tx.set_priority(deployment_id(3), 5).await?);
        assert_eq!(tx.pending_deployments().await?[0].deployment.id, deployment_id(3));
        assert!(tx.reserve(&row("a", 1)).await? && !tx.reserve(&row("a", 2)).await?);
        assert!(tx.begin_deployment(deployment_id(1), at(5)).await? && !tx.begin_deployment(deployment_id(1), at(6)).await?);
        assert!(!tx.set_priority(deployment_id(1), 9).await?, "it has begun");
        assert_eq!(tx.pending_deployments().await?.len(), 2);
        assert_eq!(tx.reservations().await?, [row("a", 1)]);
        assert_eq!(tx.release_reservations(deployment_id(1), at(7)).await?, ["a"]);
        assert!(tx.reserve(&row("a", 2)).await?);
        assert_eq!(tx.jobs_of(deployment_id(2)).await?.len(), 1);
        Ok(())
    })
    .unwrap();
}

pub(super) async fn children_are_found_and_go_first(store: &Arc<dyn Store>) {
    filled(store).await;
    let mut child = deployment(9);
    child.parent = Some((deployment_id(1), 3));
    write!(store, tx => {
        tx.insert_deployment(&child).await?;
        assert_eq!(tx.deployment(child.deployment.id).await?, Some(child.clone()));
        assert_eq!(tx.children_of(deployment_id(1)).await?, std::slice::from_ref(&child));
        assert_eq!(tx.live_children().await?, std::slice::from_ref(&child));
        assert_eq!(tx.pending_deployments().await?[0], child);
        let to = Deployment { state: DeploymentState::Lost, ended_at: Some(at(9)), ..child.deployment.clone() };
        assert!(tx.update_deployment(&child.deployment, &to).await?);
        assert_eq!((tx.live_children().await?.len(), tx.children_of(deployment_id(1)).await?.len()), (0, 1));
        Ok(())
    })
    .unwrap();
}

pub(super) async fn operations_move_no_release(store: &Arc<dyn Store>) {
    filled(store).await;
    write!(store, tx => {
        let what = StackOperation { operation: Operation::Drift, step: "infra".to_owned() };
        let mut done = deployment(9);
        done.operation = Some(OperationRow { what, basis: Some(deployment_id(1)) });
        done.begun_at = Some(at(20));
        tx.insert_deployment(&done).await?;
        assert_eq!(tx.deployment(done.deployment.id).await?, Some(done.clone()));
        let to = Deployment { state: DeploymentState::Succeeded, ended_at: Some(at(21)), ..done.deployment.clone() };
        assert!(tx.update_deployment(&done.deployment, &to).await?);
        assert!(!tx.succeeded_in(done.release, "live").await?, "a look at a stack is no success of a release");
        assert_eq!(tx.standing(project_id(), "live").await?, None, "nothing has begun but the operation");
        assert!(tx.begin_deployment(deployment_id(1), at(5)).await?);
        assert_eq!(tx.standing(project_id(), "live").await?.map(|row| row.deployment.id), Some(deployment_id(1)));
        assert_eq!(tx.over_at("s", 9).await?, [], "no attempt has ended");
        Ok(())
    })
    .unwrap();
}

pub(super) async fn a_person_speaks_once_and_an_approval_is_decided_once(store: &Arc<dyn Store>) {
    filled(store).await;
    let row = ApprovalRow {
        approval: Approval {
            id: ApprovalId::new(at(1), [1; 10]),
            state: ApprovalState::Pending,
            needs: 2,
            teams: vec!["ops".to_owned()],
            expires_at: at(99),
            void_reason: None,
            decided_at: None,
        },
        deployment: deployment_id(1),
        step: 0,
        step_name: "go".to_owned(),
        created_at: at(3),
    };
    write!(store, tx => {
        tx.insert_approval(&row).await?;
        assert_eq!(tx.approvals(&ApprovalFilter::default()).await?, std::slice::from_ref(&row));
        let vote = VoteRow {
            approval: row.approval.id,
            person: "bob".to_owned(),
            granted: true,
            comment: "fine".to_owned(),
            at: at(5),
        };
        assert!(tx.insert_vote(&vote).await?);
        assert!(!tx.insert_vote(&VoteRow { granted: false, ..vote.clone() }).await?, "a second word");
        assert_eq!(tx.votes(row.approval.id).await?, [vote]);
        let to = Approval { state: ApprovalState::Granted, decided_at: Some(at(6)), ..row.approval.clone() };
        assert!(tx.update_approval(&row.approval, &to).await? && !tx.update_approval(&row.approval, &to).await?);
        assert_eq!(tx.approvals(&ApprovalFilter::default()).await?, []);
        let of = ApprovalFilter { deployment: Some(deployment_id(1)) };
        assert_eq!(tx.approvals(&of).await?[0].approval, to);
        let (property, kind) = ("p".to_owned(), DiffKind::UpdateReplace);
        let value = PropertyChange { property, kind, old: None, new: Some("3".to_owned()) };
        let plan = PlanRow {
            approval: row.approval.id,
            deployment: deployment_id(1),
            step: 1,
            digest: "d".to_owned(),
            checkpoint: "c".to_owned(),
            image: "sha256:1".to_owned(),
            resources: [("create".to_owned(), 3)].into(),
            changes: vec![Change { urn: "u".to_owned(), op: Op::Create, properties: vec!["p".to_owned()], values: vec![value], values_left_out: 3 }],
            sealed: vec![0, 1],
            created_at: at(7),
        };
        assert_eq!(tx.plan(row.approval.id).await?, None);
        tx.insert_plan(&plan).await?;
        assert_eq!(tx.plan(row.approval.id).await?.as_ref(), Some(&plan));
        assert_eq!(tx.plan_for(deployment_id(1), 1).await?, Some(plan));
        assert_eq!((tx.plan_for(deployment_id(1), 0).await?, tx.plan_for(deployment_id(2), 1).await?), (None, None));
        Ok(())
    })
    .unwrap();
}
