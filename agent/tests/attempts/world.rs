//! One controller, one engine, one state directory, and agents that come and go.

use std::time::Duration;

use longshore_agent::app::{self, Settings, serve};
use longshore_agent::config::{Cloud, Proxy};
use longshore_agent::lifecycle::Manager;
use longshore_agent::lifecycle::scalein::Watcher;
use longshore_agent::retry::Policy;
use longshore_agent::session::{About, Dialer};
use longshore_agent::supervisor::Stop;
use longshore_agent::tasks::Tasks;
use longshore_agent::water::Marks;
use longshore_core::fence::Fence;
use longshore_core::id::{AttemptId, DeploymentId, JobId};
use longshore_core::offer::{Network, Offer, OfferStep, PackageRef, Profile};
use longshore_core::resources::{Bytes, Cpus, Resources};
use longshore_core::time::Timestamp;
use longshore_proto::v1::session_response::Message as Down;
use tokio::sync::{oneshot, watch};

use crate::controller::Controller;
use crate::runtime::FakeRuntime;

pub(crate) struct World {
    pub(crate) controller: Controller,
    pub(crate) runtime: FakeRuntime,
    pub(crate) dir: tempfile::TempDir,
    proxy: Option<Proxy>,
    cloud: Option<Cloud>,
    pub(crate) about: watch::Sender<About>,
    pub(crate) held_back: watch::Sender<Option<String>>,
    pub(crate) drain_timeout: watch::Sender<Duration>,
    agent: Option<Agent>,
}

struct Agent {
    tasks: Tasks,
    outer: Tasks,
    stop: watch::Sender<Stop>,
    done: oneshot::Receiver<Result<(), app::Error>>,
}

/// An offer with so many steps; its ids are made of `fill`.
pub(crate) fn offer(fill: u8, steps: u32) -> Offer {
    let at = Timestamp::from_micros(1_000_000);
    let step = |index| OfferStep {
        index,
        name: format!("step-{index}"),
        image: "tiny:1".to_owned(),
        profile: Profile::Standard,
        network: Network::None,
        mounts: vec![],
        pulumi: false,
        resources: Resources::default(),
        pull: longshore_core::offer::Pull::default(),
        digest: None,
    };
    Offer {
        fence: Fence { attempt: AttemptId::new(at, [fill; 10]), epoch: 1, incarnation: 1 },
        job: JobId::new(at, [fill; 10]),
        deployment: DeploymentId::new(at, [fill; 10]),
        project: "shop".to_owned(),
        environment: "dev".to_owned(),
        url: String::new(),
        steps: (0..steps).map(step).collect(),
        package: None::<PackageRef>,
    }
}

fn about() -> About {
    About {
        boot_id: "boot".to_owned(),
        instance_id: "instance".to_owned(),
        slots: 1,
        mounts: vec!["state".to_owned()],
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        weakest_profile: Profile::Standard,
        reserve: Resources { memory: Bytes(1 << 20), ..Resources::default() },
        largest: Resources { cpus: Cpus(1_500), ..Resources::default() },
        marks: Marks::default(),
    }
}

impl World {
    /// A world with an agent that is connected.
    pub(crate) async fn new() -> Self {
        Self::by_way_of(None).await
    }

    /// The same with a proxy between agent and controller.
    pub(crate) async fn by_way_of(proxy: Option<Proxy>) -> Self {
        Self::with(proxy, None).await
    }

    /// The same on a machine of a cloud.
    pub(crate) async fn in_cloud(cloud: Cloud) -> Self {
        Self::with(None, Some(cloud)).await
    }

    async fn with(proxy: Option<Proxy>, cloud: Option<Cloud>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut world = Self {
            controller: Controller::start().await,
            runtime: FakeRuntime::new(dir.path()),
            dir,
            proxy,
            cloud,
            about: watch::Sender::new(about()),
            held_back: watch::Sender::new(None),
            drain_timeout: watch::Sender::new(Duration::from_secs(3_600)),
            agent: None,
        };
        world.start_agent();
        assert!(world.controller.hello().await.held.is_empty());
        world
    }

    pub(crate) fn start_agent(&mut self) {
        let identity = self.controller.identity();
        let settings = Settings {
            runtime: self.runtime.clone(),
            dialer: Dialer::new(self.controller.address.clone(), &identity).unwrap().by_way_of(self.proxy.clone()),
            identity,
            state_dir: self.dir.path().to_owned(),
            package_cache_bytes: 1 << 20,
            about: self.about.subscribe(),
            held_back: self.held_back.subscribe(),
            drain_timeout: self.drain_timeout.subscribe(),
            cancel_grace: Duration::from_secs(600),
            watcher: self.cloud.as_ref().and_then(Watcher::of),
            retry: Policy { first: Duration::from_millis(1), most: Duration::from_millis(20) },
            manager: Manager,
            rejoin: None,
        };
        let (tasks, outer) = (Tasks::new(), Tasks::new());
        let (stop, stop_rx) = watch::channel(Stop::Run);
        let (done_tx, done) = oneshot::channel();
        let inner = tasks.clone();
        outer.spawn("agent", async move {
            let result = serve(settings, &inner, stop_rx).await;
            drop(done_tx.send(result));
        });
        self.agent = Some(Agent { tasks, outer, stop, done });
    }

    /// What `kill -9` does: everything stops where it is.
    pub(crate) async fn kill_agent(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.outer.end().await;
        agent.tasks.end().await;
    }

    pub(crate) fn tell(&self, stop: Stop) {
        self.agent.as_ref().unwrap().stop.send_replace(stop);
    }

    /// Waits for the agent to end by itself; it leaves no task behind.
    pub(crate) async fn ended(&mut self) {
        let agent = self.agent.take().unwrap();
        tokio::time::timeout(Duration::from_secs(30), agent.done).await.unwrap().unwrap().unwrap();
        assert!(agent.tasks.is_empty());
    }

    /// Offers a job and waits until it is claimed.
    pub(crate) async fn offer(&mut self, offer: &Offer) {
        self.controller.say(Down::Offer(offer.clone().into()));
        let answer = self.controller.answered().await;
        assert!(answer.accepted, "{}", answer.reason);
    }

    /// Ends the agent in peace and checks that nothing of any attempt is left.
    pub(crate) async fn finish(mut self) {
        self.runtime.emptied().await;
        self.tell(Stop::Drain);
        self.ended().await;
        assert_eq!(std::fs::read_dir(self.dir.path().join("attempts")).unwrap().count(), 0);
        assert!(self.runtime.volumes.lock().unwrap().is_empty());
    }
}
