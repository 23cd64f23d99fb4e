//! The control stream, and who may open one.

use std::path::Path;
use std::time::Duration;

use longshore_agent::app::{self, By, enroll};
use longshore_agent::attest::Cloud;
use longshore_agent::config::{Config, Flags};
use longshore_agent::identity::{self, Identity};
use longshore_agent::session::{Client, Dialer};
use longshore_agent::supervisor::Stop;
use longshore_agent::water::Marks;
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
async fn a_probe_says_whether_a_container_can_be_run() {
    let mut world = World::new().await;
    let ask = |request| v1::session_response::Message::Probe(v1::Probe { request });
    let told = |seen: &Seen| match seen {
        Seen::Said(v1::session_request::Message::ProbeEnded(told)) => Some((told.request, told.error.clone())),
        _ => None,
    };
    world.controller.say(ask(7));
    assert_eq!(world.controller.wait(told).await, (7, String::new()));
    *world.runtime.ill.lock().unwrap() = Some("no space left".to_owned());
    world.controller.say(ask(8));
    let (request, error) = world.controller.wait(told).await;
    assert!(request == 8 && error.contains("no space left"), "{error}");
    world.finish().await;
}

#[tokio::test]
async fn too_little_disk_is_told_at_once_and_no_offer_is_taken_until_there_is_more() {
    let mut world = World::new().await;
    world.controller.plan(|state| state.heartbeat_seconds = 3_600);
    let low = |seen: &Seen| match seen {
        Seen::Said(v1::session_request::Message::Heartbeat(beat)) => {
            let low = &beat.host.as_ref()?.low;
            let low = low.iter().map(|low| (low.what.clone(), low.engine_root.clone())).collect::<Vec<_>>();
            Some(low).filter(|low| !low.is_empty())
        }
        _ => None,
    };
    world.about.send_modify(|about| about.marks = Marks { bytes: u64::MAX, inodes: 0 });
    let hello = world.controller.hello().await;
    let (room, largest) = (hello.room.unwrap(), hello.largest.unwrap());
    let host = hello.host.unwrap();
    assert_eq!((room.memory_bytes, largest.cpus_milli), (host.memory_total - (1 << 20), 1_500));
    // Of the two disks the engine's has less, so that is what jobs have.
    let engine = host.engine_disk.unwrap();
    assert!(host.disk_available > 0 && engine.root == "/proc" && engine.available == 0, "{engine:?}");
    assert_eq!((room.disk_bytes, host.disk_spare), (0, Some(0)));
    if host.low.is_empty() {
        let both = ["", "/proc"].map(|root| ("disk".to_owned(), root.to_owned()));
        assert_eq!(world.controller.wait(low).await, both);
    }
    let offer = offer(1, 1);
    world.controller.say(v1::session_response::Message::Offer(offer.clone().into()));
    let answer = world.controller.answered().await;
    assert!(!answer.accepted && answer.reason.contains("it takes jobs again at"), "{}", answer.reason);
    world.about.send_modify(|about| about.marks = Marks::default());
    world.controller.hello().await;
    // The new mark is looked at beside the new stream, so it may take another try.
    loop {
        world.controller.say(v1::session_response::Message::Offer(offer.clone().into()));
        if world.controller.answered().await.accepted {
            break;
        }
    }
    world.runtime.started(offer.fence, 0).await;
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
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

fn token(text: &str) -> By {
    By::Token(Secret::new(text.to_owned()))
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
    let refused = enroll(&config, token("bad"), false).await.unwrap_err();
    assert!(matches!(&refused, app::Error::Enroll(cause) if cause.to_string().contains("join token")), "{refused:?}");
    assert!(matches!(Identity::load(&config.state_dir), Err(identity::Error::NotEnrolled { .. })));

    let enrolled = enroll(&config, token("good"), false).await.unwrap();
    assert_eq!(enrolled.agent, agent_id());
    assert_eq!(Identity::load(&config.state_dir).unwrap(), enrolled);
    let again = enroll(&config, token("good"), false).await.unwrap_err();
    assert!(matches!(again, app::Error::Identity(identity::Error::Enrolled { .. })));
    let forced = enroll(&config, token("good"), true).await.unwrap();
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
    let error = enroll(&config, token("good"), false).await.unwrap_err();
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

#[tokio::test]
async fn a_machine_enrolls_by_what_its_cloud_says_and_asks_again_with_the_same_key() {
    let (mut controller, dir) = (Controller::start().await, tempfile::tempdir().unwrap());
    let metadata = longshore_cloud_fakes::Aws::instance("i-0123456789abcdef0");
    let mut config = config(&controller, dir.path());
    config.join_endpoint = Some(metadata.endpoint().parse().unwrap());
    let by = By::Machine(Cloud::Aws);
    // The answer is lost: whether it was enrolled is not known here.
    controller.plan(|state| state.lose_enrolments = 1);
    let error = enroll(&config, by.clone(), false).await.unwrap_err();
    assert!(matches!(error, app::Error::Enroll(_)), "{error:?}");
    let first = controller.proven().await;
    let enrolled = enroll(&config, by.clone(), false).await.unwrap();
    let second = controller.proven().await;
    assert_eq!(first.csr_pem, second.csr_pem, "another key would be another agent");
    assert_ne!(first.nonce, second.nonce);
    assert!(second.join_token.is_empty() && second.previous_certificate_pem.is_empty());
    let Some(v1::CloudProof { proof: Some(v1::cloud_proof::Proof::Aws(aws)) }) = second.proof else {
        panic!("no proof")
    };
    assert_eq!(aws.document, "ZmFrZQ==");
    let request = aws.request.unwrap();
    assert_eq!(request.url, "https://sts.eu-west-1.amazonaws.com/");
    let nonce = request.headers.iter().find(|header| header.name == "x-longshore-nonce").unwrap();
    assert_eq!(nonce.value, longshore_core::join::binding(&second.nonce, &second.csr_pem));
    assert!(!dir.path().join("state/enrolling.json").exists());

    // By force: another key, and it shows that it had the former one.
    let forced = enroll(&config, by, true).await.unwrap();
    assert_ne!(forced.key_pem, enrolled.key_pem);
    let third = controller.proven().await;
    assert_eq!(third.previous_certificate_pem, enrolled.certificate_pem);
    assert!(!third.previous_signature.is_empty() && third.csr_pem != second.csr_pem);
}

#[tokio::test]
async fn a_metadata_service_that_is_none_is_named() {
    let (controller, dir) = (Controller::start().await, tempfile::tempdir().unwrap());
    let mut config = config(&controller, dir.path());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.join_endpoint = Some(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    drop(listener);
    for cloud in [Cloud::Aws, Cloud::Gcp, Cloud::Azure] {
        let error = enroll(&config, By::Machine(cloud), false).await.unwrap_err().to_string();
        assert!(error.contains("nothing was changed") && error.contains(cloud.as_str()), "{error}");
    }
    assert!(matches!(Identity::load(&config.state_dir), Err(identity::Error::NotEnrolled { .. })));
}

#[tokio::test]
async fn a_drained_agent_takes_its_leave_and_one_with_jobs_does_not() {
    let mut world = World::new().await;
    world.tell(Stop::Drain);
    world.ended().await;
    assert!(world.controller.left());
    let mut world = World::new().await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.tell(Stop::Drain);
    world.tell(Stop::Now);
    world.ended().await;
    assert!(!world.controller.left());
}
