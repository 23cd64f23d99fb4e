//! What `status` says of an agent that runs and of one that does not.

use longshore_agent::config::{Config, Flags};
use longshore_agent::lifecycle::StateDir;
use longshore_agent::status::{Status, look};
use longshore_agent::supervisor::Stop;
use longshore_agent::water::Marks;
use longshore_proto::v1;
use longshore_proto::v1::session_response::Message as Down;

use crate::world::{World, offer};

impl World {
    fn config(&self) -> Config {
        let dir = self.dir.path();
        let path = dir.join("agent.toml");
        let text = format!(
            "name = \"one\"\ncontroller = \"{}\"\nca_file = \"/none\"\nstate_dir = {dir:?}\ndocker.socket = {:?}\n",
            self.controller.address,
            dir.join("none.sock")
        );
        std::fs::write(&path, text).unwrap();
        Config::load(&path, std::iter::empty(), Flags::default()).unwrap()
    }

    /// Looks until it is as it should be.
    async fn status(&self, like: impl Fn(&Status) -> bool) -> Status {
        let config = self.config();
        let look = async {
            loop {
                let status = look(&config).await.unwrap();
                if like(&status) {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(30), look).await;
        match found {
            Ok(status) => status,
            Err(_) => panic!("{:?}", look_once(&config).await),
        }
    }
}

async fn look_once(config: &Config) -> Status {
    look(config).await.unwrap()
}

#[tokio::test]
async fn a_running_agent_says_what_it_does_and_the_ledger_what_is_left() {
    let mut world = World::new().await;
    world.controller.identity().save(world.dir.path()).unwrap();
    // In the program, the lock is held by whoever calls what these tests call.
    let lock = StateDir::open(world.dir.path()).unwrap();
    let idle = world.status(|status| status.live.as_ref().is_some_and(|live| live.connected)).await;
    let live = idle.live.unwrap();
    assert_eq!((live.slots, live.free_slots, live.pid, live.jobs.len()), (1, 1, std::process::id(), 0));
    assert!(live.last_heard_at.is_some() && live.since >= live.started_at && live.draining.is_none());
    assert!(idle.running && idle.certificate_until.is_some() && idle.pool.as_deref() == Some("default"));

    let disks: Vec<_> = idle.disks.iter().map(|disk| (disk.of, disk.path.as_str())).collect();
    assert_eq!(disks, [("state", world.dir.path().to_str().unwrap()), ("engine", "/proc")]);
    world.about.send_modify(|about| about.marks = Marks { bytes: 1, inodes: 0 });
    // Each change of the settings opens a new stream.
    world.controller.hello().await;
    let low = world.status(|status| status.live.as_ref().is_some_and(|live| !live.low.is_empty())).await.to_string();
    for words in
        ["\ndisk          `", "\nengine disk   `/proc` has 0 MiB free", "takes no more jobs: the disk of its engine"]
    {
        assert!(low.contains(words), "{words}: {low}");
    }
    world.about.send_modify(|about| about.marks = Marks::default());
    world.controller.hello().await;
    let live = |status: &Status| status.live.as_ref().is_some_and(|live| live.low.is_empty() && live.connected);
    world.status(live).await;

    let offer = offer(1, 1);
    world.offer(&offer).await;
    let container = world.runtime.started(offer.fence, 0).await;
    let running = |status: &Status| {
        let job = status.live.as_ref().and_then(|live| live.jobs.first());
        job.is_some_and(|job| job.started && job.phase.as_deref() == Some("running"))
    };
    let busy = world.status(running).await;
    let job = busy.live.as_ref().unwrap().jobs[0].clone();
    assert_eq!((job.attempt, job.step, job.container.as_ref()), (offer.fence.attempt, 0, Some(&container)));
    assert_eq!(busy.live.as_ref().unwrap().free_slots, 0);
    let text = busy.to_string();
    assert!(text.contains(&format!("{} of shop/dev: step 0, running", job.attempt)), "{text}");

    let drain = |reason: &str| Down::Drain(v1::Drain { reason: reason.to_owned() });
    world.controller.say(drain("anna: new kernel"));
    let told = world.status(|status| status.live.as_ref().is_some_and(|live| live.told.is_some())).await;
    assert!(told.to_string().contains("the controller has no more jobs for it: anna: new kernel"), "{told}");
    world.controller.say(drain(""));
    world.status(|status| status.live.as_ref().is_some_and(|live| live.told.is_none())).await;

    world.tell(Stop::Drain);
    world.status(|status| status.live.as_ref().is_some_and(|live| live.draining.is_some())).await;

    world.kill_agent().await;
    drop(lock);
    let ended = world.status(|status| !status.running).await;
    assert!(ended.live.is_none(), "{ended:?}");
    assert_eq!((ended.attempts[0].container.as_ref(), ended.attempts[0].step), (Some(&container), Some(0)));
    let text = ended.to_string();
    assert!(text.contains("not running") && text.contains("step 0 started at"), "{text}");
    assert!(ended.containers.is_none() && ended.unknown.iter().any(|unknown| unknown.contains("none.sock")));
    assert!(!serde_json::to_string(&ended).unwrap().contains("PRIVATE"));

    // What was looked at is as it was: the next agent takes it over.
    world.start_agent();
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    world.finish().await;
}
