//! Who is let through, what is written of it, and that nobody is locked out.

use longshore_core::access::{Grant, Permission, Role};

use super::*;
use crate::store::people::{Subject, UserKind};

const HASH: [u8; 32] = [7; 32];

fn at(role: Role, project: Option<&str>, environment: Option<&str>) -> Grant {
    Grant { role, project: project.map(str::to_owned), environment: environment.map(str::to_owned) }
}

fn user(name: &str) -> Subject {
    Subject::User(name.to_owned())
}

fn token(user: &str, limit: Option<Grant>) -> NewToken {
    NewToken { user: user.to_owned(), expires_at: None, limit }
}

/// With the user `admin` and its token, as after the first start.
async fn installed() -> World {
    let world = World::new().await;
    world.engine.ensure_admin().await.unwrap();
    world.engine.add_token(token(ADMIN, None), &[1; 32], "controller").await.unwrap();
    world
}

/// A user with a role and a token whose hash is [`HASH`].
async fn person(world: &World, name: &str, grant: Grant, limit: Option<Grant>) {
    world.engine.create_user(name, UserKind::Person, ADMIN).await.unwrap();
    world.engine.grant_role(user(name), grant, ADMIN).await.unwrap();
    world.engine.add_token(token(name, limit), &HASH, ADMIN).await.unwrap();
}

async fn who(world: &World) -> Actor {
    world.engine.authenticate(&HASH).await.unwrap().unwrap()
}

fn refusal(done: Result<impl std::fmt::Debug>) -> (String, String) {
    match done.unwrap_err() {
        Error::Refused { code: "forbidden", message, hint } => (message, hint.unwrap()),
        other => panic!("{other:?}"),
    }
}

fn conflict(done: Result<impl std::fmt::Debug>) -> &'static str {
    match done.unwrap_err() {
        Error::Conflict { code, hint, .. } => {
            assert!(hint.is_some(), "it says what to do");
            code
        }
        other => panic!("{other:?}"),
    }
}

async fn audit(world: &World) -> Vec<AuditView> {
    world.engine.audit(None, None, None).await.unwrap().events
}

#[tokio::test]
async fn the_first_user_may_do_everything_and_is_made_once() {
    let world = installed().await;
    world.engine.ensure_admin().await.unwrap();
    assert_eq!(world.engine.users().await.unwrap().len(), 1);
    let admin = world.engine.authenticate(&[1; 32]).await.unwrap().unwrap();
    assert_eq!(admin, Actor::new(ADMIN, vec![Grant::everywhere(Role::Admin)], vec![]));
    assert!(Permission::ALL.iter().all(|permission| admin.may(*permission, None, None)));
}

#[tokio::test]
async fn a_refusal_says_what_is_missing_and_is_in_the_audit() {
    let world = installed().await;
    person(&world, "dan", at(Role::Deployer, Some("shop"), Some("dev")), None).await;
    let dan = who(&world).await;
    let need = || Need::new(Permission::Deploy, "deployment.create", "project/shop");
    world.engine.authorize(&dan, need().at(Some("shop"), Some("dev"))).await.unwrap();
    let before = audit(&world).await.len();
    let (message, hint) = refusal(world.engine.authorize(&dan, need().at(Some("shop"), Some("live"))).await);
    assert_eq!(message, "user `dan` may not deploy to environment `live` of project `shop`; nothing was changed");
    assert_eq!(
        hint,
        "ask an administrator of environment `live` of project `shop` for the role `deployer`: \
         `longshore role grant --user dan deployer --project shop --env live`"
    );
    let written = audit(&world).await;
    assert_eq!(written.len(), before + 1, "what is let through is written by what it does");
    let last = written.last().unwrap();
    assert_eq!(
        (last.actor.as_str(), last.action.as_str(), last.object.as_str(), last.outcome),
        ("dan", "deployment.create", "project/shop", "refused")
    );
    assert_eq!(last.detail["needs"], "deployer");
    let (message, _) = refusal(world.engine.authorize(&dan, Need::new(Permission::Administer, "x", "y")).await);
    assert_eq!(message, "user `dan` may not administer the server; nothing was changed");
    let odd = format!("o\u{1b}[31m{}", "x".repeat(500));
    let (message, _) = refusal(world.engine.authorize(&dan, need().at(Some(&odd), None)).await);
    assert!(!message.contains('\u{1b}') && message.len() < 200, "what a caller wrote is cut: {message:?}");
    let see = Need::new(Permission::View, "x", "y").at(Some("other"), None).somewhere();
    let (message, _) = refusal(world.engine.authorize(&dan, see).await);
    assert_eq!(message, "user `dan` may not see anything in project `other`; nothing was shown");
}

#[tokio::test]
async fn a_limited_token_does_less_and_its_refusal_says_so() {
    let world = installed().await;
    person(&world, "amy", Grant::everywhere(Role::Admin), Some(at(Role::Deployer, Some("shop"), None))).await;
    let amy = who(&world).await;
    assert_eq!(amy.grants, [at(Role::Deployer, Some("shop"), None)]);
    let (_, hint) = refusal(world.engine.authorize(&amy, Need::new(Permission::Administer, "x", "y")).await);
    assert_eq!(hint, "the token is limited to the role `deployer` on project `shop`; use one without this limit");
    let unknown = Some(at(Role::Deployer, Some("shp"), None));
    assert!(matches!(
        world.engine.add_token(token("amy", unknown), &[9; 32], ADMIN).await,
        Err(Error::NotFound { kind: "project", .. })
    ));
}

#[tokio::test]
async fn a_token_counts_until_it_ends_is_taken_back_or_its_user_is_disabled() {
    let world = installed().await;
    world.engine.create_user("bot", UserKind::Service, ADMIN).await.unwrap();
    let end = world.clock.now().after(Duration::from_secs(60));
    let ends = NewToken { expires_at: Some(end), ..token("bot", None) };
    world.engine.add_token(ends, &HASH, ADMIN).await.unwrap();
    assert!(world.engine.authenticate(&HASH).await.unwrap().is_some());
    world.engine.enable_user("bot", false, ADMIN).await.unwrap();
    assert_eq!(world.engine.authenticate(&HASH).await.unwrap(), None, "disabled");
    assert_eq!(conflict(world.engine.add_token(token("bot", None), &[9; 32], ADMIN).await), "disabled");
    world.engine.enable_user("bot", true, ADMIN).await.unwrap();
    assert!(world.engine.authenticate(&HASH).await.unwrap().is_some());
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.engine.authenticate(&HASH).await.unwrap(), None, "ended");
    let view = world.engine.add_token(token("bot", None), &[9; 32], ADMIN).await.unwrap();
    world.engine.revoke_token(view.id.parse().unwrap(), ADMIN).await.unwrap();
    assert_eq!(world.engine.authenticate(&[9; 32]).await.unwrap(), None, "taken back");
    world.engine.revoke_token(view.id.parse().unwrap(), ADMIN).await.unwrap();
}

#[tokio::test]
async fn roles_reach_through_teams_and_only_what_exists_is_named() {
    let world = installed().await;
    person(&world, "alice", at(Role::Viewer, None, None), None).await;
    world.engine.create_team("ops", vec!["alice".to_owned(), ADMIN.to_owned()], ADMIN).await.unwrap();
    let (given, new) = world
        .engine
        .grant_role(Subject::Team("ops".to_owned()), at(Role::Approver, None, Some("live")), ADMIN)
        .await
        .unwrap();
    let again = world
        .engine
        .grant_role(Subject::Team("ops".to_owned()), at(Role::Approver, None, Some("live")), ADMIN)
        .await
        .unwrap();
    assert_eq!((new, again), (true, (given, false)));
    let alice = who(&world).await;
    assert_eq!(alice.teams, ["ops"]);
    assert!(
        alice.may(Permission::Approve, Some("shop"), Some("live"))
            && !alice.may(Permission::Approve, Some("shop"), None)
    );
    world.engine.set_member("ops", "alice", false, ADMIN).await.unwrap();
    assert!(!who(&world).await.may(Permission::Approve, Some("shop"), Some("live")));
    for (subject, grant, kind) in [
        (user("alcie"), at(Role::Viewer, None, None), "user"),
        (Subject::Team("osp".to_owned()), at(Role::Viewer, None, None), "team"),
        (user("alice"), at(Role::Viewer, Some("shp"), None), "project"),
        (user("alice"), at(Role::Viewer, Some("shop"), Some("prod")), "environment"),
        (user("alice"), at(Role::Viewer, None, Some("prod")), "environment"),
    ] {
        match world.engine.grant_role(subject, grant, ADMIN).await {
            Err(Error::NotFound { kind: found, .. }) => assert_eq!(found, kind),
            other => panic!("{kind}: {other:?}"),
        }
    }
    let unknown = world.engine.create_team("dev", vec!["nobody".to_owned()], ADMIN).await;
    assert!(matches!(unknown, Err(Error::NotFound { kind: "user", .. })));
    assert_eq!(world.engine.teams().await.unwrap().len(), 1, "a team with a mistake is not made");
}

#[tokio::test]
async fn names_are_used_once_and_are_names() {
    let world = installed().await;
    world.engine.create_team("ops", vec![], ADMIN).await.unwrap();
    assert_eq!(conflict(world.engine.create_user(ADMIN, UserKind::Person, ADMIN).await), "exists");
    assert_eq!(conflict(world.engine.create_team("ops", vec![], ADMIN).await), "exists");
    for bad in ["", "Alice", "a b", "controller", "agt_1"] {
        let done = world.engine.create_user(bad, UserKind::Person, ADMIN).await;
        assert!(matches!(done, Err(Error::Invalid { .. })), "{bad}: {done:?}");
    }
}

#[tokio::test]
async fn nobody_can_leave_the_server_without_an_administrator() {
    let world = installed().await;
    let (grant, first) = (world.engine.grants().await.unwrap()[0].id, world.engine.tokens().await.unwrap()[0].clone());
    assert_eq!(conflict(world.engine.revoke_role(grant, ADMIN).await), "last_admin");
    assert_eq!(conflict(world.engine.enable_user(ADMIN, false, ADMIN).await), "last_admin");
    assert_eq!(conflict(world.engine.revoke_token(first.id.parse().unwrap(), ADMIN).await), "last_admin");
    assert!(world.engine.authenticate(&[1; 32]).await.unwrap().unwrap().may(Permission::Administer, None, None));
    // Another one who can, by a team.
    world.engine.create_user("eve", UserKind::Person, ADMIN).await.unwrap();
    world.engine.create_team("root", vec!["eve".to_owned()], ADMIN).await.unwrap();
    world.engine.grant_role(Subject::Team("root".to_owned()), Grant::everywhere(Role::Admin), ADMIN).await.unwrap();
    assert_eq!(conflict(world.engine.revoke_role(grant, ADMIN).await), "last_admin", "eve has no token");
    world.engine.add_token(token("eve", None), &HASH, ADMIN).await.unwrap();
    world.engine.revoke_role(grant, "eve").await.unwrap();
    assert_eq!(conflict(world.engine.set_member("root", "eve", false, "eve").await), "last_admin");
}

#[tokio::test]
async fn the_audit_shows_every_change_with_its_object_and_no_secret() {
    let mut world = installed().await;
    person(&world, "dan", at(Role::Deployer, Some("shop"), None), Some(at(Role::Viewer, None, None))).await;
    let id = world.deploy().await;
    world.engine.cancel(id, "dan").await.unwrap();
    let lines = audit(&world).await;
    let found = |actor: &str, action: &str, object: &str| {
        lines.iter().any(|l| {
            (l.actor.as_str(), l.action.as_str(), l.object.as_str(), l.outcome) == (actor, action, object, "done")
        })
    };
    let deployment = format!("deployment/{id}");
    for (actor, action, object) in [
        ("anna", "project.applied", "project/shop"),
        ("anna", "variable.set", "variable/shop/key"),
        ("controller", "user.created", "user/admin"),
        ("admin", "user.created", "user/dan"),
        ("admin", "role.granted", "user/dan"),
        ("anna", "deployment.created", &deployment),
        ("dan", "deployment.cancel_asked", &deployment),
    ] {
        assert!(found(actor, action, object), "{actor} {action} {object}: {lines:#?}");
    }
    assert!(lines.iter().all(|line| !line.object.is_empty()), "{lines:#?}");
    assert!(!serde_json::to_string(&lines).unwrap().contains(SECRET));
    let first = world.engine.audit(None, None, Some(2)).await.unwrap();
    let second = world.engine.audit(None, first.next.as_deref(), None).await.unwrap();
    assert_eq!([first.events, second.events].concat(), lines);
    assert_eq!(second.next, None);
    let later = world.clock.now().after(Duration::from_secs(1));
    assert_eq!(world.engine.audit(Some(later), None, None).await.unwrap().events, []);
    assert!(matches!(world.engine.audit(None, Some("x"), None).await, Err(Error::Invalid { .. })));
}
