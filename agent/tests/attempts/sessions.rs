//! The control stream, and who may open one.

use std::path::Path;
use std::time::Duration;

use longshore_agent::app::{self, enroll};
use longshore_agent::config::{Config, Flags};
use longshore_agent::identity::{self, Identity};
use longshore_agent::session::{Client, Dialer};
use longshore_core::secret::Secret;
use longshore_proto::v1;
use tonic::Status;

use crate::controller::{Controller, Seen, agent_id};
use crate::world::{World, offer};

#[tokio::test]
async fn the_hello_says_who_and_where() {
    let mut world = World::new().await;
    world.controller.drop_session(Status::unavailable("restart"));
    let hello = world.controller.hello().await;
    assert_eq!((hello.boot_id.as_str(), hello.instance_id.as_str(), hello.slots), ("boot", "instance", 1));
    assert_eq!((hello.mounts, hello.weakest_profile.as_str()), (vec!["state".to_owned()], "standard"));
    assert_eq!(hello.labels.get("zone").map(String::as_str), Some("a"));
    let host = hello.host.unwrap();
    assert!(host.cpus > 0 && host.memory_total > 0 && host.disk_total > 0 && host.engine_version == "fake");
    world.finish().await;
}

#[tokio::test]
async fn heartbeats_come_by_themselves_and_say_how_the_host_is() {
    let mut world = World::new().await;
    let beat = |seen: &Seen| {
        if let Seen::Said(v1::session_request::Message::Heartbeat(beat)) = seen { Some(beat.clone()) } else { None }
    };
    let (first, second) = (world.controller.wait(beat).await, world.controller.wait(beat).await);
    assert_eq!((first.sequence, second.sequence, second.free_slots), (1, 2, 1));
    assert!(second.host.unwrap().memory_available > 0);
    world.finish().await;
}

/// The controller offers the next job when it hears of the slot, so nobody waits for a heartbeat that comes by the clock.
#[tokio::test]
async fn a_slot_that_was_taken_or_freed_is_said_at_once() {
    let mut world = World::new().await;
    let free = |seen: &Seen| match seen {
        Seen::Said(v1::session_request::Message::Heartbeat(beat)) => Some(beat.free_slots),
        _ => None,
    };
    // The first beat of the first stream, so that it is not taken for that of the second.
    assert_eq!(world.controller.wait(free).await, 1);
    world.controller.plan(|state| state.heartbeat_seconds = 3_600);
    world.controller.drop_session(Status::unavailable("restart"));
    world.controller.hello().await;
    assert_eq!(world.controller.wait(free).await, 1);
    let offer = offer(1, 1);
    world.offer(&offer).await;
    assert_eq!(world.controller.wait(free).await, 0);
    world.runtime.started(offer.fence, 0).await;
    world.runtime.exit(offer.fence, 0, 0);
    assert_eq!(world.controller.wait(free).await, 1);
    world.finish().await;
}

#[tokio::test]
async fn the_digest_of_an_image_is_told_when_it_is_asked_for() {
    let mut world = World::new().await;
    let ask = |request, reference: &str| {
        let reference = reference.to_owned();
        v1::session_response::Message::ResolveImage(v1::ResolveImage { request, reference, pull: String::new() })
    };
    let told = |seen: &Seen| match seen {
        Seen::Said(v1::session_request::Message::ImageResolved(told)) => Some(told.clone()),
        _ => None,
    };
    world.controller.say(ask(7, "tiny"));
    let answer = world.controller.wait(told).await;
    assert_eq!((answer.request, answer.error.as_str()), (7, ""));
    assert!(!answer.digest.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_lost_or_replaced_stream_comes_back_and_the_job_does_not_notice() {
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    for status in
        [Status::unavailable("gone"), Status::aborted("replaced by a newer session"), Status::unauthenticated("who?")]
    {
        world.controller.drop_session(status);
        let held = world.controller.hello().await.held;
        assert_eq!((held.len(), held[0].started), (1, true));
    }
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    let container = world.runtime.container(offer.fence, 0);
    assert!(container.is_none_or(|container| container.starts == 1 && container.interrupts == 0));
    world.finish().await;
}

fn config(controller: &Controller, dir: &Path) -> Config {
    let ca_file = dir.join("ca.pem");
    std::fs::write(&ca_file, &controller.authority.ca_pem).unwrap();
    let text = format!(
        "controller = \"{}\"\nca_file = {ca_file:?}\nstate_dir = {:?}\n",
        controller.address,
        dir.join("state")
    );
    std::fs::write(dir.join("agent.toml"), text).unwrap();
    Config::load(&dir.join("agent.toml"), std::iter::empty(), Flags::default()).unwrap()
}

#[tokio::test]
async fn enrolling_happens_once_and_the_key_stays_here() {
    let (controller, dir) = (Controller::start().await, tempfile::tempdir().unwrap());
    let config = config(&controller, dir.path());
    let refused = enroll(&config, Secret::new("bad".to_owned()), false).await.unwrap_err();
    assert!(matches!(&refused, app::Error::Enroll(cause) if cause.to_string().contains("join token")), "{refused:?}");
    assert!(matches!(Identity::load(&config.state_dir), Err(identity::Error::NotEnrolled { .. })));

    let enrolled = enroll(&config, Secret::new("good".to_owned()), false).await.unwrap();
    assert_eq!(enrolled.agent, agent_id());
    assert_eq!(Identity::load(&config.state_dir).unwrap(), enrolled);
    let again = enroll(&config, Secret::new("good".to_owned()), false).await.unwrap_err();
    assert!(matches!(again, app::Error::Identity(identity::Error::Enrolled { .. })));
    let forced = enroll(&config, Secret::new("good".to_owned()), true).await.unwrap();
    assert_ne!(forced.key_pem, enrolled.key_pem);
    // With that identity the controller is reached.
    let client = Client::new(&Dialer::new(controller.address.clone(), &forced).unwrap());
    let new = identity::csr().unwrap();
    assert!(client.renew(&new.csr_pem).await.unwrap().0.contains("BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn a_controller_of_another_authority_gets_no_token() {
    let (controller, other, dir) = (Controller::start().await, Controller::start().await, tempfile::tempdir().unwrap());
    let mut config = config(&controller, dir.path());
    config.controller = other.address.clone();
    let error = enroll(&config, Secret::new("good".to_owned()), false).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("certificate"), "{cause}");
}

#[tokio::test]
async fn an_expired_certificate_is_said_with_what_to_do() {
    let (controller, dir) = (Controller::start().await, tempfile::tempdir().unwrap());
    let config = config(&controller, dir.path());
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2020, 1, 2));
    std::fs::create_dir(&config.state_dir).unwrap();
    let expired = Identity {
        certificate_pem: params.self_signed(&key).unwrap().pem(),
        key_pem: Secret::new(key.serialize_pem()),
        ..controller.identity()
    };
    expired.save(&config.state_dir).unwrap();
    let error =
        tokio::time::timeout(Duration::from_secs(30), app::run(config.clone(), Box::new(move || Ok(config.clone()))))
            .await
            .unwrap()
            .unwrap_err()
            .to_string();
    assert!(error.contains("expired") && error.contains("enroll --force"), "{error}");
}
