//! People: names are used once, a role is given once, the audit is in the order of time.

use std::sync::Arc;

use longshore_core::access::{Grant, Place, Role};
use longshore_core::id::GrantId;

use super::{Error, Store, at, deployment, deployment_id, filled};
use crate::store::people::{AuditFilter, GrantRow, Subject, UserKind, UserRow};
use crate::store::rows::{DeploymentFilter, EventRow, Outcome};

fn user(name: &str) -> UserRow {
    UserRow { name: name.to_owned(), kind: UserKind::Person, created_at: at(1), disabled_at: None }
}

fn grant(n: u8, subject: Subject, project: Option<&str>) -> GrantRow {
    let grant = Grant { role: Role::Deployer, project: project.map(str::to_owned), environment: None };
    GrantRow { id: GrantId::new(at(1), [n; 10]), subject, grant, created_at: at(2), created_by: "admin".to_owned() }
}

pub(super) async fn run(mut make: impl AsyncFnMut() -> Arc<dyn Store>) {
    users_and_teams_come_back(&make().await).await;
    roles_are_given_once_and_reach_through_teams(&make().await).await;
    the_audit_is_paged_in_the_order_of_time(&make().await).await;
    deployments_are_listed_by_place(&make().await).await;
}

async fn users_and_teams_come_back(store: &Arc<dyn Store>) {
    write!(store, tx => {
        tx.insert_user(&user("bob")).await?;
        tx.insert_user(&UserRow { kind: UserKind::Service, ..user("ann") }).await?;
        tx.disable_user("bob", Some(at(7))).await?;
        let bob = UserRow { disabled_at: Some(at(7)), ..user("bob") };
        assert_eq!(tx.user("bob").await?, Some(bob.clone()));
        assert_eq!(tx.users().await?, [UserRow { kind: UserKind::Service, ..user("ann") }, bob]);
        tx.insert_team("ops", at(3)).await?;
        assert!(tx.insert_member("ops", "bob", at(4)).await? && tx.insert_member("ops", "ann", at(4)).await?);
        assert!(!tx.insert_member("ops", "bob", at(5)).await?, "it is one");
        assert_eq!(tx.team("ops").await?.unwrap().members, ["ann", "bob"]);
        assert_eq!(tx.teams_of("bob").await?, ["ops"]);
        assert!(tx.remove_member("ops", "bob").await? && !tx.remove_member("ops", "bob").await?);
        assert_eq!(tx.teams().await?.len(), 1);
        Ok(())
    })
    .unwrap();
    assert!(write!(store, tx => tx.insert_user(&user("bob")).await).is_err(), "a name is used once");
    assert!(write!(store, tx => tx.insert_team("ops", at(1)).await).is_err(), "a name is used once");
    assert!(write!(store, tx => tx.insert_member("ops", "nobody", at(1)).await).is_err(), "there is no such user");
}

async fn roles_are_given_once_and_reach_through_teams(store: &Arc<dyn Store>) {
    let (own, teams) = (Subject::User("bob".to_owned()), Subject::Team("ops".to_owned()));
    let (first, second) = (grant(1, own.clone(), None), grant(2, teams, Some("shop")));
    let rows = (first.clone(), second.clone());
    write!(store, tx => {
        tx.insert_user(&user("bob")).await?;
        tx.insert_team("ops", at(3)).await?;
        tx.insert_grant(&rows.0).await?;
        tx.insert_grant(&rows.1).await?;
        assert_eq!(tx.grants_of("bob").await?, std::slice::from_ref(&rows.0.grant));
        tx.insert_member("ops", "bob", at(4)).await?;
        assert_eq!(tx.grants_of("bob").await?, [rows.0.grant.clone(), rows.1.grant.clone()]);
        assert_eq!(tx.grants().await?, [rows.0, rows.1.clone()]);
        assert_eq!(tx.grant(rows.1.id).await?, Some(rows.1));
        Ok(())
    })
    .unwrap();
    let again = grant(3, own, None);
    assert!(write!(store, tx => tx.insert_grant(&again).await).is_err(), "no scope is a scope too");
    write!(store, tx => {
        assert!(tx.remove_grant(first.id).await? && !tx.remove_grant(first.id).await?);
        assert_eq!(tx.grants_of("bob").await?, [second.grant]);
        Ok(())
    })
    .unwrap();
}

async fn the_audit_is_paged_in_the_order_of_time(store: &Arc<dyn Store>) {
    // The clock was set back between the second and the third.
    let times = [10, 20, 5, 20];
    write!(store, tx => {
        for (n, micros) in times.into_iter().enumerate() {
            tx.insert_event(&EventRow {
                id: 0,
                at: at(micros),
                actor: "anna".to_owned(),
                action: n.to_string(),
                object: "project/shop".to_owned(),
                outcome: Outcome::Refused,
                deployment: None,
                detail: serde_json::json!({}),
            })
            .await?;
        }
        let mut filter = AuditFilter { limit: 3, ..AuditFilter::default() };
        let first = tx.audit(&filter).await?;
        let actions = |rows: &[EventRow]| rows.iter().map(|row| row.action.clone()).collect::<Vec<_>>();
        assert_eq!(actions(&first), ["2", "0", "1"]);
        assert_eq!((first[0].outcome, first[0].object.as_str()), (Outcome::Refused, "project/shop"));
        filter.after = first.last().map(|row| (row.at, row.id));
        assert_eq!(actions(&tx.audit(&filter).await?), ["3"]);
        let since = AuditFilter { since: Some(at(20)), after: None, limit: 9 };
        assert_eq!(actions(&tx.audit(&since).await?), ["1", "3"]);
        Ok(())
    })
    .unwrap();
}

async fn deployments_are_listed_by_place(store: &Arc<dyn Store>) {
    filled(store).await;
    let place = |project: Option<&str>, environment: Option<&str>| Place {
        project: project.map(str::to_owned),
        environment: environment.map(str::to_owned),
    };
    write!(store, tx => {
        // Of 1 to 3, which are all of `shop`, the second goes to `dev`.
        assert_eq!(deployment(2).environment, "dev");
        for (places, found) in [
            (None, 3),
            (Some(vec![]), 0),
            (Some(vec![place(Some("shop"), None)]), 3),
            (Some(vec![place(Some("other"), None)]), 0),
            (Some(vec![place(None, Some("live"))]), 2),
            (Some(vec![place(Some("other"), None), place(Some("shop"), Some("dev"))]), 1),
        ] {
            let filter = DeploymentFilter { places: places.clone(), ..DeploymentFilter::default() };
            assert_eq!(tx.deployments(&filter).await?.len(), found, "{places:?}");
        }
        let filter = DeploymentFilter {
            places: Some(vec![place(None, Some("dev"))]),
            before: Some(deployment_id(2)),
            ..DeploymentFilter::default()
        };
        assert_eq!(tx.deployments(&filter).await?, []);
        Ok(())
    })
    .unwrap();
}
