//! The engine with a simulated agent that calls it as the agent plane does. Time stands still until a test moves it.

mod artifacts;
mod cancels;
mod channels;
mod children;
mod cloud;
mod ends;
mod failpoints;
mod fences;
mod flow;
mod gates;
mod groups;
mod guided;
mod images;
mod leaving;
mod libraries;
mod local;
mod machines;
mod operations;
mod people;
mod placement;
mod plans;
mod plugins;
mod releases;
mod restarts;
mod rotation;
mod scaling;
mod schedule;
mod scopes;
mod traces;
mod waits;

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_core::attempt::Cause;
use longshore_core::engine_event::Summary;
use longshore_core::fence::Fence;
use longshore_core::id::{AgentId, DeploymentId};
use longshore_core::init::ExitRecord;
use longshore_core::offer::{Grant, Offer, Profile};
use longshore_core::pool::Pool;
use longshore_core::resources::{Bytes, Cpus, Resources};
use longshore_core::spool::{Header, Stream};
use longshore_core::time::Timestamp;
use longshore_proto::convert::{Completion, Ending};
use serde_json::json;

use super::plane::{self, Confirm, Confirmed, Draining, Hello, Said, Verdict};
use super::*;
use crate::store::rows::{AgentRow, DeploymentFilter, ReleaseFilter, ToAgent};
use crate::store::sqlite::Sqlite;

/// A step of two, so that there is a time between them.
const TWO_STEPS: &str = "version: 1\nproject: shop\nenvironments: [{name: dev}, {name: live}]\nvariables:\n  region: eu\n  key: {secret: true}\n\
    steps:\n  - {name: one, image: tiny, run: echo one, env: {KEY: '${{ secrets.key }}', REGION: '${{ vars.region }}'}, timeout: 60s}\n  - {name: two, image: tiny, run: [echo, two]}\n";
const HEAD: &str =
    "version: 1\nproject: shop\nenvironments: [{name: dev}, {name: staging}, {name: live, protected: true}]\n";
const SECRET: &str = "canary-4711";

/// A controller on a folder, and what it takes to start it anew.
struct World {
    folder: tempfile::TempDir,
    clock: Clock,
    tasks: Tasks,
    engine: Engine,
    operations: u32,
}

async fn start(folder: &std::path::Path, clock: &Clock) -> (Tasks, Engine) {
    let tasks = Tasks::new();
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&folder.join("db"), &tasks).await.unwrap());
    let (meta, at) = (MetaRow { controller: clock.controller_id(), incarnation: 1 }, clock.now());
    let made: Result<(), store::Error> = store
        .write(move |tx| {
            Box::pin(async move { if tx.meta().await?.is_none() { tx.insert_meta(&meta, at).await } else { Ok(()) } })
        })
        .await;
    made.unwrap();
    let keys: Result<_, store::Error> = store.read(|tx| Box::pin(async move { tx.data_keys().await })).await;
    let vault = Arc::new(Vault::for_tests(&keys.unwrap()).unwrap());
    let parts = Parts {
        store,
        logs: Logs::open(folder.join("logs"), tasks.clone()).unwrap(),
        blobs: Blobs::open(folder.join("blobs"), crate::blobs::Limits::default(), tasks.clone()).unwrap(),
        artifacts: Blobs::open(folder.join("artifacts"), crate::blobs::Limits::default(), tasks.clone()).unwrap(),
        vault,
        clock: clock.clone(),
        tasks: tasks.clone(),
        settings: Settings::default(),
    };
    let engine = Engine::start(parts).await.unwrap();
    (tasks, engine)
}

impl World {
    /// With the project `shop` and its secret.
    async fn new() -> Self {
        let (folder, clock) =
            (tempfile::tempdir().unwrap(), Clock::manual(Timestamp::from_micros(1_795_255_200_000_000)));
        let (tasks, engine) = start(folder.path(), &clock).await;
        engine.apply_project(TWO_STEPS.as_bytes(), "anna").await.unwrap();
        let (name, value) = ("key".to_owned(), Secret::new(SECRET.to_owned()));
        engine
            .set_variable("shop", NewVariable { name, value, secret: true, scope: Scope::All }, "anna")
            .await
            .unwrap();
        Self { folder, clock, tasks, engine, operations: 0 }
    }

    /// Ends everything and starts anew on the same folder, as after a crash: nothing in memory is kept.
    async fn restart(&mut self) {
        assert!(self.tasks.shut_down(Duration::from_secs(20)).await);
        (self.tasks, self.engine) = start(self.folder.path(), &self.clock).await;
    }

    async fn deploy_to(&mut self, environment: &str) -> DeploymentId {
        self.operations += 1;
        let operation_id = format!("op-{}", self.operations);
        let (project, environment) = ("shop".to_owned(), environment.to_owned());
        self.engine
            .create_deployment(NewDeployment { project, environment, operation_id, ..NewDeployment::default() }, "anna")
            .await
            .unwrap()
    }

    async fn deploy(&mut self) -> DeploymentId {
        self.deploy_to("dev").await
    }

    /// Gives the project `shop` other steps.
    async fn steps(&self, steps: &str) {
        self.apply(&format!("steps:\n{steps}")).await;
    }

    /// Gives the project `shop` another spec below its environments; `live` is protected.
    async fn apply(&self, rest: &str) {
        let text = format!("{HEAD}{rest}");
        self.engine.apply_project(text.as_bytes(), "anna").await.unwrap();
    }

    /// Asks for a deployment of `shop` by anna, to `dev` when nothing is said.
    async fn ask(&mut self, wish: NewDeployment) -> Result<DeploymentId> {
        self.operations += 1;
        let environment = if wish.environment.is_empty() { "dev".to_owned() } else { wish.environment };
        let (project, operation_id) = ("shop".to_owned(), format!("op-{}", self.operations));
        self.engine.create_deployment(NewDeployment { project, environment, operation_id, ..wish }, "anna").await
    }

    /// Stores a package with a Pulumi program; answers its SHA-256.
    async fn program(&self) -> String {
        let mut archive = tar::Builder::new(Vec::new());
        let (mut header, program) = (tar::Header::new_gnu(), b"name: shop\nruntime: yaml\n");
        header.set_size(program.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "Pulumi.yaml", &program[..]).unwrap();
        let bytes = zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap();
        let sha256 = crate::hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref());
        let size = bytes.len() as u64;
        let body = futures_util::stream::iter([Ok(bytes::Bytes::from(bytes))]);
        self.engine.0.parts.blobs.put(&sha256, body).await.unwrap();
        self.engine.add_package(&sha256, size, "anna").await.unwrap();
        sha256
    }

    /// Makes a release of `shop`.
    async fn release(&self, version: &str) -> ReleaseView {
        let new = NewRelease { version: Some(version.to_owned()), ..NewRelease::default() };
        self.engine.create_release("shop", new, "anna").await.unwrap()
    }

    /// Deploys a release.
    async fn deploy_release(&mut self, version: &str, environment: &str) -> Result<DeploymentId> {
        let (release, environment) = (Some(version.to_owned()), environment.to_owned());
        self.ask(NewDeployment { release, environment, ..NewDeployment::default() }).await
    }

    /// Deploys a release and runs it to its good end.
    async fn pass(&mut self, sim: &mut Sim, version: &str, environment: &str) -> DeploymentId {
        let id = self.deploy_release(version, environment).await.unwrap();
        let offer = sim.offer().await;
        assert_eq!(offer.deployment, id);
        sim.work(&self.engine, &offer, &[]).await;
        self.until(id, "succeeded").await;
        id
    }

    /// Waits until a deployment looks as wanted.
    async fn until_it(&self, id: DeploymentId, is: impl Fn(&DeploymentView) -> bool) -> DeploymentView {
        let mut changes = self.engine.subscribe(id);
        loop {
            let view = self.view(id).await;
            if is(&view) {
                return view;
            }
            changes.next().await.unwrap();
        }
    }

    async fn view(&self, id: DeploymentId) -> DeploymentView {
        self.engine.deployment_view(id).await.unwrap().unwrap()
    }

    /// Waits until a deployment is in a state.
    async fn until(&self, id: DeploymentId, state: &str) -> DeploymentView {
        let mut changes = self.engine.subscribe(id);
        loop {
            let view = self.view(id).await;
            if view.state == state {
                return view;
            }
            changes.next().await.unwrap();
        }
    }

    async fn enroll(&self, pool: &str) -> AgentId {
        self.enroll_with(pool, BTreeMap::new()).await
    }

    async fn enroll_with(&self, pool: &str, labels: BTreeMap<String, String>) -> AgentId {
        let id = self.clock.agent_id();
        let row = AgentRow {
            id,
            pool: pool.to_owned(),
            labels,
            hostname: "host".to_owned(),
            version: "1".to_owned(),
            serial: "ab".to_owned(),
            boot_id: "boot-1".to_owned(),
            facts: json!({}),
            enrolled_at: self.clock.now(),
            seen_at: None,
            revoked_at: None,
            drained: None,
        };
        let done: Result<()> =
            self.engine.change("test", move |tx, _| Box::pin(async move { Ok(tx.insert_agent(&row).await?) })).await;
        done.unwrap();
        id
    }

    /// An agent that is connected.
    async fn agent(&self) -> Sim {
        let id = self.enroll("default").await;
        let mut sim = Sim::new(id, 2);
        sim.hello(&self.engine, &[]).await;
        sim
    }

    /// A deployment whose first step runs on an agent.
    async fn running(&mut self, sim: &mut Sim) -> (DeploymentId, Offer) {
        let id = self.deploy().await;
        let offer = sim.offer().await;
        sim.accept(&self.engine, offer.fence).await;
        sim.confirm(&self.engine, offer.fence, 0, "n0").await.unwrap();
        (id, offer)
    }
}

/// An agent.
struct Sim {
    id: AgentId,
    boot: String,
    /// Which process it is; empty: nobody asks.
    instance: String,
    slots: u32,
    /// It can make plans and run them.
    plans: bool,
    operations: bool,
    /// The plan that it makes.
    plan: Vec<u8>,
    line: Option<plane::Line>,
    /// It tells digests of images.
    images: bool,
    /// How far it says that it is with plugins.
    plugins: Option<longshore_core::plugins::Readiness>,
    /// What it has.
    room: Resources,
    /// It takes no more jobs.
    draining: Option<Draining>,
}

/// That an agent drains, to a time.
fn draining(reason: &str) -> Draining {
    Draining { reason: reason.to_owned(), until: Some(Timestamp::from_micros(2_000_000_000_000_000)) }
}

impl Sim {
    /// One that can do everything but tell digests of images.
    fn new(id: AgentId, slots: u32) -> Self {
        let (boot, plan) = ("boot-1".to_owned(), plans::TEXT.into());
        Self {
            id,
            boot,
            instance: String::new(),
            slots,
            plans: true,
            operations: true,
            plan,
            line: None,
            images: false,
            room: Resources::default(),
            draining: None,
            plugins: Some(Default::default()),
        }
    }

    async fn hello(&mut self, engine: &Engine, held: &[Fence]) -> Vec<Verdict> {
        self.try_hello(engine, held).await.unwrap()
    }

    async fn try_hello(&mut self, engine: &Engine, held: &[Fence]) -> Result<Vec<Verdict>, plane::Error> {
        let hello = Hello {
            boot_id: self.boot.clone(),
            instance: self.instance.clone(),
            slots: self.slots,
            held: held.to_vec(),
            facts: json!({}),
            hostname: "host".to_owned(),
            version: "1".to_owned(),
            mounts: BTreeSet::from(["state".to_owned()]),
            weakest: Profile::Standard,
            draining: self.draining.clone(),
            engine: true,
            images: self.images,
            plans: self.plans,
            operations: self.operations,
            probes: true,
            room: self.room,
            largest: Resources::default(),
            disk: plane::Disk::default(),
            leaving: true,
            plugins: self.plugins.clone(),
        };
        let welcome = engine.hello(self.id, hello).await?;
        self.line = Some(welcome.line);
        Ok(welcome.verdicts)
    }

    async fn told(&mut self) -> ToAgent {
        self.line.as_mut().unwrap().messages.recv().await.unwrap()
    }

    async fn offer(&mut self) -> Offer {
        match self.told().await {
            ToAgent::Offer(offer) => *offer,
            other => panic!("{other:?}"),
        }
    }

    async fn say(&self, engine: &Engine, said: Said) -> Result<(), plane::Error> {
        engine.said(self.id, self.line.as_ref().unwrap().number(), said).await
    }

    async fn accept(&self, engine: &Engine, fence: Fence) {
        self.say(engine, Said::Answer { fence, accepted: true, reason: String::new() }).await.unwrap();
    }

    async fn confirm(
        &mut self,
        engine: &Engine,
        fence: Fence,
        step: u32,
        nonce: &str,
    ) -> Result<Confirmed, plane::Error> {
        self.confirm_image(engine, fence, step, nonce, "sha256:1").await
    }

    async fn confirm_image(
        &self,
        engine: &Engine,
        fence: Fence,
        step: u32,
        nonce: &str,
        digest: &str,
    ) -> Result<Confirmed, plane::Error> {
        let container = format!("container-{step}");
        let wish = Confirm {
            fence,
            step,
            container,
            nonce: nonce.to_owned(),
            image_digest: digest.to_owned(),
            took: took("image", 5, 9),
        };
        engine.confirm(self.id, wish).await
    }

    async fn grant(&mut self, engine: &Engine, fence: Fence, step: u32) -> Grant {
        match self.confirm(engine, fence, step, &format!("n{step}")).await.unwrap() {
            Confirmed::Granted(grant) => *grant,
            other => panic!("{other:?}"),
        }
    }

    /// Writes some output and the exit record, ships it all and reports.
    async fn finish(
        &mut self,
        engine: &Engine,
        fence: Fence,
        step: u32,
        record: ExitRecord,
    ) -> Result<Option<u32>, plane::Error> {
        let (bytes, record) = spool(&[(Stream::Stdout, b"out\n"), (Stream::Stderr, b"err\n")], record);
        self.ship(engine, fence, step, &bytes).await?;
        self.report(engine, fence, step, record, bytes.len() as u64, false).await
    }

    async fn ship(&self, engine: &Engine, fence: Fence, step: u32, bytes: &[u8]) -> Result<u64, plane::Error> {
        let log = engine.log_of(self.id, fence, step).await?;
        Ok(log.append(vec![(0, bytes::Bytes::copy_from_slice(bytes))]).await?)
    }

    async fn report(
        &self,
        engine: &Engine,
        fence: Fence,
        step: u32,
        record: ExitRecord,
        spool_bytes: u64,
        canceled: bool,
    ) -> Result<Option<u32>, plane::Error> {
        let at = Timestamp::from_micros(1);
        let summary: Option<Box<Summary>> = None;
        let ending =
            Ending::Exited { record: Box::new(record), spool_bytes, summary, started_at: at, ended_at: at, canceled };
        engine.complete(self.id, Completion { fence, step, ending, took: took("ship", 11, 12) }).await
    }

    async fn lost(&self, engine: &Engine, fence: Fence, step: u32, reason: &str) -> Result<Option<u32>, plane::Error> {
        let ending = Ending::Lost { reason: reason.to_owned(), spool_bytes: 0, canceled: false };
        engine.complete(self.id, Completion { fence, step, ending, took: took("ship", 11, 12) }).await
    }

    async fn not_started(
        &self,
        engine: &Engine,
        fence: Fence,
        step: u32,
        agent_fault: bool,
    ) -> Result<Option<u32>, plane::Error> {
        let cause = Cause::said(agent_fault, false);
        let ending = Ending::NotStarted { reason: "image `tiny` is not there".to_owned(), cause };
        engine.complete(self.id, Completion { fence, step, ending, took: took("ship", 11, 12) }).await
    }

    /// Accepts an offer and gives it back, since it has to leave.
    async fn give_back(&self, engine: &Engine, fence: Fence) -> Result<Option<u32>, plane::Error> {
        self.accept(engine, fence).await;
        let ending = Ending::NotStarted { reason: "this agent has to leave".to_owned(), cause: Cause::Leaving };
        engine.complete(self.id, Completion { fence, step: 0, ending, took: vec![] }).await
    }

    /// Accepts an offer and runs what it is told to run, with these exit codes, then 0; answers the slots that ran.
    async fn work(&mut self, engine: &Engine, offer: &Offer, codes: &[i32]) -> Vec<u32> {
        self.accept(engine, offer.fence).await;
        let mut ran = Vec::new();
        let mut next = offer.steps.first().map(|step| step.index);
        while let Some(slot) = next {
            self.grant(engine, offer.fence, slot).await;
            let end = codes.get(ran.len()).copied().unwrap_or(0);
            ran.push(slot);
            next = self.finish(engine, offer.fence, slot, code(end)).await.unwrap();
        }
        ran
    }

    /// Offers in the order of their steps.
    async fn offers<const N: usize>(&mut self) -> [Offer; N] {
        let mut offers = Vec::new();
        for _ in 0..N {
            offers.push(self.offer().await);
        }
        offers.sort_by_key(|offer| offer.steps[0].index);
        offers.try_into().unwrap()
    }

    async fn heartbeat(&self, engine: &Engine) {
        self.say(engine, Said::Heartbeat { facts: None, engine: true, free: self.slots, disk: plane::Disk::default() })
            .await
            .unwrap();
    }

    /// Runs both steps of an offer to their good end.
    async fn run(&mut self, engine: &Engine, fence: Fence) {
        self.grant(engine, fence, 0).await;
        assert_eq!(self.finish(engine, fence, 0, code(0)).await.unwrap(), Some(1));
        self.grant(engine, fence, 1).await;
        assert_eq!(self.finish(engine, fence, 1, code(0)).await.unwrap(), None);
    }
}

/// The steps of a deployment, as `NAME:STATE`.
fn standing(view: &DeploymentView) -> String {
    view.steps.iter().map(|step| format!("{}:{}", step.name, step.state)).collect::<Vec<_>>().join(" ")
}

/// A conflict's or a refusal's code and words.
fn no<T: std::fmt::Debug>(done: Result<T>) -> (&'static str, String) {
    match done.unwrap_err() {
        Error::Conflict { code, message, .. } | Error::Refused { code, message, .. } => (code, message),
        other => panic!("{other:?}"),
    }
}

fn took(what: &str, began: i64, ended: i64) -> Vec<longshore_core::trace::Took> {
    let at = Timestamp::from_micros;
    longshore_core::trace::Took::new(what, at(began), at(ended)).into_iter().collect()
}

fn code(code: i32) -> ExitRecord {
    ExitRecord { code: Some(code), ..ExitRecord::default() }
}

/// A spool with its exit record, whose length and digest are filled in.
fn spool(records: &[(Stream, &[u8])], mut record: ExitRecord) -> (Vec<u8>, ExitRecord) {
    let text: Vec<u8> =
        records.iter().filter(|(stream, _)| stream.is_log()).flat_map(|(_, data)| data.to_vec()).collect();
    record.bytes = text.len() as u64;
    record.sha256 = crate::hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text).as_ref());
    let json = serde_json::to_vec(&record).unwrap();
    let (mut out, mut seq) = (Vec::new(), 0);
    for (stream, data) in records.iter().copied().chain([(Stream::Exit, json.as_slice())]) {
        out.extend(Header { len: u32::try_from(data.len()).unwrap(), stream, seq, at: 7 }.to_bytes());
        out.extend(data);
        seq += 1;
    }
    (out, record)
}
