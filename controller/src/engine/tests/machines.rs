//! Machines that join by proof: one agent each, and what becomes of ephemeral ones.

use longshore_core::join::{Conditions, binding, rejoin_text};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};

use std::sync::{Mutex, PoisonError};

use longshore_cloud_fakes::Aws as FakeAws;

use super::*;
use crate::data_dir::DataDir;
use crate::engine::plane::{Joined, ProofJoin};
use crate::engine::{AgentView, NewJoinRule};
use crate::identity::Ca;
use crate::identity::cloud::testing::{ACCOUNT, Form, INSTANCE, REGION, Signer, identity_document, lines, signed};
use crate::identity::cloud::{Proof, Settings as Clouds, Verifier};
use crate::machines::Machines as Asker;

struct Machines {
    world: World,
    ca: Ca,
    verifier: Arc<Verifier>,
    signer: Signer,
    _folder: tempfile::TempDir,
}

/// A key on a machine, with its signing request.
struct Key {
    pair: KeyPair,
    csr: String,
}

impl Key {
    fn new() -> Self {
        let pair = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
        Self { pair, csr }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl Machines {
    async fn new() -> Self {
        Self::with(Clouds::default()).await
    }

    async fn with(mut clouds: Clouds) -> Self {
        let world = World::new().await;
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(&DataDir::open(folder.path()).unwrap(), DAY, world.clock.now()).unwrap();
        let signer = Signer::region();
        let path = folder.path().join("region.pem");
        std::fs::write(&path, &signer.pem).unwrap();
        clouds.aws.add_region(REGION, &path).unwrap();
        let verifier = Arc::new(Verifier::new(clouds, world.clock.clone()).unwrap());
        let machines = Self { world, ca, verifier, signer, _folder: folder };
        machines.rule("default", ACCOUNT).await;
        machines
    }

    async fn rule(&self, pool: &str, account: &str) -> longshore_core::id::JoinRuleId {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let conditions = Conditions::Aws { account: account.to_owned(), region: None, role: None, vpc: None };
        let new = NewJoinRule { pool: pool.to_owned(), labels, conditions };
        self.world.engine.add_join_rule(new, "anna").await.unwrap().id
    }

    /// Joins with the document of an instance that was started `ago`.
    async fn join_from(
        &self,
        key: &Key,
        boot: &str,
        ago: Duration,
        previous: Option<(&str, &Key)>,
    ) -> Result<Joined, plane::Error> {
        let micros = i64::try_from(ago.as_micros()).unwrap();
        let pending = Timestamp::from_micros(self.world.clock.now().as_micros() - micros).to_string();
        let document = identity_document(INSTANCE, ACCOUNT, REGION, &pending);
        let document = Some(lines(&signed(&document, &self.signer, Form::Ber, false)));
        let nonce = self.verifier.nonce();
        let signature = previous
            .map(|(pem, former)| (pem, former.pair.sign(rejoin_text(&binding(&nonce, &key.csr)).as_bytes()).unwrap()));
        let join = ProofJoin {
            proof: Proof::Aws { document, request: None },
            nonce: &nonce,
            csr: &key.csr,
            previous: signature.as_ref().map(|(pem, signature)| (*pem, signature.as_slice())),
            hostname: "worker".to_owned(),
            boot_id: boot.to_owned(),
            version: "1".to_owned(),
        };
        self.world.engine.join_by_proof(&self.ca, &self.verifier, join).await
    }

    async fn join(&self, key: &Key) -> Result<Joined, plane::Error> {
        self.join_from(key, "boot-1", Duration::ZERO, None).await
    }

    async fn all(&self) -> Vec<AgentView> {
        self.world.engine.all_agents().await.unwrap()
    }

    async fn listed(&self) -> Vec<String> {
        self.world.engine.agents().await.unwrap().into_iter().map(|agent| agent.id).collect()
    }

    /// Lines of the audit with an action, as detail.
    async fn audit(&self, action: &str) -> Vec<serde_json::Value> {
        let page = self.world.engine.audit(None, None, None).await.unwrap();
        page.events.into_iter().filter(|line| line.action == action).map(|line| line.detail).collect()
    }

    /// Waits until the timers have taken an agent off the list.
    async fn until_gone(&self, agent: AgentId) {
        while self.listed().await.contains(&agent.to_string()) {
            self.world.engine.tick().await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}

fn why(result: Result<Joined, plane::Error>) -> String {
    match result.unwrap_err() {
        plane::Error::Proof(why) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_machine_is_one_agent_by_its_rule() {
    let machines = Machines::new().await;
    let key = Key::new();
    let joined = machines.join(&key).await.unwrap();
    let agents = machines.all().await;
    assert_eq!((agents.len(), agents[0].id.clone()), (1, joined.agent.to_string()));
    assert_eq!(agents[0].machine.as_deref(), Some(format!("aws/{ACCOUNT}/{INSTANCE}").as_str()));
    assert_eq!(
        (agents[0].pool.as_str(), agents[0].labels["zone"].as_str(), agents[0].ephemeral),
        ("default", "a", true)
    );
    // The answer was lost: the same request again is the same agent, with another certificate.
    machines.world.clock.advance(Duration::from_secs(1));
    let again = machines.join(&key).await.unwrap();
    assert_eq!(again.agent, joined.agent);
    assert_ne!(again.certificate_pem, joined.certificate_pem);
    // Another key on the same machine is another process that pretends to be it.
    let said = why(machines.join(&Key::new()).await);
    assert!(said.contains("one machine is one agent") && said.contains(&joined.agent.to_string()), "{said}");
    let refused = machines.audit("agent.enroll").await;
    assert_eq!((refused.len(), &refused[0]["condition"]), (1, &json!("machine")), "{refused:?}");
    assert_eq!(machines.all().await.len(), 1);
}

#[tokio::test]
async fn a_network_is_asked_of_ec2_and_not_of_the_machine() {
    let fake = longshore_cloud_fakes::Aws::instance(INSTANCE);
    let mut clouds = Clouds::default();
    let endpoint: longshore_cloud::Endpoint = fake.endpoint().parse().unwrap();
    (clouds.aws.ec2_endpoint, clouds.aws.metadata_endpoint) = (Some(endpoint.clone()), Some(endpoint));
    let machines = Machines::with(clouds).await;
    let all = machines.world.engine.join_rules().await.unwrap();
    machines.world.engine.revoke_join_rule(all[0].id, "anna").await.unwrap();
    let rule = |vpc: &str| {
        let conditions =
            Conditions::Aws { account: ACCOUNT.to_owned(), region: None, role: None, vpc: Some(vpc.to_owned()) };
        NewJoinRule { pool: "inside".to_owned(), labels: BTreeMap::new(), conditions }
    };
    assert!(machines.world.engine.add_join_rule(rule("vpc-*"), "anna").await.is_err(), "no patterns");
    machines.world.engine.add_join_rule(rule("vpc-0123456789abcdef0"), "anna").await.unwrap();

    fake.with(|machine| machine.api_down = true);
    assert!(matches!(machines.join(&Key::new()).await, Err(plane::Error::Unverified(_))), "nothing is known");
    fake.with(|machine| {
        (machine.api_down, machine.placed) = (false, ("running", Some("vpc-0fffffffffffffff0".to_owned())));
    });
    let said = why(machines.join(&Key::new()).await);
    assert!(said.contains("`aws-vpc` is not `vpc-0fffffffffffffff0`"), "{said}");
    fake.with(|machine| machine.placed = ("terminated", Some("vpc-0123456789abcdef0".to_owned())));
    let said = why(machines.join(&Key::new()).await);
    assert!(said.contains("`aws-vpc` is not proven"), "{said}");
    assert_eq!(machines.audit("agent.enroll").await[0]["condition"], "aws-vpc");
    fake.with(|machine| machine.placed = ("running", Some("vpc-0123456789abcdef0".to_owned())));
    machines.join(&Key::new()).await.unwrap();
    assert_eq!(machines.all().await[0].pool, "inside");
}

#[tokio::test]
async fn what_no_rule_is_for_is_refused_with_the_condition() {
    let machines = Machines::new().await;
    let rules = machines.world.engine.join_rules().await.unwrap();
    machines.world.engine.revoke_join_rule(rules[0].id, "anna").await.unwrap();
    let said = why(machines.join(&Key::new()).await);
    assert!(said.contains("there is no join rule for this machine"), "{said}");
    let other = machines.rule("default", "999922223333").await;
    let said = why(machines.join(&Key::new()).await);
    assert!(said.contains(&other.to_string()) && said.contains("`aws-account` is not `111122223333`"), "{said}");
    assert!(!said.contains("999922223333"), "what the rule wants is not told outside: {said}");
    machines.rule("default", ACCOUNT).await;
    let old = Duration::from_secs(15 * 60 + 1);
    let said = why(machines.join_from(&Key::new(), "boot-1", old, None).await);
    assert!(said.contains("its document alone counts for 900 s"), "{said}");
    let conditions: Vec<_> =
        machines.audit("agent.enroll").await.into_iter().map(|detail| detail["condition"].clone()).collect();
    assert_eq!(conditions, [json!("rule"), json!("aws-account"), json!("document-age")]);
    assert!(machines.join(&Key::new()).await.is_ok());
    let same = Conditions::Aws { account: ACCOUNT.to_owned(), region: None, role: None, vpc: None };
    let again = NewJoinRule { pool: "default".to_owned(), labels: BTreeMap::new(), conditions: same };
    assert!(machines.world.engine.add_join_rule(again, "anna").await.is_err(), "there is one for the same already");
}

#[tokio::test]
async fn refusals_do_not_fill_the_disk() {
    let machines = Machines::new().await;
    machines.join(&Key::new()).await.unwrap();
    let other = Key::new();
    for _ in 0..70 {
        why(machines.join(&other).await);
    }
    assert_eq!(machines.audit("agent.enroll").await.len(), 60);
    machines.world.clock.advance(Duration::from_secs(61));
    why(machines.join(&other).await);
    assert_eq!(machines.audit("agent.enroll").await.len(), 61);
}

#[tokio::test]
async fn whoever_has_the_former_key_stays_the_agent_it_was() {
    let machines = Machines::new().await;
    let key = Key::new();
    let joined = machines.join(&key).await.unwrap();
    // Longer than the certificate and the document: the key says who it is.
    let later = DAY + Duration::from_secs(60);
    machines.world.clock.advance(later);
    let next = Key::new();
    let previous = Some((joined.certificate_pem.as_str(), &key));
    let back = machines.join_from(&next, "boot-1", later, previous).await.unwrap();
    assert_eq!(back.agent, joined.agent);
    assert_eq!(machines.audit("agent.reattested").await.len(), 1);
    // With a certificate that it never had the key of, it is a stranger.
    let third = Key::new();
    let said = why(machines.join_from(&third, "boot-1", later, Some((back.certificate_pem.as_str(), &key))).await);
    assert!(said.contains("one machine is one agent"), "{said}");
}

#[tokio::test]
async fn without_the_key_the_former_agent_has_to_be_over() {
    let mut machines = Machines::new().await;
    let first = machines.join(&Key::new()).await.unwrap();
    let mut sim = Sim::new(first.agent, 1);
    sim.hello(&machines.world.engine, &[]).await;
    let (id, _) = machines.world.running(&mut sim).await;
    why(machines.join(&Key::new()).await);
    // Its certificate has ended, its state is lost, it was not booted anew: nobody knows whether its container runs.
    machines.world.clock.advance(Duration::from_secs(31));
    machines.world.until(id, "unknown").await;
    machines.world.clock.advance(DAY);
    let second = machines.join(&Key::new()).await.unwrap();
    assert_ne!(second.agent, first.agent);
    assert_eq!(machines.world.view(id).await.state, "unknown", "its lock is held");
    assert!(
        machines.listed().await.contains(&first.agent.to_string()),
        "none vanishes with an attempt that is `unknown`"
    );
    assert!(matches!(machines.world.engine.admit(first.agent).await, Err(plane::Error::Unknown)));
    machines.world.engine.resolve(id, "looked at the host", "anna").await.unwrap();
    assert!(!machines.listed().await.contains(&first.agent.to_string()));
    let gone = machines.all().await.into_iter().find(|agent| agent.id == first.agent.to_string()).unwrap();
    assert_eq!((gone.state.as_str(), gone.gone.as_deref()), ("gone", Some("replaced")));
}

#[tokio::test]
async fn a_machine_that_was_booted_anew_frees_what_it_held() {
    let mut machines = Machines::new().await;
    let first = machines.join(&Key::new()).await.unwrap();
    let mut sim = Sim::new(first.agent, 1);
    sim.hello(&machines.world.engine, &[]).await;
    let (id, _) = machines.world.running(&mut sim).await;
    machines.world.clock.advance(Duration::from_secs(31));
    machines.world.until(id, "unknown").await;
    machines.world.clock.advance(DAY);
    machines.join_from(&Key::new(), "boot-2", Duration::ZERO, None).await.unwrap();
    assert_ne!(machines.world.view(id).await.state, "unknown");
    assert!(!machines.listed().await.contains(&first.agent.to_string()));
}

#[tokio::test]
async fn a_machine_that_was_cut_off_comes_in_by_a_persons_word() {
    let machines = Machines::new().await;
    let (engine, key) = (&machines.world.engine, Key::new());
    let first = machines.join(&key).await.unwrap();
    engine.revoke_agent(first.agent, "anna").await.unwrap();
    machines.world.clock.advance(DAY * 2);
    // Neither with the key it had, nor after its certificate has ended.
    for (key, previous) in
        [(&Key::new(), Some((first.certificate_pem.as_str(), &key))), (&key, None), (&Key::new(), None)]
    {
        let said = why(machines.join_from(key, "boot-1", Duration::ZERO, previous).await);
        assert!(said.contains("was cut off") && said.contains("readmit"), "{said}");
    }
    engine.readmit(first.agent, "anna").await.unwrap();
    let second = machines.join(&Key::new()).await.unwrap();
    assert_ne!(second.agent, first.agent);
    assert!(engine.readmit(first.agent, "anna").await.unwrap_err().to_string().contains(&second.agent.to_string()));
    let token_joined = machines.world.enroll("default").await;
    assert!(engine.readmit(token_joined, "anna").await.is_err());
    // Once: the new one counts.
    why(machines.join(&Key::new()).await);
}

#[tokio::test]
async fn one_that_takes_its_leave_is_off_the_list_until_it_comes_back() {
    let mut machines = Machines::new().await;
    let joined = machines.join(&Key::new()).await.unwrap();
    let mut sim = Sim::new(joined.agent, 1);
    sim.hello(&machines.world.engine, &[]).await;
    let (id, offer) = machines.world.running(&mut sim).await;
    let refused = machines.world.engine.leave(joined.agent, "drained".to_owned()).await;
    assert!(matches!(refused, Err(plane::Error::Invalid(_))), "it has a job: {refused:?}");
    sim.run(&machines.world.engine, offer.fence).await;
    machines.world.until(id, "succeeded").await;
    machines.world.engine.leave(joined.agent, "drained".to_owned()).await.unwrap();
    assert!(sim.line.as_ref().unwrap().cut.is_cancelled());
    machines.world.engine.leave(joined.agent, "drained".to_owned()).await.unwrap();
    assert_eq!((machines.listed().await.len(), machines.audit("agent.left").await.len()), (0, 1));
    assert_eq!(machines.all().await[0].gone.as_deref(), Some("left"));
    let view = machines.world.view(id).await;
    assert!(serde_json::to_string(&view).unwrap().contains(&joined.agent.to_string()), "history names it");
    sim.hello(&machines.world.engine, &[]).await;
    assert_eq!(machines.listed().await, [joined.agent.to_string()]);
    // One that is not ephemeral stays.
    let stays = machines.world.agent().await;
    machines.world.engine.leave(stays.id, String::new()).await.unwrap();
    assert_eq!(machines.listed().await.len(), 2);
}

#[tokio::test]
async fn one_that_is_silent_for_long_vanishes_only_without_attempts() {
    let mut machines = Machines::new().await;
    let joined = machines.join(&Key::new()).await.unwrap();
    let mut sim = Sim::new(joined.agent, 1);
    sim.hello(&machines.world.engine, &[]).await;
    let (id, _) = machines.world.running(&mut sim).await;
    let line = sim.line.take().unwrap();
    machines.world.engine.goodbye(joined.agent, line.number());
    machines.world.clock.advance(Duration::from_secs(3_600));
    machines.world.until(id, "unknown").await;
    machines.world.clock.advance(Duration::from_secs(3_600));
    machines.world.engine.tick().await.unwrap();
    assert_eq!(machines.listed().await, [joined.agent.to_string()], "its attempt is `unknown`");
    machines.world.engine.resolve(id, "the host is gone", "anna").await.unwrap();
    machines.world.clock.advance(Duration::from_secs(120));
    machines.until_gone(joined.agent).await;
    assert_eq!(machines.all().await[0].gone.as_deref(), Some("silent"));
    assert_eq!(machines.audit("agent.gone").await.len(), 1);
    // It was only away: it is there again with its next hello.
    sim.hello(&machines.world.engine, &[]).await;
    assert_eq!(machines.listed().await, [joined.agent.to_string()]);
    // Connected ones do not vanish, however long nothing is written of them.
    machines.world.clock.advance(Duration::from_secs(3_600));
    machines.world.engine.tick().await.unwrap();
    assert_eq!(machines.listed().await, [joined.agent.to_string()]);
}

/// Settings by which EC2 is the fake; and whether the controller has credentials for it.
fn clouds(fake: &FakeAws, access: bool) -> Clouds {
    let endpoint: longshore_cloud::Endpoint = fake.endpoint().parse().unwrap();
    let mut clouds = Clouds::default();
    clouds.aws.ec2_endpoint = Some(endpoint.clone());
    clouds.aws.metadata_endpoint = access.then_some(endpoint);
    clouds
}

/// How often EC2 was asked about instances.
fn questions(fake: &FakeAws) -> usize {
    fake.asked().iter().filter(|asked| asked.parameter("Action").as_deref() == Some("DescribeInstances")).count()
}

/// A machine that joined, began a deployment and fell silent: the deployment is `unknown`.
async fn silenced(fake: &FakeAws, access: bool) -> (Machines, Asker, Sim, DeploymentId) {
    let mut machines = Machines::with(clouds(fake, access)).await;
    let joined = machines.join(&Key::new()).await.unwrap();
    let mut sim = Sim::new(joined.agent, 1);
    sim.hello(&machines.world.engine, &[]).await;
    let (id, _) = machines.world.running(&mut sim).await;
    let line = sim.line.take().unwrap();
    machines.world.engine.goodbye(joined.agent, line.number());
    machines.world.clock.advance(Duration::from_secs(31));
    machines.world.until(id, "unknown").await;
    let asker = Asker::new(machines.world.engine.clone(), Arc::clone(&machines.verifier), machines.world.clock.clone());
    (machines, asker, sim, id)
}

#[tokio::test]
async fn a_machine_that_the_cloud_says_is_terminated_frees_what_it_held_and_leaves_the_list() {
    let fake = FakeAws::instance(INSTANCE);
    let (machines, mut asker, sim, id) = silenced(&fake, true).await;
    for state in ["running", "stopping", "stopped", "shutting-down"] {
        fake.with(|machine| machine.placed = (state, None));
        asker.look().await;
        assert_eq!(machines.world.view(id).await.state, "unknown", "{state} is no proof");
        machines.world.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(questions(&fake), 4);
    fake.with(|machine| machine.placed = ("terminated", None));
    asker.look().await;
    let view = machines.world.view(id).await;
    assert_eq!((view.state.as_str(), standing(&view).as_str()), ("lost", "one:lost two:skipped"));
    let reason = view.steps[0].reason.clone().unwrap();
    let machine = format!("aws/{ACCOUNT}/{INSTANCE}");
    assert!(reason.contains(&format!("the cloud says that the agent's machine `{machine}` is terminated")), "{reason}");
    assert_eq!(machines.world.engine.locks().await.unwrap(), []);
    let timeline = machines.world.engine.timeline(id).await.unwrap();
    assert!(
        timeline.iter().any(|event| event.action == "attempt.ended" && event.detail.to_string().contains(&machine))
    );
    assert!(!machines.listed().await.contains(&sim.id.to_string()));
    assert_eq!(machines.all().await[0].gone.as_deref(), Some("terminated"));
    let audit = machines.audit("agent.gone").await;
    assert_eq!((audit.len(), &audit[0]["reason"], &audit[0]["machine"]), (1, &json!("terminated"), &json!(machine)));
    assert_eq!(audit[0]["message"], "the cloud says that its machine is terminated");
    assert_eq!(audit[0]["attempts"].as_array().unwrap().len(), 1);
    // It is known what became of it: it is not asked about any more.
    machines.world.clock.advance(Duration::from_secs(600));
    asker.look().await;
    assert_eq!((questions(&fake), machines.audit("agent.gone").await.len()), (5, 1));
}

#[tokio::test]
async fn an_agent_is_asked_about_after_its_lease_and_at_most_once_a_minute() {
    let fake = FakeAws::instance(INSTANCE);
    fake.with(|machine| machine.placed = ("terminated", None));
    let mut machines = Machines::with(clouds(&fake, true)).await;
    let joined = machines.join(&Key::new()).await.unwrap();
    let mut sim = Sim::new(joined.agent, 1);
    sim.hello(&machines.world.engine, &[]).await;
    let (id, offer) = machines.world.running(&mut sim).await;
    let verifier = Arc::clone(&machines.verifier);
    let mut asker = Asker::new(machines.world.engine.clone(), verifier, machines.world.clock.clone());
    asker.look().await;
    assert_eq!(questions(&fake), 0, "it is connected");
    let line = sim.line.take().unwrap();
    machines.world.engine.goodbye(joined.agent, line.number());
    machines.world.clock.advance(Duration::from_secs(30));
    asker.look().await;
    assert_eq!(questions(&fake), 0, "its lease has not lapsed");
    fake.with(|machine| machine.placed = ("running", None));
    machines.world.clock.advance(Duration::from_secs(1));
    for seconds in [0, 15, 30, 14, 1, 59] {
        machines.world.clock.advance(Duration::from_secs(seconds));
        asker.look().await;
    }
    assert_eq!(questions(&fake), 2);
    // It comes back meanwhile, and what it has goes on.
    machines.world.until(id, "unknown").await;
    sim.hello(&machines.world.engine, &[offer.fence]).await;
    fake.with(|machine| machine.placed = ("terminated", None));
    machines.world.clock.advance(Duration::from_secs(1));
    asker.look().await;
    assert!(!machines.world.engine.terminated(sim.id, &format!("aws/{ACCOUNT}/{INSTANCE}")).await.unwrap());
    assert_eq!((questions(&fake), machines.world.view(id).await.state.as_str()), (2, "running"));
    assert_eq!(machines.listed().await, [sim.id.to_string()]);
}

#[tokio::test]
async fn an_instance_that_is_not_known_or_of_another_account_proves_nothing() {
    let fake = FakeAws::instance("i-0ffffffffffffffff");
    let (machines, mut asker, sim, id) = silenced(&fake, true).await;
    asker.look().await;
    assert_eq!(questions(&fake), 1);
    fake.with(|machine| {
        (machine.instance, machine.owner) = (INSTANCE.to_owned(), "999922223333");
        machine.placed = ("terminated", None);
    });
    machines.world.clock.advance(Duration::from_secs(60));
    asker.look().await;
    assert!(!machines.world.engine.terminated(sim.id, "aws/111122223333/i-1").await.unwrap(), "another machine");
    assert_eq!((questions(&fake), machines.world.view(id).await.state.as_str()), (2, "unknown"));
    assert_eq!(machines.listed().await, [sim.id.to_string()]);
}

#[tokio::test]
async fn nothing_is_asked_without_access_and_a_rule_with_a_network_is_access() {
    let fake = FakeAws::instance(INSTANCE);
    let (machines, mut asker, _sim, _id) = silenced(&fake, false).await;
    asker.look().await;
    assert_eq!((asker.asked_about(), fake.asked()), (0, vec![]), "nor anybody else, who may be no cloud");
    assert!(machines.world.engine.silent_machines().await.unwrap().agents.len() == 1);
    let vpc = Some("vpc-0123456789abcdef0".to_owned());
    let conditions = Conditions::Aws { account: ACCOUNT.to_owned(), region: Some(REGION.to_owned()), role: None, vpc };
    let rule = NewJoinRule { pool: "inside".to_owned(), labels: BTreeMap::new(), conditions };
    let rule = machines.world.engine.add_join_rule(rule, "anna").await.unwrap().id;
    assert!(machines.world.engine.silent_machines().await.unwrap().networks);
    machines.world.engine.revoke_join_rule(rule, "anna").await.unwrap();
    assert!(!machines.world.engine.silent_machines().await.unwrap().networks);
}

/// Lines of the program's log.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn with(&self, what: &str) -> usize {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).unwrap().lines().filter(|line| line.contains(what)).count()
    }
}

#[tokio::test]
async fn what_cannot_be_asked_changes_nothing_and_is_said_once_with_what_is_missing() {
    let fake = FakeAws::instance(INSTANCE);
    fake.with(|machine| (machine.placed, machine.ec2_denied) = (("terminated", None), true));
    let (machines, mut asker, sim, id) = silenced(&fake, true).await;
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _log = tracing::subscriber::set_default(log);
    for _ in 0..3 {
        asker.look().await;
        asker.look().await;
        machines.world.clock.advance(Duration::from_secs(60));
    }
    assert_eq!((questions(&fake), machines.world.view(id).await.state.as_str()), (3, "unknown"));
    assert_eq!(machines.listed().await, [sim.id.to_string()]);
    assert_eq!(lines.with("need the permission `ec2:DescribeInstances`"), 1);
    // Another failure is said too, and the answer ends it.
    fake.with(|machine| (machine.ec2_denied, machine.api_down) = (false, true));
    asker.look().await;
    assert_eq!(lines.with("EC2 does not say what became of machines"), 2);
    fake.with(|machine| machine.api_down = false);
    machines.world.clock.advance(Duration::from_secs(60));
    asker.look().await;
    assert_eq!(lines.with("EC2 says again what became of machines"), 1);
    assert_eq!(machines.world.view(id).await.state, "lost");
}
