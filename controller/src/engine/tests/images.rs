//! Images of a release: told by an agent when it is made, or pinned by the first start.

use super::*;

/// Makes a release while an agent answers its questions.
async fn release_with(world: &World, sim: &mut Sim, told: Result<String, String>) -> ReleaseView {
    let answer = async {
        let ToAgent::ResolveImage { request, reference, .. } = sim.told().await else { panic!("no question") };
        assert_eq!(reference, "tiny");
        sim.say(&world.engine, Said::Image { request, told }).await.unwrap();
    };
    let (made, ()) = tokio::join!(world.engine.create_release("shop", NewRelease::default(), "anna"), answer);
    made.unwrap()
}

async fn knowing(world: &World) -> Sim {
    let id = world.enroll("default").await;
    let mut sim = Sim { images: true, ..Sim::new(id, 2) };
    sim.hello(&world.engine, &[]).await;
    sim
}

#[tokio::test]
async fn an_agent_tells_the_digest_and_another_one_is_refused() {
    let world = World::new().await;
    let mut sim = knowing(&world).await;
    let release = release_with(&world, &mut sim, Ok("sha256:2".to_owned())).await;
    assert_eq!(json!(release.images), json!({ "tiny": "sha256:2" }));
    let new = NewDeployment {
        project: "shop".to_owned(),
        environment: "dev".to_owned(),
        release: Some(release.version),
        operation_id: "op".to_owned(),
        ..NewDeployment::default()
    };
    let id = world.engine.create_deployment(new, "anna").await.unwrap();
    let offer = sim.offer().await;
    sim.accept(&world.engine, offer.fence).await;
    // The simulated engine has `sha256:1`.
    let answer = sim.confirm(&world.engine, offer.fence, 0, "n0").await.unwrap();
    let Confirmed::Failed(words) = answer else { panic!("{answer:?}") };
    assert!(words.contains("has moved") && words.contains("sha256:1") && words.contains("sha256:2"), "{words}");
    let view = world.until(id, "failed").await;
    assert_eq!(view.steps[0].attempts, [], "nothing was started");
}

#[tokio::test]
async fn what_no_agent_can_tell_is_pinned_by_the_first_start() {
    let mut world = World::new().await;
    let mut sim = knowing(&world).await;
    let release = release_with(&world, &mut sim, Err("no such image".to_owned())).await;
    assert_eq!(json!(release.images), json!({}));
    let (id, _) = world.running(&mut sim).await;
    let version = world.view(id).await.release;
    assert_ne!(version, release.version, "a deployment without a release is one of what is there now");
    let shown = world.engine.release("shop", &version).await.unwrap();
    assert_eq!(json!(shown.images), json!({ "tiny": "sha256:1" }));
}
