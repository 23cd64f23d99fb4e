//! Steps that run no container: people who are asked, and addresses.

use std::sync::atomic::{AtomicU32, Ordering};

use longshore_core::id::ApprovalId;

use super::*;

const GO: &str =
    "  - {name: go, approval: {teams: [ops], needs: 1, expires: 1h}}\n  - {name: one, image: tiny, run: 'true'}\n";

fn word(granted: bool, person: &str, teams: &[&str]) -> Vote {
    let teams = teams.iter().map(|team| (*team).to_owned()).collect();
    Vote { granted, comment: "looks right".to_owned(), person: person.to_owned(), teams }
}

/// A deployment that waits for people, with their approval.
async fn asked(world: &mut World, environment: &str) -> (DeploymentId, ApprovalId) {
    let id = world.deploy_to(environment).await;
    let approvals = world.engine.approvals(Some(id)).await.unwrap();
    assert_eq!((approvals.len(), approvals[0].state.as_str()), (1, "pending"));
    (id, approvals[0].id.parse().unwrap())
}

#[tokio::test]
async fn one_that_waits_for_people_holds_no_slot_and_keeps_what_it_needs() {
    let mut world = World::new().await;
    world.steps(GO).await;
    let mut sim = world.agent().await;
    let (id, approval) = asked(&mut world, "dev").await;
    let view = world.view(id).await;
    assert_eq!((view.state.as_str(), standing(&view).as_str()), ("waiting", "go:waiting one:queued"));
    assert!(view.waiting_for.unwrap().contains(&approval.to_string()));
    let agents = world.engine.agents().await.unwrap();
    assert_eq!((agents[0].busy, agents[0].attempts.len()), (0, 0));
    let locks = world.engine.locks().await.unwrap();
    assert_eq!((locks.len(), locks[0].deployment.as_str()), (1, id.to_string().as_str()));
    let second = world.deploy().await;
    assert!(world.view(second).await.waiting_for.unwrap().contains(&id.to_string()));

    let view = world.engine.vote(approval, word(true, "alice", &["ops"])).await.unwrap();
    assert_eq!((view.state.as_str(), view.granted_by), ("granted", vec!["alice".to_owned()]));
    let offer = sim.offer().await;
    assert_eq!(sim.work(&world.engine, &offer, &[]).await, [1]);
    world.until(id, "succeeded").await;
    world.until_it(second, |view| standing(view) == "go:waiting one:queued").await;
}

#[tokio::test]
async fn one_word_against_it_ends_it() {
    let mut world = World::new().await;
    world.steps(&GO.replace("needs: 1", "needs: 2")).await;
    let (id, approval) = asked(&mut world, "dev").await;
    world.engine.vote(approval, word(true, "alice", &["ops"])).await.unwrap();
    assert_eq!(world.view(id).await.state, "waiting", "two have to agree");
    let view = world.engine.vote(approval, word(false, "bob", &["ops"])).await.unwrap();
    assert_eq!((view.state.as_str(), view.rejected_by), ("rejected", vec!["bob".to_owned()]));
    let view = world.view(id).await;
    assert_eq!((view.state.as_str(), standing(&view).as_str()), ("failed", "go:failed one:skipped"));
    assert_eq!(view.reason.as_deref(), Some("step `go`: rejected by `bob`"));
    let (code, words) = no(world.engine.vote(approval, word(true, "carol", &["ops"])).await);
    assert_eq!(code, "approval_decided");
    assert!(words.contains("is rejected already"), "{words}");
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

#[tokio::test]
async fn who_may_not_decide_is_told_why_and_changes_nothing() {
    let mut world = World::new().await;
    world.steps(&GO.replace("needs: 1", "needs: 2")).await;
    let (id, approval) = asked(&mut world, "live").await;
    let (code, words) = no(world.engine.vote(approval, word(true, "anna", &["ops"])).await);
    assert_eq!(code, "own_deployment");
    assert!(words.contains("`anna` started this deployment"), "{words}");
    let (code, words) = no(world.engine.vote(approval, word(true, "bob", &["dev"])).await);
    assert_eq!(code, "not_in_team");
    assert!(words.contains("`ops`"), "{words}");
    world.engine.vote(approval, word(true, "alice", &["ops"])).await.unwrap();
    for granted in [true, false] {
        assert_eq!(no(world.engine.vote(approval, word(granted, "alice", &["ops"])).await).0, "already_voted");
    }
    let empty = Vote { comment: " ".to_owned(), ..word(true, "carol", &["ops"]) };
    assert!(matches!(world.engine.vote(approval, empty).await, Err(Error::Invalid { .. })));
    let view = world.engine.approval(approval).await.unwrap();
    assert_eq!((view.state.as_str(), view.granted_by.len(), view.rejected_by.len()), ("pending", 1, 0));
    assert_eq!(world.view(id).await.state, "waiting");
    // In an environment that is not protected one may approve one's own.
    let (_, own) = asked(&mut world, "dev").await;
    world.engine.vote(own, word(true, "anna", &["ops"])).await.unwrap();
}

#[tokio::test]
async fn an_approval_expires_at_its_instant() {
    let mut world = World::new().await;
    world.steps(GO).await;
    let (id, approval) = asked(&mut world, "dev").await;
    world.clock.advance(Duration::from_secs(3_600) - Duration::from_micros(1));
    world.engine.tick().await.unwrap();
    assert_eq!(world.view(id).await.state, "waiting");
    world.clock.advance(Duration::from_micros(1));
    // Whether or not anybody has looked at the clock.
    let late = world.engine.vote(approval, word(true, "alice", &["ops"])).await;
    assert_eq!(no(late).0, "approval_decided");
    world.engine.tick().await.unwrap();
    let view = world.until(id, "failed").await;
    assert_eq!(view.reason.as_deref(), Some("step `go`: nobody decided in time"));
    assert_eq!(world.engine.approval(approval).await.unwrap().state, "expired");
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

#[tokio::test]
async fn an_approval_outlives_the_controller_and_so_does_its_end() {
    let mut world = World::new().await;
    world.steps(GO).await;
    let (id, _) = asked(&mut world, "dev").await;
    world.restart().await;
    assert_eq!(world.view(id).await.state, "waiting");
    world.clock.advance(Duration::from_secs(3_601));
    world.until(id, "failed").await;
}

#[tokio::test]
async fn a_cancel_voids_it() {
    let mut world = World::new().await;
    world.steps(GO).await;
    let (id, approval) = asked(&mut world, "dev").await;
    world.engine.cancel(id, "anna").await.unwrap();
    let view = world.engine.approval(approval).await.unwrap();
    assert_eq!((view.state.as_str(), view.void_reason.as_deref()), ("void", Some("the deployment was canceled")));
    assert_eq!(standing(&world.until(id, "canceled").await), "go:canceled one:skipped");
    assert_eq!(no(world.engine.vote(approval, word(true, "alice", &["ops"])).await).0, "approval_decided");
    assert_eq!(world.engine.locks().await.unwrap(), []);
}

/// A server that is not ready for its first answers.
pub(super) struct Listener {
    pub(super) url: String,
    /// How often it was asked.
    asked: Arc<AtomicU32>,
    /// It is ready when it was asked more often.
    pub(super) bad: Arc<AtomicU32>,
}

pub(super) async fn listener(tasks: &Tasks, bad: u32) -> Listener {
    let (asked, bad) = (Arc::<AtomicU32>::default(), Arc::new(AtomicU32::new(bad)));
    let (count, limit) = (Arc::clone(&asked), Arc::clone(&bad));
    let answer = move || async move {
        let ready = count.fetch_add(1, Ordering::SeqCst) >= limit.load(Ordering::SeqCst);
        let status = if ready { axum::http::StatusCode::OK } else { axum::http::StatusCode::SERVICE_UNAVAILABLE };
        (status, "all is ok here")
    };
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ready", socket.local_addr().unwrap());
    let app = axum::Router::new().route("/ready", axum::routing::get(answer));
    tasks.spawn_until_stop("listener", OnError::Log, async move { axum::serve(socket, app).await });
    Listener { url, asked, bad }
}

fn http(url: &str, body: &str, more: &str) -> String {
    format!(
        "  - {{name: up, http: {{url: '{url}', expect: {{status: 200, body: '{body}'}}}}{more}}}\n  - {{name: one, image: tiny, run: 'true'}}\n"
    )
}

#[tokio::test]
async fn an_address_is_asked_until_its_answer_is_good() {
    let mut world = World::new().await;
    let Listener { url, asked, .. } = listener(&world.tasks, 2).await;
    world.steps(&http(&url, "ok", ", retries: {max: 3, backoff: 2s}")).await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    for (tried, wait) in [(1, 2), (2, 4)] {
        let reason = format!("try {tried} of 4: `{url}` answers with status 503, wanted 200");
        let view = world.until_it(id, |view| view.steps[0].reason.as_ref() == Some(&reason)).await;
        assert_eq!(standing(&view), "up:running one:queued");
        assert_eq!(asked.load(Ordering::SeqCst), tried, "not before it is due");
        world.clock.advance(Duration::from_secs(wait));
    }
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    let view = world.until(id, "succeeded").await;
    assert_eq!((view.steps[0].reason.clone(), asked.load(Ordering::SeqCst)), (None, 3));
}

#[tokio::test]
async fn a_wrong_answer_fails_the_step_with_words() {
    let world_of = async |url: &str, body: &str, more: &str| {
        let mut world = World::new().await;
        let own = listener(&world.tasks, 0).await.url;
        world
            .apply(&format!(
                "variables: {{url: '{}'}}\nsteps:\n{}",
                url.replace("OWN", &own),
                http("${{ vars.url }}", body, more)
            ))
            .await;
        let id = world.deploy().await;
        let view = world.until(id, "failed").await;
        assert_eq!(standing(&view), "up:failed one:skipped");
        view.reason.unwrap()
    };
    assert!(world_of("OWN", "absent", "").await.ends_with("but its body does not hold `absent`"));
    assert!(world_of("OWN/no", "ok", "").await.ends_with("answers with status 404, wanted 200"));
    assert!(world_of("http://127.0.0.1:9", "ok", ", timeout: 5s").await.contains("does not answer"));
    let words = world_of("file:///etc/passwd", "root", "").await;
    assert!(words.contains("came out as `file:///etc/passwd`") && words.contains("begins with `http://`"), "{words}");
}

#[tokio::test]
async fn a_check_goes_on_after_a_restart_and_ends_with_a_cancel() {
    let mut world = World::new().await;
    let outside = Tasks::new();
    let url = listener(&outside, u32::MAX).await.url;
    world.steps(&http(&url, "ok", ", retries: {max: 9, backoff: 2s}")).await;
    let id = world.deploy().await;
    let tried = |number: u32| {
        move |view: &DeploymentView| {
            view.steps[0].reason.as_ref().is_some_and(|words| words.starts_with(&format!("try {number} of 10")))
        }
    };
    world.until_it(id, tried(1)).await;
    world.restart().await;
    assert!(tried(1)(&world.view(id).await), "the tries that there were are kept");
    world.clock.advance(Duration::from_secs(2));
    world.until_it(id, tried(2)).await;
    world.engine.cancel(id, "anna").await.unwrap();
    assert_eq!(standing(&world.until(id, "canceled").await), "up:canceled one:skipped");
    assert!(outside.shut_down(Duration::from_secs(20)).await);
}
