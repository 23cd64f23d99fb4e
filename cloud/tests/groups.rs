//! Groups that are scaled, against fakes of their documented answers.

#![expect(clippy::unwrap_used, reason = "helpers of tests are outside test functions")]

use longshore_cloud::aws::{AutoScaling, Groups as AwsGroups};
use longshore_cloud::azure::group::ScaleSet;
use longshore_cloud::gcp::group::Group as GcpGroup;
use longshore_cloud::imds::Imds;
use longshore_cloud::{Endpoint, Error};
use longshore_cloud_fakes::{GroupKind, Groups};
use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;

fn endpoint(fake: &Groups) -> Endpoint {
    fake.endpoint().parse().unwrap()
}

#[tokio::test]
async fn an_auto_scaling_group_grows_and_ends_the_instance_that_is_named() {
    let fake = Groups::of(GroupKind::Aws, &["i-00000001", "i-00000002"]);
    let now: Timestamp = "2026-11-28T21:00:00Z".parse().unwrap();
    let who = Imds::new(endpoint(&fake)).credentials().await.unwrap();
    let groups = AwsGroups::new(&AutoScaling::new("eu-west-1", Some(endpoint(&fake))));
    let group = groups.group(&who, "workers", now).await.unwrap().unwrap();
    assert_eq!((group.desired, group.min, group.max), (2, 0, 50));
    assert_eq!(group.instances, ["i-00000001", "i-00000002"]);
    assert_eq!(groups.group(&who, "others", now).await.unwrap(), None);
    groups.set_desired(&who, "workers", 5, now).await.unwrap();
    assert_eq!(fake.with(|group| group.capacity), 5);
    groups.terminate(&who, "i-00000002", now).await.unwrap();
    assert_eq!(fake.with(|group| (group.capacity, group.ended.clone())), (4, vec!["i-00000002".to_owned()]));
    let refused = groups.terminate(&who, "i-00000009", now).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { status: 400, said, .. } if said.contains("No managed instance found")));
    assert!(groups.set_desired(&who, "workers", 51, now).await.is_err());
}

#[tokio::test]
async fn a_managed_instance_group_grows_and_deletes_the_instance_that_is_named() {
    let fake = Groups::of(GroupKind::Gcp, &["workers-a1b2", "workers-c3d4"]);
    let token = Secret::new("ya29.fake".to_owned());
    let group = GcpGroup::new(endpoint(&fake), "shop", "zones/europe-west3-a", "workers");
    assert_eq!(group.target_size(&token).await.unwrap(), 2);
    let members = group.members(&token).await.unwrap();
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["workers-a1b2", "workers-c3d4"]);
    group.resize(&token, 4).await.unwrap();
    group.delete(&token, &members[1..]).await.unwrap();
    assert_eq!(fake.with(|group| (group.capacity, group.ended.clone())), (3, vec!["workers-c3d4".to_owned()]));
    let refused = group.target_size(&Secret::new("other".to_owned())).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { status: 401, .. }) && !refused.full().contains("other"), "{refused}");
}

#[tokio::test]
async fn a_scale_set_grows_and_deletes_the_machine_that_is_named() {
    let fake = Groups::of(GroupKind::Azure, &["workers00000a", "workers00000b"]);
    let token = Secret::new("eyJ.fake".to_owned());
    let set = ScaleSet::new(endpoint(&fake), "sub", "shop", "workers");
    let sku = set.sku(&token).await.unwrap();
    assert_eq!(sku.capacity(), Some(2));
    set.set_capacity(&token, &sku, 3).await.unwrap();
    let members = set.members(&token).await.unwrap();
    assert!(members[1].is_called("WORKERS00000B") && members[1].is_called("workers_1") && !members[1].is_called(""));
    set.delete(&token, &[&members[1].instance_id]).await.unwrap();
    assert_eq!(fake.with(|group| (group.capacity, group.ended.clone())), (2, vec!["workers00000b".to_owned()]));
}
