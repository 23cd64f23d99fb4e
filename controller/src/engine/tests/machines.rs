//! Machines that join by proof: one agent each, and what becomes of ephemeral ones.

use longshore_core::join::{Conditions, binding, rejoin_text};
use rcgen::{CertificateParams, KeyPair, SigningKey as _};

use super::*;
use crate::data_dir::DataDir;
use crate::engine::plane::{Joined, ProofJoin};
use crate::engine::{AgentView, NewJoinRule};
use crate::identity::Ca;
use crate::identity::cloud::testing::{ACCOUNT, Form, INSTANCE, REGION, Signer, identity_document, lines, signed};
use crate::identity::cloud::{Proof, Settings as Clouds, Verifier};

struct Machines {
    world: World,
    ca: Ca,
    verifier: Verifier,
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
        let verifier = Verifier::new(clouds, world.clock.clone()).unwrap();
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
