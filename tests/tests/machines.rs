//! Machines that join by what their cloud says of them: a real controller, real agents, and a metadata service that is made up.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::process::Command;

use longshore_cloud_fakes::{Answer, Aws, Fake};
use longshore_tests::fleet::Fleet;
use longshore_tests::process::{run, wait_for};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const REGION: &str = "eu-central-1";
const ACCOUNT: &str = "111122223333";

fn openssl(args: &[&str]) {
    let done = Command::new("openssl").args(args).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A region of AWS with a key of its own, made and used by OpenSSL.
struct Region(tempfile::TempDir);

impl Region {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let region = Self(dir);
        let (key, certificate) = (region.path("key.pem"), region.path("region.pem"));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-sha256",
            "-days",
            "30",
            "-subj",
            "/O=Amazon Web Services LLC",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
        region
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// An instance that was started just now, as its metadata service shows it.
    fn instance(&self, id: &str) -> Fake<String> {
        let pending = run(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]), b"").ok().text();
        let document = json!({"accountId": ACCOUNT, "region": REGION, "instanceId": id, "pendingTime": pending.trim(), "version": "2017-09-30"});
        let (text, signed) = (self.path("document"), self.path("signed"));
        std::fs::write(&text, document.to_string()).unwrap();
        openssl(&[
            "cms",
            "-sign",
            "-binary",
            "-nodetach",
            "-stream",
            "-md",
            "sha256",
            "-nocerts",
            "-in",
            &text,
            "-signer",
            &self.path("region.pem"),
            "-inkey",
            &self.path("key.pem"),
            "-outform",
            "PEM",
            "-out",
            &signed,
        ]);
        let pem = std::fs::read_to_string(&signed).unwrap();
        let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let document = document.to_string();
        Fake::start(lines.join("\n"), move |rsa2048, asked| {
            Some(match asked.path.as_str() {
                "/latest/api/token" => Answer::ok("token"),
                "/latest/dynamic/instance-identity/document" => Answer::ok(document.clone()),
                "/latest/dynamic/instance-identity/rsa2048" | "/latest/dynamic/instance-identity/pkcs7" => {
                    Answer::ok(rsa2048.clone())
                }
                _ => Answer::nothing(),
            })
        })
    }
}

fn agents(fleet: &Fleet, more: &[&str]) -> Vec<Value> {
    fleet.json(&[&["agents"], more].concat()).as_array().unwrap().clone()
}

#[test]
fn a_machine_joins_works_leaves_and_stays_out_when_it_is_cut_off() {
    let region = Region::new();
    let mut fleet =
        Fleet::start_with("2s", &format!("[join.aws.certificates]\n{REGION} = {:?}\n", region.path("region.pem")));
    let instance = region.instance("i-0123456789abcdef0");
    let more = format!("drain_timeout = \"60s\"\njoin = \"aws\"\njoin_endpoint = {:?}\n", instance.endpoint());

    // There is no rule yet: it tries, and says why not.
    let made = fleet.json(&["join-rule", "create", "--pool", "default", "--aws-account", "999922223333"]);
    fleet.write_agent("worker", made["ca_pem"].as_str().unwrap(), (&more, ""));
    fleet.start_agent("worker");
    wait_for("a refusal", || fleet.logs().contains("`aws-account` is not `111122223333`").then_some(()));
    assert!(agents(&fleet, &["--all"]).is_empty());
    let _rule =
        fleet.json(&["join-rule", "create", "--aws-account", ACCOUNT, "--aws-region", REGION, "--label", "zone=a"]);
    let joined =
        wait_for("the machine", || agents(&fleet, &[]).into_iter().find(|agent| agent["state"] == "connected"));
    assert_eq!(joined["machine"], format!("aws/{ACCOUNT}/i-0123456789abcdef0"));
    assert_eq!(joined["labels"], json!({"zone": "a"}));
    fleet.apply(&longshore_tests::spec("shop", "echo hello", "", ""));
    let id = fleet.deploy("shop");
    fleet.wait(&id, "succeeded", |show| show["state"] == "succeeded");

    // Drained, it is off the list; started again, it is the agent it was.
    fleet.signal("worker", Signal::SIGTERM);
    wait_for("its leave", || agents(&fleet, &[]).is_empty().then_some(()));
    assert_eq!(agents(&fleet, &["--all"])[0]["gone"], "left");
    fleet.start_agent("worker");
    let back = wait_for("its return", || agents(&fleet, &[]).into_iter().find(|agent| agent["state"] == "connected"));
    assert_eq!(back["id"], joined["id"]);

    // Another machine with the same document is refused: it is no other machine.
    fleet.write_agent("thief", made["ca_pem"].as_str().unwrap(), (&more, ""));
    fleet.start_agent("thief");
    wait_for("a refusal", || fleet.logs().contains("one machine is one agent").then_some(()));
    // Cut off, it loses its stream and does not come in again, with or without its key.
    let id = joined["id"].as_str().unwrap();
    let _cut = fleet.cli(&["agent", "revoke", id]).ok();
    wait_for("the end of its stream", || {
        fleet.logs().contains("this agent is not known here or was cut off").then_some(())
    });
    fleet.signal("worker", Signal::SIGKILL);
    fleet.forget_identity("worker");
    fleet.start_agent("worker");
    wait_for("a refusal", || fleet.logs().contains("its agent was cut off").then_some(()));
    assert_eq!(agents(&fleet, &["--all"]).len(), 1);
    let audit = fleet.cli(&["audit", "-o", "json"]).ok().text();
    let lines = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let refused = lines.filter(|line| line["action"] == "agent.enroll" && line["outcome"] == "refused");
    let conditions: Vec<_> = refused.map(|line| line["detail"]["condition"].clone()).collect();
    assert!(conditions.contains(&json!("aws-account")) && conditions.contains(&json!("machine")), "{conditions:?}");
}

#[test]
fn a_machine_that_the_cloud_says_is_terminated_frees_its_stack() {
    const INSTANCE: &str = "i-0123456789abcdef0";
    let (region, ec2) = (Region::new(), Aws::instance(INSTANCE));
    let more = format!(
        "[join.aws]\nec2_endpoint = {0:?}\nmetadata_endpoint = {0:?}\ncertificates.{REGION} = {1:?}\n",
        ec2.endpoint(),
        region.path("region.pem")
    );
    let mut fleet = Fleet::start_with("2s", &more);
    let made = fleet.json(&["join-rule", "create", "--aws-account", ACCOUNT, "--aws-region", REGION]);
    let instance = region.instance(INSTANCE);
    let more = format!("join = \"aws\"\njoin_endpoint = {:?}\n", instance.endpoint());
    fleet.write_agent("worker", made["ca_pem"].as_str().unwrap(), (&more, ""));
    fleet.start_agent("worker");
    wait_for("the machine", || agents(&fleet, &[]).into_iter().find(|agent| agent["state"] == "connected"));
    fleet.apply(&longshore_tests::spec("shop", "echo begun; sleep 600", "", ""));
    let id = fleet.deploy("shop");
    fleet.wait(&id, "running", |show| show["state"] == "running" && show["steps"][0]["state"] == "running");

    // Gone without a word, and EC2 knows it.
    assert_eq!(ec2.asked(), [], "nobody asks about a machine that is heard");
    ec2.with(|machine| machine.placed = ("terminated", None));
    fleet.signal("worker", Signal::SIGKILL);
    let lost = fleet.wait(&id, "lost", |show| show["state"] == "lost");
    assert!(lost.to_string().contains("is terminated; what the step had done by then stays done"), "{lost}");
    assert!(agents(&fleet, &[]).is_empty());
    assert_eq!(agents(&fleet, &["--all"])[0]["gone"], "terminated");
}
