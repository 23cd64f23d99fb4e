//! The controller is killed after every change of a deployment with an approval, a group, tries, a check and a child. Whatever the agent
//! was answered last it asks again, as if the answer had been lost, and is answered the same.

use std::sync::atomic::Ordering;

use super::gates::{Listener, listener};
use super::*;

/// What an agent may ask twice.
enum Asked {
    Grant(Fence, u32),
    End(Fence, u32, i32, Option<u32>),
}

/// One way through the same history, killed at one point of it.
struct Way {
    world: World,
    sim: Sim,
    id: DeploymentId,
    held: Vec<Fence>,
    granted: BTreeSet<(String, u32)>,
    /// Acknowledgements so far.
    point: u32,
    killed_after: u32,
}

impl Way {
    async fn begin(world: World, killed_after: u32) -> Self {
        let mut world = world;
        let (sim, id) = (world.agent().await, world.deploy().await);
        Self { world, sim, id, held: Vec::new(), granted: BTreeSet::new(), point: 0, killed_after }
    }

    /// Something was acknowledged. At the one point of this way the controller is killed.
    async fn acknowledged(&mut self, last: Option<Asked>) {
        if self.point == self.killed_after {
            self.world.restart().await;
            let verdicts = self.sim.hello(&self.world.engine, &self.held).await;
            assert!(verdicts.iter().all(|verdict| verdict.keep), "killed at point {}: {verdicts:?}", self.point);
            match last {
                Some(Asked::Grant(fence, slot)) => {
                    self.sim.grant(&self.world.engine, fence, slot).await;
                }
                Some(Asked::End(fence, slot, end, next)) => {
                    let again = self.sim.finish(&self.world.engine, fence, slot, code(end)).await.unwrap();
                    assert_eq!(again, next, "killed at point {}", self.point);
                }
                None => {}
            }
        }
        self.point += 1;
    }

    /// The next offer; one that was lost with a killed controller was taken back.
    async fn offer(&mut self) -> Offer {
        // What it said in its hello counts until it says again how many slots are free.
        let free = self.sim.slots.saturating_sub(u32::try_from(self.held.len()).unwrap());
        self.sim
            .say(&self.world.engine, Said::Heartbeat { facts: None, engine: true, free, disk: plane::Disk::default() })
            .await
            .unwrap();
        let offer = loop {
            match self.sim.told().await {
                ToAgent::Offer(offer) => break *offer,
                told => assert!(matches!(told, ToAgent::Revoke { .. }), "{told:?}"),
            }
        };
        self.held.push(offer.fence);
        self.acknowledged(None).await;
        self.sim.accept(&self.world.engine, offer.fence).await;
        self.acknowledged(None).await;
        offer
    }

    async fn start(&mut self, offer: &Offer, slot: u32) {
        self.sim.grant(&self.world.engine, offer.fence, slot).await;
        assert!(self.granted.insert((offer.fence.attempt.to_string(), slot)), "granted once");
        self.acknowledged(Some(Asked::Grant(offer.fence, slot))).await;
    }

    async fn finish(&mut self, offer: &Offer, slot: u32, end: i32, next: Option<u32>) {
        let told = self.sim.finish(&self.world.engine, offer.fence, slot, code(end)).await.unwrap();
        assert_eq!(told, next);
        if next.is_none() {
            self.held.retain(|fence| *fence != offer.fence);
        }
        self.acknowledged(Some(Asked::End(offer.fence, slot, end, next))).await;
    }

    /// An approval, then a group of which one member needs two tries.
    async fn first_half(&mut self) {
        self.acknowledged(None).await;
        let approval = self.world.engine.approvals(Some(self.id)).await.unwrap()[0].id.parse().unwrap();
        let (comment, person) = ("good".to_owned(), "alice".to_owned());
        self.world.engine.vote(approval, Vote { granted: true, comment, person, teams: vec![] }).await.unwrap();
        self.acknowledged(None).await;
        let mut offers = [self.offer().await, self.offer().await];
        offers.sort_by_key(|offer| offer.steps[0].index);
        let [a, b] = offers;
        self.start(&a, 1).await;
        self.start(&b, 2).await;
        self.finish(&a, 1, 4, Some(1_001)).await;
        self.finish(&b, 2, 0, None).await;
        self.world.clock.advance(Duration::from_secs(1));
        self.start(&a, 1_001).await;
        self.finish(&a, 1_001, 0, None).await;
    }

    /// A check whose first answer is bad, then one step more.
    async fn second_half(&mut self, listener: &Listener) {
        let tried =
            |view: &DeploymentView| view.steps[3].reason.as_ref().is_some_and(|words| words.starts_with("try 1"));
        self.world.until_it(self.id, tried).await;
        self.acknowledged(None).await;
        listener.bad.store(0, Ordering::SeqCst);
        self.world.clock.advance(Duration::from_secs(2));
        self.world.until_it(self.id, |view| view.steps[3].state == "succeeded").await;
        self.acknowledged(None).await;
        let end = self.offer().await;
        self.start(&end, 4).await;
        self.finish(&end, 4, 0, None).await;
    }

    /// A deployment of another project, which runs one step.
    async fn child(&mut self) -> DeploymentId {
        let view = self.world.until_it(self.id, |view| view.steps[5].child.is_some()).await;
        let child = view.steps[5].child.as_ref().unwrap().parse().unwrap();
        self.acknowledged(None).await;
        let offer = self.offer().await;
        assert_eq!((offer.deployment, offer.project.as_str()), (child, "base"));
        self.start(&offer, 0).await;
        self.finish(&offer, 0, 0, None).await;
        child
    }

    /// Everything that people see of its end and of its child's.
    async fn end(&self, child: DeploymentId) -> (String, Vec<String>) {
        let view = self.world.until(self.id, "succeeded").await;
        for step in &view.steps {
            let good = step.attempts.iter().filter(|start| start.state == "succeeded").count();
            assert_eq!(
                good,
                usize::from(!["go", "up", "below"].contains(&step.name.as_str())),
                "one good end of `{}`",
                step.name
            );
        }
        let children = DeploymentFilter { project: Some("base".to_owned()), ..DeploymentFilter::default() };
        let children = self.world.engine.deployments(children).await.unwrap();
        let ids: Vec<_> = children.iter().map(|view| (view.id.clone(), view.release.as_str())).collect();
        assert_eq!(ids, [(child.to_string(), "0.0.1")], "one child, of the release that is held");
        let starts = view.steps.iter().chain(&children[0].steps).map(|step| step.attempts.len()).sum::<usize>();
        assert_eq!(self.granted.len(), starts);
        assert_eq!(self.world.engine.locks().await.unwrap(), []);
        assert!(self.world.engine.agents().await.unwrap()[0].attempts.is_empty());
        let mut timeline = self.world.engine.timeline(self.id).await.unwrap();
        timeline.extend(self.world.engine.timeline(child).await.unwrap());
        let of_steps = |event: &EventView| event.action.starts_with("step.") || event.action.starts_with("deployment.");
        let stands = format!("{}; {}", standing(&view), standing(&children[0]));
        (stands, timeline.into_iter().filter(of_steps).map(|event| event.action).collect())
    }
}

async fn way(killed_after: u32) -> (u32, (String, Vec<String>)) {
    let (world, outside) = (World::new().await, Tasks::new());
    let listener = listener(&outside, u32::MAX).await;
    let steps = format!(
        "  - {{name: go, approval: {{needs: 1}}}}\n  - name: both\n    parallel:\n      \
         - {{name: a, image: tiny, run: 'true', retries: {{max: 1, backoff: 1s}}}}\n      - {{name: b, image: tiny, run: 'true'}}\n  \
         - {{name: up, http: {{url: '{}'}}, retries: {{max: 2, backoff: 2s}}}}\n  - {{name: end, image: tiny, run: 'true'}}\n  - {{name: below, deploy-release: {{project: base}}}}\n",
        listener.url
    );
    let base =
        "version: 1\nproject: base\nenvironments: [{name: dev}]\nsteps: [{name: one, image: tiny, run: 'true'}]\n";
    world.engine.apply_project(base.as_bytes(), "anna").await.unwrap();
    world.engine.create_release("base", NewRelease::default(), "anna").await.unwrap();
    world.steps(&steps).await;
    let mut way = Way::begin(world, killed_after).await;
    // What is held was chosen before this one.
    way.world.engine.create_release("base", NewRelease::default(), "anna").await.unwrap();
    way.first_half().await;
    way.second_half(&listener).await;
    let child = way.child().await;
    let end = way.end(child).await;
    assert!(outside.shut_down(Duration::from_secs(20)).await);
    (way.point, end)
}

#[tokio::test]
async fn whenever_it_is_killed_it_goes_on_from_the_same_place_to_the_same_end() {
    let (points, wanted) = way(u32::MAX).await;
    assert_eq!(
        wanted.0,
        "go:succeeded a:succeeded b:succeeded up:succeeded end:succeeded below:succeeded; one:succeeded"
    );
    assert!(points >= 23, "{points}");
    for killed_after in 0..points {
        let (_, end) = way(killed_after).await;
        assert_eq!(end, wanted, "killed after {killed_after} of {points}");
    }
}
