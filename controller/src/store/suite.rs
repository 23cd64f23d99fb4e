//! What every backend of the store has to do. A backend's tests call [`run`] with a maker of empty stores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::access::{Grant, Role};
use longshore_core::attempt::{Attempt, State};
use longshore_core::deployment::{Deployment, DeploymentState};
use longshore_core::id::{AgentId, AttemptId, ControllerId, DeploymentId, JobId, ProjectId, ReleaseId, TokenId};
use longshore_core::job::{self, Job};
use longshore_core::resources::{Cpus, Resources};
use longshore_core::step::StepState;
use longshore_core::time::Timestamp;
use longshore_core::variables::Scope;

use super::rows::{
    AgentRow, AttemptRow, CommitRow, DeploymentFilter, DeploymentRow, Drained, EventRow, JobRow, JoinTokenRow, LockRow,
    MetaRow, OutboxRow, Outcome, OutputRow, Owner, ProjectRow, ReleaseRow, RevisionRow, StepAttemptRow, StepRow,
    ToAgent, TokenRow, VariableRow, VariableValue,
};
use super::scaling::{Action, ScaleInRow, ScalingRow};
use super::{Error, Store};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn deployment_id(n: u8) -> DeploymentId {
    DeploymentId::new(at(i64::from(n) * 1_000_000), [n; 10])
}

fn job_id(n: u8) -> JobId {
    JobId::new(at(1), [n; 10])
}

fn agent_id(n: u8) -> AgentId {
    AgentId::new(at(1), [n; 10])
}

fn project_id() -> ProjectId {
    ProjectId::new(at(1), [1; 10])
}

fn attempt(n: u8, epoch: u64) -> Attempt {
    Attempt {
        id: AttemptId::new(at(1), [n; 10]),
        job: job_id(1),
        deployment: deployment_id(1),
        agent: agent_id(1),
        epoch,
        incarnation: 1,
        state: State::Offered,
        since: at(5),
        cancel_asked: None,
        cancel_cause: None,
    }
}

fn agent(n: u8) -> AgentRow {
    AgentRow {
        id: agent_id(n),
        pool: "default".to_owned(),
        labels: BTreeMap::new(),
        hostname: "host".to_owned(),
        version: "1".to_owned(),
        serial: "ab".to_owned(),
        boot_id: "boot".to_owned(),
        facts: serde_json::json!({"cpus": 2}),
        enrolled_at: at(1),
        seen_at: None,
        revoked_at: None,
        drained: None,
    }
}

fn release_id(n: u8) -> ReleaseId {
    ReleaseId::new(at(1), [n; 10])
}

fn release(n: u8, version: &str) -> ReleaseRow {
    ReleaseRow {
        id: release_id(n),
        project: project_id(),
        project_name: "shop".to_owned(),
        version: version.to_owned(),
        channel: "default".to_owned(),
        sort_key: longshore_core::version::sort_key(&longshore_core::version::parse(version).unwrap()),
        revision: 1,
        package: None,
        source: Some(CommitRow {
            url: "https://git.example/x".to_owned(),
            reference: "main".to_owned(),
            commit: "ab".to_owned(),
        }),
        variables: vec![1, 2],
        children: BTreeMap::from([(3, release_id(9))]),
        digest: format!("digest-{n}"),
        blocked: None,
        local: None,
        created_at: at(2),
        created_by: "anna".to_owned(),
    }
}

fn deployment(n: u8) -> DeploymentRow {
    DeploymentRow {
        deployment: Deployment {
            id: deployment_id(n),
            state: DeploymentState::Queued,
            reason: None,
            cancel_asked: None,
            ended_at: None,
        },
        project: project_id(),
        project_name: "shop".to_owned(),
        revision: 1,
        environment: if n.is_multiple_of(2) { "dev" } else { "live" }.to_owned(),
        package: None,
        operation_id: format!("op-{n}"),
        release: release_id(0),
        version: "0.0.1".to_owned(),
        variables: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
        step_variables: BTreeMap::from([("one".to_owned(), BTreeMap::from([("n".to_owned(), "2".to_owned())]))]),
        locks: vec!["project/shop/dev".to_owned()],
        stacks: BTreeMap::from([(0, "pulumi/x".to_owned())]),
        priority: i64::from(n == 2),
        not_before: Some(at(1)),
        expires_at: None,
        begun_at: None,
        secrets: BTreeMap::from([("key".to_owned(), 7)]),
        created_at: at(3),
        created_by: "anna".to_owned(),
        parent: None,
        guided: n == 1,
        skip: BTreeSet::from([4]),
        operation: None,
        local: None,
        trace_parent: (n == 3).then(|| "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap()),
    }
}

fn job(n: u8) -> JobRow {
    let job = Job::new(job_id(n), deployment_id(n), Duration::from_secs(60), at(3));
    JobRow {
        job,
        seq: 0,
        pool: "default".to_owned(),
        labels: BTreeMap::new(),
        steps: vec![],
        locks: vec!["a".to_owned()],
        project: "shop".to_owned(),
        priority: 0,
        line: format!("line-{}", n % 2),
        resources: Resources { cpus: Cpus(1_500), ..Resources::default() },
        max_running: (n == 1).then_some(2),
    }
}

fn step_attempt(of: &Attempt) -> StepAttemptRow {
    StepAttemptRow {
        attempt: of.id,
        step: 0,
        deployment: of.deployment,
        agent: of.agent,
        container: "c0ffee".to_owned(),
        image_digest: "sha256:1".to_owned(),
        nonce: "n".to_owned(),
        outputs_key: vec![1, 2],
        state: StepState::Running,
        started_at: at(9),
        ended_at: None,
    }
}

/// An installation with a project, an agent, and deployments 1 to 3 with their jobs in the queue.
async fn filled(store: &Arc<dyn Store>) {
    let spec = longshore_core::spec::parse(
        "version: 1\nproject: shop\nenvironments: [{name: dev}]\nsteps: [{name: one, image: i, run: echo}]\n",
    )
    .unwrap();
    let done: Result<(), Error> = store
        .write(|tx| {
            Box::pin(async move {
                tx.insert_meta(&MetaRow { controller: ControllerId::new(at(1), [9; 10]), incarnation: 1 }, at(1))
                    .await?;
                let project = ProjectRow {
                    id: project_id(),
                    name: "shop".to_owned(),
                    revision: 1,
                    created_at: at(1),
                    updated_at: at(1),
                };
                tx.save_project(&project).await?;
                let (digest, created_by) = ("d".to_owned(), "anna".to_owned());
                tx.insert_revision(&RevisionRow {
                    project: project_id(),
                    revision: 1,
                    digest,
                    spec: Arc::new(spec),
                    created_at: at(1),
                    created_by,
                })
                .await?;
                tx.insert_agent(&agent(1)).await?;
                tx.insert_release(&release(0, "0.0.1")).await?;
                for n in 1..=3 {
                    tx.insert_deployment(&deployment(n)).await?;
                    tx.insert_job(&job(n)).await?;
                }
                Ok(())
            })
        })
        .await;
    done.unwrap();
}

/// Runs one operation and answers what it answers.
macro_rules! write {
    ($store:expr, $tx:ident => $body:expr) => {{
        let result: Result<_, Error> = $store.write(move |$tx| Box::pin(async move { $body })).await;
        result
    }};
}

mod artifacts;
mod joins;
mod people;
mod pools;
mod releases;
mod waits;

pub(crate) async fn run(mut make: impl AsyncFnMut() -> Arc<dyn Store>) {
    rows_come_back_as_they_went_in(&make().await).await;
    an_error_undoes_all_of_its_operation_and_nothing_else(&make().await).await;
    many_writers_at_once_lose_nothing(&make().await).await;
    a_lock_has_one_holder(&make().await).await;
    a_job_has_one_live_attempt(&make().await).await;
    fences_stand_in_the_statement(&make().await).await;
    a_step_is_granted_once(&make().await).await;
    what_has_ended_stays_as_it_is(&make().await).await;
    a_join_token_is_used_as_often_as_it_says(&make().await).await;
    joins::a_machine_is_one_agent(&make().await).await;
    pools::a_pools_settings_are_replaced(&make().await).await;
    what_the_scaler_did_is_kept_and_a_machine_goes_once(&make().await).await;
    lists_are_in_order(&make().await).await;
    the_timeline_is_read_on_from_where_it_was_sent(&make().await).await;
    artifacts::files_of_steps_are_kept_once_and_counted(&make().await).await;
    releases::a_release_is_made_once_and_images_are_pinned_once(&make().await).await;
    releases::what_succeeded_where_is_known(&make().await).await;
    releases::children_are_found_and_go_first(&make().await).await;
    releases::operations_move_no_release(&make().await).await;
    releases::a_reservation_has_one_holder_and_a_deployment_begins_once(&make().await).await;
    waits::a_queue_is_read_by_the_first_of_each_line(&make().await).await;
    waits::jobs_give_up_when_they_have_waited_too_long(&make().await).await;
    waits::keys_go_to_who_waits_first_and_whose_time_has_come(&make().await).await;
    waits::the_health_of_agents_is_kept_while_it_is_not_good(&make().await).await;
    releases::a_person_speaks_once_and_an_approval_is_decided_once(&make().await).await;
    people::run(make).await;
}

async fn the_timeline_is_read_on_from_where_it_was_sent(store: &Arc<dyn Store>) {
    filled(store).await;
    write!(store, tx => {
        assert_eq!(tx.trace_position().await?, None);
        tx.set_trace_position(5).await?;
        tx.set_trace_position(7).await?;
        assert_eq!(tx.trace_position().await?, Some(7));
        assert_eq!(tx.deployment(deployment_id(3)).await?, Some(deployment(3)));
        let old = tx.last_event_before(at(1_000)).await?;
        for n in 0..4_u8 {
            let row = EventRow {
                id: 0,
                at: at(1_000 + i64::from(n)),
                actor: "anna".to_owned(),
                action: format!("test.{n}"),
                object: String::new(),
                outcome: Outcome::Done,
                deployment: (n != 1).then(|| deployment_id(1)),
                detail: serde_json::json!({}),
            };
            tx.insert_event(&row).await?;
        }
        let actions = |rows: Vec<EventRow>| rows.into_iter().map(|row| row.action).collect::<Vec<_>>();
        let first = tx.events_after(old, 2).await?;
        let last = first.last().unwrap().id;
        assert_eq!(actions(first), ["test.0", "test.2"]);
        assert_eq!(actions(tx.events_after(last, 10).await?), ["test.3"]);
        assert_eq!(tx.last_event_before(at(1_003)).await?, last);
        let made = tx.attempts(deployment_id(1)).await?;
        assert!(made.iter().all(|row| row.attempt.deployment == deployment_id(1)));
        Ok(())
    })
    .unwrap();
}

async fn rows_come_back_as_they_went_in(store: &Arc<dyn Store>) {
    filled(store).await;
    write!(store, tx => {
        assert_eq!(tx.deployment(deployment_id(1)).await?, Some(deployment(1)));
        assert_eq!(tx.deployment_by_operation("op-2").await?, Some(deployment(2)));
        assert_eq!(tx.agent(agent_id(1)).await?, Some(agent(1)));
        assert_eq!(tx.revision(project_id(), 1).await?.unwrap().spec.name, "shop");
        let mut row = StepRow::queued(deployment_id(1), 0, "one");
        tx.insert_step(&row).await?;
        row.state = StepState::Succeeded;
        (row.exit_code, row.signal, row.reason) = (Some(-1), Some(9), Some("why".to_owned()));
        row.outputs = BTreeMap::from([("a".to_owned(), OutputRow::Plain(serde_json::json!([1, "x"]))), ("b".to_owned(), OutputRow::Sealed("00".to_owned()))]);
        row.resources = BTreeMap::from([("create".to_owned(), 3)]);
        (row.plugin_downloads, row.log_bytes, row.log_sha256, row.log_truncated) = (1, 2, Some("s".to_owned()), true);
        row.plugin_hits = 3;
        (row.started_at, row.ended_at) = (Some(at(4)), Some(at(5)));
        assert!(tx.update_step(&row).await?);
        assert_eq!(tx.steps(deployment_id(1)).await?, [row]);
        let values = [VariableValue::Plain("1".to_owned()), VariableValue::Sealed(vec![3]), VariableValue::Plain("3".to_owned())];
        let scopes = [Scope::All, Scope::All, Scope::Environment("dev".to_owned()), Scope::Step("dev".to_owned())];
        let values = values.into_iter().chain([VariableValue::Plain("4".to_owned())]);
        for (value, scope) in values.zip(scopes) {
            let name = "v".to_owned();
            tx.insert_variable(&VariableRow { id: 0, owner: Owner::Project(project_id()), scope, name, value, created_at: at(1), created_by: String::new() }).await?;
        }
        let newest: Vec<_> = tx.variables(project_id()).await?.into_iter().map(|row| (row.scope, row.value)).collect();
        assert_eq!(newest, [(Scope::All, VariableValue::Sealed(vec![3])), (Scope::Environment("dev".to_owned()), VariableValue::Plain("3".to_owned())), (Scope::Step("dev".to_owned()), VariableValue::Plain("4".to_owned()))]);
        let message = ToAgent::Cancel { fence: longshore_core::fence::Fence { attempt: attempt(1, 1).id, epoch: 1, incarnation: 1 }, grace_seconds: 5 };
        let id = tx.insert_outbox(&OutboxRow { id: 0, agent: agent_id(1), message: message.clone() }).await?;
        assert_eq!(tx.outbox().await?, [OutboxRow { id, agent: agent_id(1), message }]);
        tx.clear_outbox(agent_id(2)).await?;
        assert_eq!(tx.outbox().await?.len(), 1, "another agent's stay");
        tx.remove_outbox(&[id]).await?;
        assert_eq!(tx.outbox().await?, []);
        let event = EventRow { id: 0, at: at(1), actor: "anna".to_owned(), action: "x".to_owned(), object: "y".to_owned(), outcome: Outcome::Done, deployment: Some(deployment_id(1)), detail: serde_json::json!({}) };
        tx.insert_event(&event).await?;
        assert_eq!(tx.events(deployment_id(1)).await?.len(), 1);
        let token = TokenRow { id: TokenId::new(at(1), [1; 10]), name: "n".to_owned(), user: "admin".to_owned(), limit: Some(Grant { role: Role::Viewer, project: Some("shop".to_owned()), environment: None }), created_at: at(1), expires_at: None, revoked_at: None };
        tx.insert_token(&token, &[1; 32]).await?;
        assert_eq!(tx.token(&[1; 32]).await?, Some(token.clone()));
        assert!(tx.revoke_token(token.id, at(2)).await? && !tx.revoke_token(token.id, at(2)).await?);
        Ok(())
    })
    .unwrap();
}

async fn an_error_undoes_all_of_its_operation_and_nothing_else(store: &Arc<dyn Store>) {
    filled(store).await;
    let bad = write!(store, tx => {
        tx.insert_deployment(&deployment(4)).await?;
        Err::<(), _>(Error::Stale("on purpose".to_owned()))
    });
    assert!(matches!(bad, Err(Error::Stale(_))));
    let (good, twice) =
        tokio::join!(async { write!(store, tx => tx.insert_deployment(&deployment(5)).await) }, async {
            write!(store, tx => tx.insert_deployment(&deployment(1)).await)
        },);
    good.unwrap();
    assert!(twice.is_err(), "an id is used once");
    let there =
        write!(store, tx => Ok((tx.deployment(deployment_id(4)).await?, tx.deployment(deployment_id(5)).await?)))
            .unwrap();
    assert!(there.0.is_none() && there.1.is_some());
    let read: Result<_, Error> =
        store.read(|tx| Box::pin(async move { tx.insert_deployment(&deployment(6)).await })).await;
    assert!(read.is_err(), "reading cannot write");
}

async fn many_writers_at_once_lose_nothing(store: &Arc<dyn Store>) {
    filled(store).await;
    let writes = (10..110_u8).map(|n| async move { write!(store, tx => tx.insert_deployment(&deployment(n)).await) });
    assert!(futures_util::future::join_all(writes).await.into_iter().all(|done| done.is_ok()));
    let filter = DeploymentFilter { limit: 500, ..Default::default() };
    let found: Result<_, Error> = store.read(move |tx| Box::pin(async move { tx.deployments(&filter).await })).await;
    assert_eq!(found.unwrap().len(), 103);
}

async fn a_lock_has_one_holder(store: &Arc<dyn Store>) {
    filled(store).await;
    let lock =
        |key: &str, n| LockRow { key: key.to_owned(), job: job_id(n), deployment: deployment_id(n), taken_at: at(4) };
    let (a1, b1, a2) = (lock("a", 1), lock("b", 1), lock("a", 2));
    write!(store, tx => {
        assert!(tx.take_lock(&a1).await? && tx.take_lock(&b1).await?);
        assert!(!tx.take_lock(&a2).await?, "held by another");
        assert_eq!(tx.locks().await?, [a1, b1]);
        assert!(tx.is_locked("a").await? && !tx.is_locked("c").await?);
        let mut freed = tx.release_locks(job_id(1), at(6)).await?;
        freed.sort();
        assert_eq!(freed, ["a", "b"]);
        assert!(!tx.is_locked("a").await?);
        assert!(tx.take_lock(&a2).await?, "free again");
        Ok(())
    })
    .unwrap();
}

async fn a_job_has_one_live_attempt(store: &Arc<dyn Store>) {
    filled(store).await;
    let row = |n, epoch| AttemptRow { attempt: attempt(n, epoch), created_at: at(5) };
    write!(store, tx => tx.insert_attempt(&row(1, 1)).await).unwrap();
    assert!(write!(store, tx => tx.insert_attempt(&row(2, 2)).await).is_err(), "a second live one");
    assert_eq!(write!(store, tx => tx.live_attempts().await).unwrap(), [row(1, 1)]);
}

/// Assigns job 1 to attempt 1 of epoch 1.
async fn assigned(store: &Arc<dyn Store>) -> Attempt {
    filled(store).await;
    let first = attempt(1, 1);
    let of = first.clone();
    write!(store, tx => {
        tx.insert_attempt(&AttemptRow { attempt: of.clone(), created_at: at(5) }).await?;
        let from = job(1).job;
        let to = Job { state: job::State::Assigned { attempt: of.id }, epoch: 1, ..from.clone() };
        assert!(tx.update_job(&from, &to).await?);
        assert!(!tx.update_job(&from, &to).await?, "it is not there any more");
        Ok(())
    })
    .unwrap();
    first
}

async fn fences_stand_in_the_statement(store: &Arc<dyn Store>) {
    let first = assigned(store).await;
    let to = Attempt { state: State::Preparing, ..first.clone() };
    let stale = [
        Attempt { agent: agent_id(2), ..first.clone() },
        Attempt { epoch: 2, ..first.clone() },
        Attempt { incarnation: 2, ..first.clone() },
        Attempt { state: State::Running { step: 0, between: false }, ..first.clone() },
    ];
    write!(store, tx => {
        for from in stale {
            assert!(!tx.update_attempt(&from, &to).await?, "{from:?}");
        }
        assert_eq!(tx.attempt_of(agent_id(2), first.id).await?, None, "another agent's is not there");
        assert!(tx.update_attempt(&first, &to).await?);
        let row = tx.job(job_id(1)).await?.unwrap().job;
        assert!(tx.update_job(&row, &Job { epoch: 2, ..row.clone() }).await?);
        let late = Attempt { state: State::Running { step: 0, between: false }, ..to.clone() };
        assert!(!tx.update_attempt(&to, &late).await?, "the job has a newer epoch");
        assert!(!tx.insert_step_attempt(&step_attempt(&to), &to).await?);
        Ok(())
    })
    .unwrap();
}

async fn a_step_is_granted_once(store: &Arc<dyn Store>) {
    let first = assigned(store).await;
    let row = step_attempt(&first);
    let granted = row.clone();
    let of = first.clone();
    write!(store, tx => {
        assert!(!tx.insert_step_attempt(&granted, &Attempt { incarnation: 2, ..of.clone() }).await?);
        assert!(tx.insert_step_attempt(&granted, &of).await?);
        assert_eq!(tx.step_attempt(of.id, 0).await?, Some(granted.clone()));
        assert_eq!(tx.step_attempts(of.deployment).await?, [granted]);
        Ok(())
    })
    .unwrap();
    assert!(write!(store, tx => tx.insert_step_attempt(&row, &first).await).is_err(), "a second time");
}

async fn what_has_ended_stays_as_it_is(store: &Arc<dyn Store>) {
    let first = assigned(store).await;
    let mut row = step_attempt(&first);
    write!(store, tx => {
        assert!(tx.insert_step_attempt(&row, &first).await?);
        (row.state, row.ended_at) = (StepState::Lost, Some(at(11)));
        assert!(tx.update_step_attempt(&row).await?);
        row.state = StepState::Succeeded;
        assert!(!tx.update_step_attempt(&row).await?);
        let mut step = StepRow { state: StepState::Running, ..StepRow::queued(deployment_id(1), 0, "one") };
        tx.insert_step(&step).await?;
        step.state = StepState::Lost;
        assert!(tx.update_step(&step).await?);
        step.state = StepState::Succeeded;
        assert!(!tx.update_step(&step).await?);
        Ok(())
    })
    .unwrap();
}

async fn a_join_token_is_used_as_often_as_it_says(store: &Arc<dyn Store>) {
    filled(store).await;
    let token = |n, uses| JoinTokenRow {
        id: TokenId::new(at(1), [n; 10]),
        pool: "default".to_owned(),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        uses,
        used: 0,
        created_at: at(1),
        created_by: "anna".to_owned(),
        expires_at: at(100),
        revoked_at: None,
        ephemeral: n == 2,
    };
    write!(store, tx => {
        let drained = Drained { reason: "new kernel".to_owned(), by: "anna".to_owned(), at: at(3) };
        assert!(tx.drain_agent(agent_id(1), Some(&drained)).await?);
        assert_eq!(tx.agent(agent_id(1)).await?.unwrap().drained, Some(drained.clone()));
        assert!(tx.update_agent(&agent(1)).await? && tx.agent(agent_id(1)).await?.unwrap().drained == Some(drained));
        assert!(tx.drain_agent(agent_id(1), None).await? && tx.agent(agent_id(1)).await?.unwrap().drained.is_none());
        tx.insert_join_token(&token(1, 1), &[1; 32]).await?;
        tx.insert_join_token(&token(2, 2), &[2; 32]).await?;
        assert_eq!(tx.join_tokens().await?, [token(1, 1), token(2, 2)]);
        assert!(!tx.use_join_token(token(1, 1).id, agent_id(1), "csr", at(100)).await?, "it has ended");
        let two = token(2, 2).id;
        assert!(tx.use_join_token(two, agent_id(1), "csr", at(99)).await?);
        assert!(!tx.use_join_token(two, agent_id(1), "csr", at(99)).await?, "the same request is the same agent");
        assert_eq!((tx.joined_by(two, "csr").await?, tx.joined_by(two, "other").await?), (Some(agent_id(1)), None));
        assert!(tx.use_join_token(two, agent_id(1), "csr-2", at(99)).await?);
        assert!(!tx.use_join_token(two, agent_id(1), "csr-3", at(99)).await?, "a third one");
        assert_eq!(tx.join_token(&[2; 32]).await?.unwrap().used, 2);
        assert!(tx.revoke_join_token(token(1, 1).id, at(5)).await? && !tx.revoke_join_token(token(1, 1).id, at(6)).await?);
        assert!(!tx.use_join_token(token(1, 1).id, agent_id(1), "csr", at(7)).await?, "it was taken back");
        assert!(tx.revoke_agent(agent_id(1), at(5)).await? && !tx.revoke_agent(agent_id(1), at(6)).await?);
        assert!(!tx.update_agent(&agent(1)).await?, "revoked");
        assert!(!tx.drain_agent(agent_id(1), None).await?, "revoked");
        Ok(())
    })
    .unwrap();
}

async fn what_the_scaler_did_is_kept_and_a_machine_goes_once(store: &Arc<dyn Store>) {
    filled(store).await;
    let did = |pool: &str, n: u32, action| ScalingRow {
        pool: pool.to_owned(),
        at: at(i64::from(n)),
        action,
        from: n,
        to: n + 1,
        message: "for 1 job".to_owned(),
    };
    let goes = |told_at| ScaleInRow {
        agent: agent_id(1),
        pool: "blue".to_owned(),
        instance: "i-1".to_owned(),
        since: at(7),
        told_at,
    };
    write!(store, tx => {
        for row in [did("blue", 1, Action::Grow), did("blue", 2, Action::Refused), did("red", 3, Action::Grow)] {
            tx.insert_scaling(&row).await?;
        }
        assert_eq!(tx.scalings("blue", 9).await?, [did("blue", 2, Action::Refused), did("blue", 1, Action::Grow)]);
        assert_eq!(tx.scalings("blue", 1).await?, [did("blue", 2, Action::Refused)]);
        assert_eq!(tx.last_scaling("blue", Action::Grow).await?, Some(did("blue", 1, Action::Grow)));
        assert_eq!(tx.last_scaling("blue", Action::Shrink).await?, None);
        for n in 10..600 {
            tx.insert_scaling(&did("blue", n, Action::Failed)).await?;
        }
        assert_eq!((tx.scalings("blue", 1_000).await?.len(), tx.scalings("red", 9).await?.len()), (500, 1));
        assert!(tx.insert_scale_in(&goes(None)).await? && !tx.insert_scale_in(&goes(None)).await?);
        assert!(tx.scaled_in(agent_id(1)).await? && !tx.scaled_in(agent_id(2)).await?);
        tx.told_scale_in(agent_id(1), at(9)).await?;
        assert_eq!(tx.scale_ins().await?, [goes(Some(at(9)))]);
        assert!(tx.remove_scale_in(agent_id(1)).await? && !tx.remove_scale_in(agent_id(1)).await?);
        Ok(())
    })
    .unwrap();
}

async fn lists_are_in_order(store: &Arc<dyn Store>) {
    filled(store).await;
    write!(store, tx => {
        let jobs: Vec<_> = tx.queued_jobs().await?.into_iter().map(|row| row.job.id).collect();
        assert_eq!(jobs, [job_id(1), job_id(2), job_id(3)]);
        assert_eq!(tx.queued_by_pool().await?, BTreeMap::from([("default".to_owned(), 3)]));
        let jobs: Vec<_> = tx.first_queued("default", 2).await?.into_iter().map(|row| row.job.id).collect();
        assert_eq!(jobs, [job_id(1), job_id(2)]);
        assert_eq!(tx.first_queued("other", 2).await?, []);
        let mut filter = DeploymentFilter { environment: Some("live".to_owned()), ..Default::default() };
        let ids = |rows: Vec<DeploymentRow>| rows.into_iter().map(|row| row.deployment.id).collect::<Vec<_>>();
        assert_eq!(ids(tx.deployments(&filter).await?), [deployment_id(3), deployment_id(1)]);
        filter.before = Some(deployment_id(3));
        assert_eq!(ids(tx.deployments(&filter).await?), [deployment_id(1)]);
        Ok(())
    })
    .unwrap();
}
