//! What machines of a cloud are made of: templates before the clouds' own validators, and user data on a machine.
//!
//! The validators come from the Python registry, at the versions of `packaging/cloud/requirements.txt`, into a folder below
//! `target/`; those for user data and for shell are in the Debian image. No cloud is asked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use longshore_tests::debian::{Debian, image};
use longshore_tests::dev::{binaries, checkout};
use longshore_tests::process::{Done, run, wait_for};
use longshore_tests::sha256;
use serde_json::Value;

use super::{longshore, packages};

/// Every template, and what it is called with.
const TEMPLATES: [(&str, &[&str]); 4] = [
    ("aws", &["aws/agents.yaml"]),
    ("gcp", &["gcp/Pulumi.yaml"]),
    ("azure", &["azure/agents.json"]),
    ("azure", &["azure/agents.json", "priority=Spot"]),
];
/// Where templates have what stands in a file of its own: how a line starts that it follows, and the indentation.
const SCRIPT: &str = "path: /usr/local/sbin/longshore-bootstrap";

fn folder() -> PathBuf {
    checkout().join("packaging/cloud")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The folder of the installed validators.
fn validators() -> &'static Path {
    static THERE: OnceLock<PathBuf> = OnceLock::new();
    THERE.get_or_init(|| {
        let python = run(Command::new("python3").arg("--version"), b"").ok().text();
        let digest = sha256(format!("{python}{}", read("requirements.txt")).as_bytes());
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
        let there = target.join("validators").join(&digest[..16]);
        if !there.exists() {
            std::fs::create_dir_all(target.join("validators")).unwrap();
            let half = tempfile::tempdir_in(target.join("validators")).unwrap();
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", "--target"]);
            pip.arg(half.path().join("all")).arg("--requirement").arg(folder().join("requirements.txt"));
            let _installed = run(pip.env_remove("PYTHONPATH"), b"").ok();
            // Whoever else installed them meanwhile has the same.
            let _moved = std::fs::rename(half.path().join("all"), &there).is_ok();
        }
        there
    })
}

/// A Python program of ours or of the validators.
fn python(program: &Path, args: &[&str], stdin: &str) -> Done {
    let mut python = Command::new("python3");
    python.arg(program).args(args).current_dir(folder()).env("PYTHONPATH", validators());
    run(&mut python, stdin.as_bytes())
}

fn check(args: &[&str]) -> Done {
    python(&folder().join("check.py"), args, "")
}

/// The user data of every template, and the one for single machines.
fn user_data() -> &'static [(String, String)] {
    static MADE: OnceLock<Vec<(String, String)>> = OnceLock::new();
    MADE.get_or_init(|| {
        blessed();
        let mut all = vec![("agent.yaml".to_owned(), read("agent.yaml"))];
        for (cloud, args) in TEMPLATES {
            let shown = check(&[&[cloud], args].concat());
            assert_eq!(shown.code, 0, "{args:?}: {}", shown.stderr);
            all.push((args.join(" "), shown.text()));
        }
        all
    })
}

/// A file that user data writes.
fn written<'d>(data: &'d Value, path: &str) -> &'d str {
    let files = data["write_files"].as_array().unwrap();
    let file = files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("no `{path}` in {data}"));
    file["content"].as_str().unwrap()
}

#[test]
fn templates_pass_the_clouds_own_validators() {
    let lint = |file: &str| {
        let args = ["--include-checks", "I", "--regions", "us-east-1", "eu-central-1", "--", file];
        python(&validators().join("bin/cfn-lint"), &args, "")
    };
    let found = lint("aws/agents.yaml");
    assert_eq!(found.code, 0, "{}", found.text());
    assert_eq!(user_data().len(), TEMPLATES.len() + 1);

    // That a mistake is found is seen by making some.
    let wrong = tempfile::tempdir().unwrap();
    std::fs::create_dir(wrong.path().join("t")).unwrap();
    std::fs::write(wrong.path().join("bootstrap.sh"), "").unwrap();
    let with = |template: &str, from: &str, to: &str| {
        let text = read(template);
        assert!(text.contains(from), "{template} has no {from:?}");
        let path = wrong.path().join("t").join(Path::new(template).file_name().unwrap());
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let found = lint(&with("aws/agents.yaml", "HttpTokens: required", "HttpTokens: demanded"));
    assert!(found.code != 0 && found.text().contains("demanded"), "{}", found.text());
    for (cloud, template, from, to, said) in [
        ("gcp", "gcp/Pulumi.yaml", "autoDelete", "autodelete", "there is no `autodelete`"),
        ("gcp", "gcp/Pulumi.yaml", "boot: true", "boot: maybe", "'maybe' is none of"),
        ("gcp", "gcp/Pulumi.yaml", "      machineType: ${machineType}\n", "", "`machineType` is missing"),
        ("gcp", "gcp/Pulumi.yaml", "${account.email}\n", "${account.mail}\n", "names nothing"),
        ("azure", "azure/agents.json", "\"Uniform\"", "\"Uniformly\"", "'Uniformly' is none of"),
        ("azure", "azure/agents.json", "\"overprovision\"", "\"overProvision\"", "there is no `overProvision`"),
        ("azure", "azure/agents.json", "\"enable\": true", "\"enable\": \"yes\"", "'yes' is none of"),
    ] {
        let found = check(&[cloud, &with(template, from, to)]);
        assert!(found.code != 0 && found.stderr.contains(said), "{template} with {to:?}: {}", found.stderr);
    }
}

#[test]
fn user_data_holds_for_cloud_init_the_agent_and_the_shell() {
    let all = user_data();
    let folder = tempfile::tempdir().unwrap();
    let script = read("bootstrap.sh");
    for (number, (name, text)) in all.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number}.yaml")), text).unwrap();
        let data: Value =
            serde_json::from_slice(&python(&self::folder().join("check.py"), &["files"], text).ok().stdout).unwrap();
        assert_eq!(
            written(&data, "/usr/local/sbin/longshore-bootstrap"),
            script,
            "{name}: LONGSHORE_BLESS=1 puts it in"
        );
        let runs = data["runcmd"].as_array().unwrap();
        assert_eq!((runs.len(), runs[0].as_array().unwrap().len()), (1, 3), "{name}");
        assert_eq!(runs[0][0], "/usr/local/sbin/longshore-bootstrap", "{name}");
        assert_eq!(runs[0][2].as_str().unwrap().len(), 64, "{name}");
        // EC2 takes no more than 16 KiB; the others more.
        assert!(text.len() < 16 << 10, "{name} has {} bytes", text.len());

        let config = written(&data, "/etc/longshore/agent.toml");
        assert!(
            config.contains("ca_file = \"/etc/longshore/ca.pem\"")
                && !written(&data, "/etc/longshore/ca.pem").is_empty()
        );
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, config).unwrap();
        let mut agent = Command::new(binaries().join("longshore-agent"));
        let checked = run(agent.args(["check-config", "--config"]).arg(&path), b"");
        assert_eq!(checked.code, 0, "{name}: {}\n{config}", checked.stderr);
    }
    let mut tools = Command::new("docker");
    tools.args(["run", "--rm", "--network", "none", "--volume"]).arg(format!("{}:/data:ro", folder.path().display()));
    tools.arg("--volume").arg(format!("{}:/packaging:ro", checkout().join("packaging").display())).arg(image());
    tools.args(["sh", "-euc"]).arg(
        "for file in /data/*.yaml; do cloud-init schema --config-file $file; done; \
         shellcheck /packaging/cloud/bootstrap.sh /packaging/linux/agent/block-metadata /packaging/images/health",
    );
    let checked = run(&mut tools, b"");
    assert_eq!(checked.code, 0, "{}\n{}", checked.text(), checked.stderr);
}

/// With `LONGSHORE_BLESS=1`, puts the script into what holds a copy of it.
fn blessed() {
    if std::env::var_os("LONGSHORE_BLESS").is_none() {
        return;
    }
    let script = read("bootstrap.sh");
    for name in ["agent.yaml", "aws/agents.yaml"] {
        let text = read(name);
        let start = text.find(SCRIPT).unwrap();
        let start = start + text[start..].find("content: |\n").unwrap() + "content: |\n".len();
        let end = start + text[start..].find("runcmd:").unwrap();
        let end = text[..end].rfind('\n').unwrap() + 1;
        let indent: String = text[start..].chars().take_while(|letter| *letter == ' ').collect();
        let lines =
            script.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{indent}{line}\n") });
        let new = format!("{}{}{}", &text[..start], lines.collect::<String>(), &text[end..]);
        std::fs::write(folder().join(name), new).unwrap();
    }
    let text = read("azure/agents.json");
    let line = text.lines().find(|line| line.trim_start().starts_with("\"bootstrap\": ")).unwrap();
    let new = format!("    \"bootstrap\": {},", Value::from(script));
    std::fs::write(folder().join("azure/agents.json"), text.replacen(line, &new, 1)).unwrap();
}

/// cloud-init does on a Debian what it does at a machine's first boot.
#[test]
fn user_data_makes_a_machine_an_agent() {
    let system = Debian::boot("cloud", packages());
    system.ok("dpkg --install /packages/1/longshore_*.deb /packages/1/longshore-controller_*.deb");
    system.ok("systemctl start longshore-controller");
    let token = longshore(&system, "join-token create --ca-file /root/ca.pem");
    system.ok("systemd-run --unit=packages python3 -m http.server 8000 --bind 127.0.0.1 --directory /packages/1");
    let sums = system.ok("sha256sum /packages/1/SHA256SUMS | cut --delimiter ' ' --fields 1");
    let data = made(&[
        ("https://longshore.example.com:8441", "https://127.0.0.1:8441"),
        ("slots = 2\n", "slots = 2\n      metadata = \"allowed\"\n"),
        ("content: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCmV4YW1wbGUKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=", &{
            format!("content: {}", system.ok("base64 --wrap=0 /root/ca.pem"))
        }),
        ("content: example", &format!("content: {token}")),
        ("https://packages.example.com/longshore", "http://127.0.0.1:8000/"),
        (&"0".repeat(64), &sums),
    ]);
    system.ok("mkdir -p /var/lib/cloud/seed/nocloud && rm /etc/cloud/cloud-init.disabled");
    system.write("/etc/cloud/cloud.cfg.d/99-test.cfg", "datasource_list: [NoCloud]\nlocale: false\n");
    system.write("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: i-test\n");
    system.write("/var/lib/cloud/seed/nocloud/user-data", &data);

    // A folder with other packages than those that were asked for: nothing is installed.
    let other = format!("/usr/local/sbin/longshore-bootstrap http://127.0.0.1:8000 {}", "1".repeat(64));
    let stages = "cloud-init init --local && cloud-init init && cloud-init modules --mode=config";
    system.ok(stages);
    let refused = system.run(&other);
    assert!(refused.code != 0 && refused.stderr.contains("is not the one that was asked for"), "{}", refused.stderr);
    system.ok("test ! -e /usr/bin/longshore-agent");

    system.ok("cloud-init modules --mode=final");
    wait_for("the agent", || longshore(&system, "agents").contains("connected").then_some(()));
    assert_eq!(system.ok("systemctl is-enabled longshore-agent docker"), "enabled\nenabled");
    assert_eq!(system.ok("stat --format %U /var/lib/longshore-agent/identity.json"), "longshore-agent");
    system.ok("test ! -e /run/longshore-join-token && grep 'slots = 2' /etc/longshore/agent.toml");
    // Once more changes nothing.
    let pid = system.property("longshore-agent", "MainPID");
    system.ok(&format!("/usr/local/sbin/longshore-bootstrap http://127.0.0.1:8000 {sums}"));
    assert_eq!(system.property("longshore-agent", "MainPID"), pid);

    blocks_metadata(&system);
}

/// The text of `agent.yaml`, filled in.
fn made(values: &[(&str, &str)]) -> String {
    values.iter().fold(read("agent.yaml"), |text, (from, to)| {
        assert!(text.contains(from), "agent.yaml has no {from:?}");
        text.replacen(from, to, 1)
    })
}

/// The unit's first line keeps containers from metadata services, and opens them again where the configuration says so.
fn blocks_metadata(system: &Debian) {
    let rules = || system.run("iptables --wait --list-rules").text();
    assert!(!rules().contains("LONGSHORE-METADATA"), "allowed, and yet: {}", rules());
    system.ok("sed -i 's/^metadata = .*/metadata = \"blocked\"/' /etc/longshore/agent.toml");
    system.ok("systemctl restart --no-block longshore-agent");
    let closed = wait_for("the rules", || Some(rules()).filter(|rules| rules.contains("-j LONGSHORE-METADATA")));
    for rule in [
        "-A FORWARD -j LONGSHORE-METADATA",
        "-A LONGSHORE-METADATA -d 169.254.169.254/32 -p udp -m udp --dport 53 -j RETURN",
        "-A LONGSHORE-METADATA -d 169.254.169.254/32 -j REJECT --reject-with icmp-port-unreachable",
        "-A LONGSHORE-METADATA -d 168.63.129.16/32 -j REJECT --reject-with icmp-port-unreachable",
    ] {
        assert!(closed.contains(rule), "no {rule:?} in\n{closed}");
    }
    system.ok("/usr/libexec/longshore-agent/block-metadata");
    assert_eq!(rules(), closed, "a second start adds nothing");
}

/// The role of AWS's machines may do what the agent does, and nothing else.
#[test]
fn the_role_is_as_wide_as_what_the_agent_calls() {
    let source = std::fs::read_to_string(checkout().join("cloud/src/aws/autoscaling.rs")).unwrap();
    let mut called: Vec<&str> =
        source.split(".call(who, \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let template = read("aws/agents.yaml");
    let mut allowed: Vec<&str> = template
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- autoscaling:"))
        .filter(|name| !name.contains(' '))
        .collect();
    called.sort_unstable();
    allowed.sort_unstable();
    assert_eq!(allowed, called);
    let others: Vec<&str> = template.lines().filter_map(|line| line.trim().strip_prefix("Action: ")).collect();
    assert_eq!(others, ["sts:AssumeRole", "s3:GetObject"], "whose role it is, and where packages are");
}
