//! What clouds are asked, against fakes of their documented answers.

#![expect(clippy::unwrap_used, reason = "helpers of tests are outside test functions")]

use longshore_cloud::aws::{AutoScaling, Ec2, Hook, Instance, Member};
use longshore_cloud::azure::EventKind;
use longshore_cloud::gcp::Maintenance;
use longshore_cloud::imds::{Imds, SpotAction};
use longshore_cloud::{Error, azure, gcp};
use longshore_cloud_fakes::{Aws, Azure, AzureEvent, Gcp};
use longshore_core::time::Timestamp;

const INSTANCE: &str = "i-0123456789abcdef0";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn imds(fake: &Aws) -> Imds {
    Imds::new(fake.endpoint().parse().unwrap())
}

#[tokio::test]
async fn an_instance_says_who_it_is_and_what_becomes_of_it() {
    let fake = Aws::instance(INSTANCE);
    let imds = imds(&fake);
    assert_eq!(
        (imds.instance_id().await.unwrap().as_str(), imds.region().await.unwrap().as_str()),
        (INSTANCE, "eu-west-1")
    );
    assert_eq!((imds.spot_action().await.unwrap(), imds.rebalance().await.unwrap()), (None, None));
    assert_eq!(imds.target_state().await.unwrap().as_deref(), Some("InService"));
    fake.with(|machine| {
        machine.spot = Some(("terminate", "2026-11-28T21:02:00Z".to_owned()));
        machine.rebalance = Some("2026-11-28T21:00:00Z".to_owned());
        machine.target = None;
    });
    let action = SpotAction { action: "terminate".to_owned(), at: at("2026-11-28T21:02:00Z") };
    assert_eq!(imds.spot_action().await.unwrap(), Some(action));
    assert_eq!(imds.rebalance().await.unwrap(), Some(at("2026-11-28T21:00:00Z")));
    assert_eq!(imds.target_state().await.unwrap(), None);
    let document = imds.identity_document().await.unwrap();
    assert!(document.document.starts_with(b"{\n  \"accountId\""), "byte for byte");
    assert_eq!((document.pkcs7.as_str(), document.rsa2048.as_str()), ("ZmFrZQ==", "ZmFrZQ=="));
}

#[tokio::test]
async fn one_token_serves_until_it_is_refused() {
    let fake = Aws::instance(INSTANCE);
    let imds = imds(&fake);
    let tokens = || fake.asked().iter().filter(|asked| asked.method == "PUT").count();
    for _ in 0..3 {
        imds.instance_id().await.unwrap();
    }
    assert_eq!(tokens(), 1);
    fake.forget_token();
    imds.instance_id().await.unwrap();
    assert_eq!(tokens(), 2);
    assert!(!format!("{imds:?}").contains("AQAEA"), "a token is a secret");
}

#[tokio::test]
async fn the_group_is_told_by_signed_calls() {
    let fake = Aws::instance(INSTANCE);
    let who = imds(&fake).credentials().await.unwrap();
    let api = AutoScaling::new("eu-west-1", Some(fake.endpoint().parse().unwrap()));
    let now = at("2026-11-28T21:00:00Z");
    let member = Member { group: "workers".to_owned(), state: "InService".to_owned(), protected: false };
    assert_eq!(api.member(&who, INSTANCE, now).await.unwrap(), Some(member));
    assert_eq!(api.member(&who, "i-00000000", now).await.unwrap(), None);
    let hook = api.hook(&who, "workers", "drain", now).await.unwrap().unwrap();
    let seconds = std::time::Duration::from_secs;
    assert_eq!(hook, Hook { name: "drain".to_owned(), heartbeat_timeout: seconds(60), global_timeout: seconds(3_600) });
    assert_eq!(api.hook(&who, "workers", "other", now).await.unwrap(), None);

    // Nothing waits for the hook yet, and the group says so.
    let early = api.heartbeat(&who, ("workers", "drain"), INSTANCE, now).await.unwrap_err();
    assert!(
        matches!(&early, Error::Refused { status: 400, said, .. } if said.starts_with("ValidationError: No active")),
        "{early}"
    );
    fake.with(|machine| machine.target = Some("Terminated"));
    api.heartbeat(&who, ("workers", "drain"), INSTANCE, now).await.unwrap();
    api.protect(&who, "workers", INSTANCE, true, now).await.unwrap();
    assert!(fake.with(|machine| machine.protected));
    api.protect(&who, "workers", INSTANCE, false, now).await.unwrap();
    api.complete(&who, ("workers", "drain"), INSTANCE, now).await.unwrap();
    assert_eq!(fake.with(|machine| (machine.heartbeats, machine.completed, machine.protected)), (1, true, false));
    fake.with(|machine| machine.api_down = true);
    let error = api.complete(&who, ("workers", "drain"), INSTANCE, now).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 503, .. }), "{error}");
}

#[tokio::test]
async fn ec2_says_where_an_instance_is() {
    let fake = Aws::instance(INSTANCE);
    let who = imds(&fake).credentials().await.unwrap();
    let ec2 = Ec2::new("eu-central-1", Some(fake.endpoint().parse().unwrap()));
    let now = at("2026-11-28T21:00:00Z");
    let network = Some("vpc-0123456789abcdef0".to_owned());
    let found = ec2.instance(&who, INSTANCE, now).await.unwrap();
    let owner = Some("111122223333".to_owned());
    assert_eq!(found, Some(Instance { state: "running".to_owned(), owner, vpc: network }));
    assert_eq!(ec2.instance(&who, "i-0ffffffffffffffff", now).await.unwrap(), None);
    fake.with(|machine| machine.placed = ("terminated", None));
    assert_eq!(ec2.instance(&who, INSTANCE, now).await.unwrap().unwrap().vpc, None);
    fake.with(|machine| machine.api_down = true);
    assert!(matches!(ec2.instance(&who, INSTANCE, now).await, Err(Error::Refused { status: 503, .. })));
}

#[tokio::test]
async fn what_answers_at_every_address_is_not_believed() {
    let fake = Aws::instance(INSTANCE);
    for garbage in [
        "",
        "<html><body>Welcome to the portal</body></html>",
        "{}",
        "{\"action\":\"x\",\"time\":\"y\"}",
        "a\u{7f}b",
        "ok",
    ] {
        fake.with(|machine| machine.garbage = Some(garbage.to_owned()));
        let imds = imds(&fake);
        let wrong = |error: &Error| matches!(error, Error::Garbage { .. });
        assert!(wrong(&imds.spot_action().await.unwrap_err()), "{garbage}");
        assert!(wrong(&imds.rebalance().await.unwrap_err()), "{garbage}");
        assert!(wrong(&imds.target_state().await.unwrap_err()), "{garbage}");
        assert!(wrong(&imds.instance_id().await.unwrap_err()), "{garbage}");
        assert!(wrong(&imds.credentials().await.unwrap_err()), "{garbage}");
    }
    let (gcp_fake, azure_fake) = (Gcp::instance(), Azure::machine());
    let gcp = gcp::Metadata::new(gcp_fake.endpoint().parse().unwrap());
    let azure = azure::Metadata::new(azure_fake.endpoint().parse().unwrap());
    for garbage in ["TRUE", "{\"Events\":[]}", "<html>"] {
        gcp_fake.with(|machine| machine.garbage = Some(garbage.to_owned()));
        azure_fake.with(|machine| machine.garbage = Some(garbage.to_owned()));
        assert!(matches!(gcp.preempted().await.unwrap_err(), Error::Garbage { .. }));
        assert!(matches!(azure.events().await.unwrap_err(), Error::Garbage { .. }));
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_reached() {
    let gone = Aws::instance(INSTANCE).endpoint();
    let error = Imds::new(gone.parse().unwrap()).spot_action().await.unwrap_err();
    assert!(matches!(error, Error::Unreached { .. }), "{error}");
    assert!(error.full().starts_with(&format!("`{gone}/latest/api/token` is not reached: ")), "{}", error.full());
}

#[tokio::test]
async fn an_instance_of_compute_engine_says_what_becomes_of_it() {
    let fake = Gcp::instance();
    let metadata = gcp::Metadata::new(fake.endpoint().parse().unwrap());
    assert!(!metadata.preempted().await.unwrap());
    assert_eq!(metadata.maintenance().await.unwrap(), Maintenance::None);
    fake.with(|machine| (machine.preempted, machine.maintenance) = (true, "TERMINATE_ON_HOST_MAINTENANCE"));
    assert!(metadata.preempted().await.unwrap());
    assert_eq!(metadata.maintenance().await.unwrap(), Maintenance::Terminate);
    let instance = metadata.instance().await.unwrap();
    assert_eq!((instance.zone.as_str(), instance.project.as_str()), ("europe-west1-b", "shop-workers"));
    assert_eq!(metadata.access_token().await.unwrap().token.expose(), "ya29.fake");
    assert_eq!(metadata.identity_token("https://longshore.example").await.unwrap().expose(), "e30.e30.c2ln");
}

#[tokio::test]
async fn a_machine_of_azure_has_events_and_acknowledges_them() {
    let fake = Azure::machine();
    let metadata = azure::Metadata::new(fake.endpoint().parse().unwrap());
    assert_eq!(metadata.events().await.unwrap(), []);
    let event = |kind, not_before: &str| AzureEvent { kind, machine: "workers_1", not_before: not_before.to_owned() };
    fake.with(|machine| {
        machine.events = vec![event("Preempt", "Sat, 28 Nov 2026 21:00:30 GMT"), event("Freeze", "")];
    });
    let events = metadata.events().await.unwrap();
    assert_eq!((events[0].kind, events[0].not_before), (EventKind::Preempt, Some(at("2026-11-28T21:00:30Z"))));
    assert_eq!((events[1].kind, events[1].started, events[1].not_before), (EventKind::Freeze, true, None));
    metadata.acknowledge(&events[0].id).await.unwrap();
    assert_eq!(fake.with(|machine| machine.acknowledged.clone()), [events[0].id.clone()]);
    assert_eq!(metadata.machine().await.unwrap().name, "workers_1");
    assert_eq!(metadata.attested_document("1234567890").await.unwrap(), "ZmFrZQ==");
    assert_eq!(metadata.access_token("x").await.unwrap().expires_in.as_secs(), 3_599);
    fake.with(|machine| machine.events = vec![event("Surprise", "")]);
    assert!(matches!(metadata.events().await.unwrap_err(), Error::Garbage { .. }));
}
