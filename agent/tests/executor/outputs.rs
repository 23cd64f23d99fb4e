//! Outputs that steps write to their file, in every kind of container.

use longshore_core::offer::Profile;

use crate::bench::{Bench, SCRATCH, TINY, TINY_1234, TINY_NAMED, plan};

const CANARY: &str = "Zq7-output-canary";

#[tokio::test]
async fn outputs_come_from_any_image_user_and_profile() {
    let bench = Bench::new().await;
    let secret = format!(r#"{{"name":"pw","value":"{CANARY}","secret":true}}"#);
    let script = format!("echo url=http://x >> $LONGSHORE_OUTPUT; echo '{secret}' >> $LONGSHORE_OUTPUT; pwd");
    for image in [TINY, TINY_1234, TINY_NAMED, SCRATCH] {
        for profile in [Profile::Standard, Profile::Locked] {
            let mut attempt = bench.attempt();
            let mut one = plan(image, &script);
            one.profile = profile;
            let (dir, created) = bench.started(&mut attempt, &one).await.unwrap();
            let outcome = bench.ended(&dir, &created.id).await;
            let record = outcome.record.clone();
            assert_eq!((record.error, record.code), (None, Some(0)), "{image} {profile:?}: {}", outcome.text());
            assert_eq!(record.outputs.into_iter().collect::<Vec<_>>(), [("url".to_owned(), "http://x".into())]);
            assert_eq!(record.secret_outputs.keys().collect::<Vec<_>>(), ["pw"]);
            assert_eq!(Bench::on_disk(dir.path(), CANARY), None);
        }
    }
}

#[tokio::test]
async fn each_step_has_a_file_of_its_own_that_any_user_of_it_may_add_to() {
    let bench = Bench::new().await;
    let mut attempt = bench.attempt();
    let script = "echo a=1 >> $LONGSHORE_OUTPUT; su -s /bin/sh pulumi -c 'id -u; echo b=2 >> $LONGSHORE_OUTPUT; cat $LONGSHORE_OUTPUT'; ls";
    let outcome = bench.run_in(&mut attempt, &plan(TINY, script)).await.unwrap();
    let text = outcome.text();
    assert!(text.contains("1000\n") && !text.contains("a=1"), "{text}");
    assert_eq!(outcome.record.outputs.keys().collect::<Vec<_>>(), ["a", "b"]);
    let mut two = plan(TINY, "cat $LONGSHORE_OUTPUT; ls -A");
    two.index = 1;
    let outcome = bench.run_in(&mut attempt, &two).await.unwrap();
    assert_eq!((outcome.text().as_str(), outcome.record.outputs.len()), ("", 0));
    bench.executor.remove_volume(attempt.offer.fence.attempt).await.unwrap();
}

#[tokio::test]
async fn a_job_cannot_make_init_read_what_it_may_not() {
    let bench = Bench::new().await;
    for script in [
        "rm $LONGSHORE_OUTPUT; ln -s /proc/1/environ $LONGSHORE_OUTPUT",
        "rm $LONGSHORE_OUTPUT; /bin/busybox mkfifo $LONGSHORE_OUTPUT",
        "rm $LONGSHORE_OUTPUT; /bin/busybox mv /run /moved; mkdir -p /run/longshore; ln -s /proc/1/environ /run/longshore/output; \
         ln -s /proc/1/environ /moved/longshore/output",
    ] {
        let record = bench.run(&plan(TINY, script)).await.record;
        let error = record.error.unwrap_or_default();
        assert!(error.contains("no regular file") && record.outputs.is_empty(), "{script}: {error}");
    }
}
