//! What a deployment leaves as spans, whatever happens to the controller and to the collector.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use longshore_core::trace::{SpanId, TraceId, TraceParent};

use super::*;
use crate::trace::{Export, Failed, Field, Follower, Span};

/// A collector in memory: what it took, and what it answers next.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<(Vec<Span>, Vec<Failed>)>>);

#[async_trait::async_trait]
impl Export for Collector {
    async fn export(&mut self, spans: &[Span]) -> Result<Option<(u64, String)>, Failed> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.1.pop() {
            Some(failed) => Err(failed),
            None => {
                state.0.extend_from_slice(spans);
                Ok(None)
            }
        }
    }
}

impl Collector {
    fn follow(&self, world: &World) -> Follower {
        Follower::new(world.engine.clone(), Box::new(self.clone()), 1.0).1
    }

    fn fail(&self, failed: Failed) {
        self.0.lock().unwrap().1.push(failed);
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().0.clone()
    }
}

fn says(span: &Span, key: &str, value: &str) -> bool {
    span.attributes.iter().any(|(found, field)| *found == key && *field == Field::from(value))
}

/// Names of spans as paths, sorted.
fn paths(spans: &[Span]) -> Vec<String> {
    let by_id: HashMap<_, _> = spans.iter().map(|span| (span.id.bytes(), span)).collect();
    let path = |span: &Span| {
        let (mut path, mut above) = (span.name.clone(), span.parent);
        while let Some(parent) = above.and_then(|id| by_id.get(&id.bytes())) {
            path = format!("{} > {path}", parent.name);
            above = parent.parent;
        }
        path
    };
    let mut paths: Vec<_> = spans.iter().map(path).collect();
    paths.sort();
    paths
}

const ALL: [&str; 16] = [
    "deploy shop/dev",
    "deploy shop/dev > attempt",
    "deploy shop/dev > attempt > image",
    "deploy shop/dev > attempt > offer",
    "deploy shop/dev > attempt > prepare",
    "deploy shop/dev > attempt > prepare > image",
    "deploy shop/dev > attempt > wait for an agent",
    "deploy shop/dev > step one",
    "deploy shop/dev > step one > try 1",
    "deploy shop/dev > step one > try 1 > run",
    "deploy shop/dev > step one > try 1 > ship",
    "deploy shop/dev > step two",
    "deploy shop/dev > step two > try 1",
    "deploy shop/dev > step two > try 1 > run",
    "deploy shop/dev > step two > try 1 > ship",
    "deploy shop/dev > wait for its turn",
];

#[tokio::test]
async fn a_deployment_is_one_trace_with_the_times_of_its_rows() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let collector = Collector::default();
    let mut follower = collector.follow(&world);
    follower.send().await.unwrap();
    let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let id = world.ask(NewDeployment { trace_parent: Some(parent), ..NewDeployment::default() }).await.unwrap();
    world.clock.advance(Duration::from_secs(3));
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    world.clock.advance(Duration::from_secs(4));
    sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
    // What has ended is there before the rest has.
    follower.send().await.unwrap();
    let early = collector.spans();
    assert!(paths(&early).iter().any(|path| path.ends_with("step one > try 1 > run")), "{:?}", paths(&early));
    assert!(!early.iter().any(|span| span.name == "attempt" || span.name.starts_with("deploy")));
    sim.grant(&world.engine, offer.fence, 1).await;
    sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap();
    world.until(id, "succeeded").await;
    follower.send().await.unwrap();
    let spans = collector.spans();
    assert_eq!(paths(&spans), ALL, "each once, under the right one");
    let root = spans.iter().find(|span| span.name == "deploy shop/dev").unwrap();
    assert_eq!((root.trace, root.parent), (parent.trace, Some(parent.span)));
    assert_eq!(world.view(id).await.trace_id, parent.trace.to_string());
    assert!(spans.iter().all(|span| span.trace == parent.trace && says(span, "longshore.deployment", &id.to_string())));
    assert_eq!(root.ended.since(root.began), Duration::from_secs(7));
    let start = spans.iter().find(|span| span.name == "try 1" && says(span, "longshore.step", "one")).unwrap();
    assert_eq!(start.ended.since(start.began), Duration::from_secs(4));
    assert!(says(start, "longshore.agent", &sim.id.to_string()) && says(start, "container.id", "container-0"));
    assert!(start.attributes.contains(&("longshore.exit_code", Field::Number(0))), "{start:?}");
    let image = spans.iter().find(|span| span.name == "image").unwrap();
    assert_eq!((image.began.as_micros(), image.ended.as_micros()), (5, 9), "as the agent says");
    assert!(says(image, "longshore.clock", "agent"));
    follower.send().await.unwrap();
    assert_eq!(collector.spans().len(), spans.len(), "nothing is sent twice");
}

#[tokio::test]
async fn a_controller_that_is_killed_anywhere_sends_the_same_spans() {
    for killed_after in 0..5 {
        let mut world = World::new().await;
        let mut sim = world.agent().await;
        let collector = Collector::default();
        collector.follow(&world).send().await.unwrap();
        let mut point = 0;
        macro_rules! kill_point {
            ($held:expr) => {
                if point == killed_after {
                    // Sent, and the note of it is lost with the process.
                    let before = position(&world).await;
                    collector.follow(&world).send().await.unwrap();
                    set_position(&world, before).await;
                    world.restart().await;
                    sim.hello(&world.engine, $held).await;
                }
                point += 1;
            };
        }
        let id = world.deploy().await;
        let offer = sim.offer().await;
        let held = [offer.fence];
        kill_point!(&held);
        sim.accept(&world.engine, offer.fence).await;
        kill_point!(&held);
        sim.grant(&world.engine, offer.fence, 0).await;
        kill_point!(&held);
        sim.finish(&world.engine, offer.fence, 0, code(0)).await.unwrap();
        kill_point!(&held);
        sim.grant(&world.engine, offer.fence, 1).await;
        sim.finish(&world.engine, offer.fence, 1, code(0)).await.unwrap();
        kill_point!(&[]);
        world.until(id, "succeeded").await;
        collector.follow(&world).send().await.unwrap();
        let spans = collector.spans();
        assert!(
            spans.iter().all(|span| span.trace == TraceId::of(id)),
            "its own id, since nobody's trace goes on in it"
        );
        let mut once: HashMap<_, Span> = HashMap::new();
        for span in &spans {
            let before = once.insert(span.id.bytes(), span.clone());
            assert!(before.is_none_or(|before| before == *span), "another span of the same id: {span:?}");
        }
        let once: Vec<_> = once.into_values().collect();
        assert_eq!(paths(&once), ALL, "killed after {killed_after} of {point}");
    }
}

async fn position(world: &World) -> i64 {
    let read = world.engine.store().read(|tx| Box::pin(async move { tx.trace_position().await }));
    let position: Result<_, store::Error> = read.await;
    position.unwrap().unwrap()
}

async fn set_position(world: &World, to: i64) {
    let write = world.engine.store().write(move |tx| Box::pin(async move { tx.set_trace_position(to).await }));
    let done: Result<_, store::Error> = write.await;
    done.unwrap();
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up_and_misses_nothing_for_an_hour() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let collector = Collector::default();
    let mut follower = collector.follow(&world);
    follower.send().await.unwrap();
    let id = world.deploy().await;
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    world.until(id, "succeeded").await;
    let away = || Failed::Later("nobody there".to_owned());
    collector.fail(away());
    assert!(follower.send().await.is_err());
    assert_eq!(collector.spans(), []);
    follower.send().await.unwrap();
    assert_eq!(paths(&collector.spans()), ALL);
    // Longer than that it is not waited for.
    let id = world.deploy().await;
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    world.until(id, "succeeded").await;
    world.clock.advance(Duration::from_secs(3_601));
    collector.fail(away());
    follower.send().await.unwrap();
    follower.send().await.unwrap();
    assert_eq!(collector.spans().len(), ALL.len(), "dropped");
    sim.hello(&world.engine, &[]).await;
    // Nor are spans sent again that the collector never takes.
    let id = world.deploy().await;
    let offer = sim.offer().await;
    collector.fail(Failed::Never("too long".to_owned()));
    follower.send().await.unwrap();
    sim.work(&world.engine, &offer, &[]).await;
    world.until(id, "succeeded").await;
    follower.send().await.unwrap();
    let root = SpanId::of(id, "deployment", "");
    assert!(collector.spans().iter().any(|span| span.id == root));
}

#[tokio::test]
async fn what_failed_says_so_and_a_try_that_was_lost_ends_with_its_attempt() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    world.steps("  - {name: one, image: tiny, run: echo one, retries: {max: 1, backoff: 1s}}\n").await;
    let collector = Collector::default();
    let mut follower = collector.follow(&world);
    follower.send().await.unwrap();
    let id = world.deploy().await;
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    sim.grant(&world.engine, offer.fence, 0).await;
    let next = sim.finish(&world.engine, offer.fence, 0, code(3)).await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(1));
    sim.grant(&world.engine, offer.fence, next).await;
    // The agent comes back without it.
    sim.hello(&world.engine, &[]).await;
    world.until(id, "lost").await;
    follower.send().await.unwrap();
    let spans = collector.spans();
    let one = |name: &str| {
        let mut found = spans.iter().filter(|span| span.name == name);
        let span = found.next().unwrap_or_else(|| panic!("{name}: {:?}", paths(&spans)));
        assert_eq!(found.next(), None, "{name}");
        span
    };
    assert!(one("try 1").attributes.contains(&("longshore.exit_code", Field::Number(3))));
    for name in ["deploy shop/dev", "step one", "try 1", "try 2", "attempt"] {
        assert!(one(name).error.is_some(), "{name}");
    }
    assert!(says(one("try 2"), "longshore.state", "lost") && says(one("attempt"), "longshore.state", "lost"));
    assert_eq!(one("wait for an agent").error, None);
}

#[tokio::test]
async fn nothing_is_sent_of_what_was_before_or_who_asked_does_not_record() {
    let mut world = World::new().await;
    let mut sim = world.agent().await;
    let id = world.deploy().await;
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    world.until(id, "succeeded").await;
    let collector = Collector::default();
    let mut follower = collector.follow(&world);
    follower.send().await.unwrap();
    let quiet: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse().unwrap();
    let id = world.ask(NewDeployment { trace_parent: Some(quiet), ..NewDeployment::default() }).await.unwrap();
    let offer = sim.offer().await;
    sim.work(&world.engine, &offer, &[]).await;
    world.until(id, "succeeded").await;
    follower.send().await.unwrap();
    assert_eq!(collector.spans(), []);
    assert_eq!(world.view(id).await.trace_id, quiet.trace.to_string());
}
