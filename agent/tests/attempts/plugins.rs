//! What the controller hears of the pool's plugins.

use longshore_agent::executor::NotReady;
use longshore_core::plugins::{Kind, Origin, Plugin, digest};
use longshore_proto::{convert, v1};
use v1::session_request::Message as Up;
use v1::session_response::Message as Down;

use crate::controller::Seen;
use crate::world::World;

fn plugin(name: &str) -> Plugin {
    Plugin {
        kind: Kind::Resource,
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        checksum: format!("sha256:{}", "a".repeat(64)),
        from: Origin::Folder { folder: "/srv".to_owned() },
    }
}

async fn said(world: &mut World) -> v1::PluginsState {
    world.controller.wait(|seen| if let Seen::Said(Up::Plugins(said)) = seen { Some(said.clone()) } else { None }).await
}

#[tokio::test]
async fn an_agent_says_when_the_pool_s_plugins_are_ready_and_why_not() {
    let mut world = World::new().await;
    let set = [plugin("x")];
    world.controller.say(Down::Plugins(convert::plugin_set(&set)));
    let way = said(&mut world).await;
    assert_eq!((way.digest.as_str(), way.ready, way.message.as_str()), (digest(&set).as_str(), false, "on their way"));
    world.runtime.plugins.send_replace(Some(Err(NotReady("plugin x has another checksum".to_owned()))));
    let failed = said(&mut world).await;
    assert!(!failed.ready && failed.message.contains("another checksum"), "{failed:?}");
    // Another set is begun with at once.
    world.runtime.plugins.send_replace(Some(Ok(())));
    let set = [plugin("y")];
    world.controller.say(Down::Plugins(convert::plugin_set(&set)));
    let mut ready = said(&mut world).await;
    while !ready.ready {
        ready = said(&mut world).await;
    }
    assert_eq!(ready.digest, digest(&set));

    // A restarted agent says in its first word which set it has before it is told any.
    world.kill_agent().await;
    world.start_agent();
    let hello = world.controller.hello().await;
    let known = hello.plugins.unwrap();
    assert!(known.digest == digest(&set) || known.digest.is_empty());
    world.controller.plan(|state| state.plugins = vec![]);
    world.finish().await;
}
