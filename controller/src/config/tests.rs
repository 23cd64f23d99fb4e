//! What is accepted, and what each refusal says.

use super::*;

const SMALL: &str = "data_dir = \"/var/lib/longshore\"\n";

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_text(Path::new("controller.toml"), text, variables).map_err(|e| e.to_string())
}

#[test]
fn a_data_directory_is_enough() {
    let config = load(SMALL, &[]).unwrap();
    assert_eq!(config.api.public_url, "http://127.0.0.1:8440");
    assert_eq!((config.engine.lease, config.engine.heartbeat), (LEASE, Duration::from_secs(5)));
    assert_eq!(config.max_package_bytes, 1 << 30);
    assert_eq!(config.engine.artifacts, Settings::default().artifacts);
    let none = [("LONGSHORE_CONTROLLER__MAX_STEP_ARTIFACT_BYTES", "0")];
    assert_eq!(load(SMALL, &none).unwrap().engine.artifacts, None);
    let few = load(&format!("max_step_artifact_bytes = 1000\n{SMALL}"), &[]).unwrap().engine.artifacts;
    assert_eq!(few, Some(Limits { file_bytes: 1000, total_bytes: 1000 }));
}

#[test]
fn the_example_of_the_manual_is_a_configuration() {
    let manual = include_str!("../../../docs/controller-config.md");
    let example = manual.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    load(example, &[]).unwrap();
    for key in example.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.trim_start_matches("# ")) {
        assert!(manual.contains(&format!("`{key}`")) || manual.contains(&format!(".{key}`")), "{key} is not described");
    }
}

#[test]
fn the_environment_goes_over_the_file() {
    let variables = [
        ("LONGSHORE_CONTROLLER__API__LISTEN", "127.0.0.1:1"),
        ("LONGSHORE_CONTROLLER__LEASE", "2s"),
        ("LONGSHORE_CONTROLLER__AGENTS__NAMES", "a.example, 10.0.0.1"),
        ("LONGSHORE_CONTROLLER__LOG__FORMAT", "json"),
        ("LONGSHORE_URL", "not ours to read"),
    ];
    let config = load(&format!("{SMALL}lease = \"1m\"\n[api]\nlisten = \"127.0.0.1:2\"\n"), &variables).unwrap();
    assert_eq!(config.api.listen.port(), 1);
    assert_eq!((config.engine.lease, config.engine.heartbeat), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!(config.agents.names, ["a.example", "10.0.0.1"]);
    assert_eq!(config.log.format, Format::Json);
}

#[test]
fn a_mistake_in_the_file_has_line_and_field() {
    for (text, words) in [
        ("data_dir = \"/d\"\n[api]\nlisen = \"127.0.0.1:1\"\n", ["line 3", "lisen"]),
        ("data_dir = \"/d\"\nlease = \"soon\"\n", ["line 2", "`soon` is not a duration"]),
        ("data_dir = \"/d\"\nlease = 30\n", ["line 2", "lease"]),
        ("data_dir = \"/d\"\n[agents]\nlisten = \"nowhere\"\n", ["line 3", "listen"]),
        ("data_dir = \n", ["line 1", "controller.toml"]),
        ("data_dir = \"/d\"\n[log]\nformat = \"xml\"\n", ["line 3", "xml"]),
    ] {
        let error = load(text, &[]).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn what_does_not_go_together_names_the_field() {
    for (text, word) in [
        ("", "`data_dir`"),
        ("max_package_bytes = 0\ndata_dir = \"/d\"", "`max_package_bytes`"),
        ("max_artifact_bytes = 0\ndata_dir = \"/d\"", "`max_artifact_bytes`"),
        ("max_artifact_bytes = 5\nmax_step_artifact_bytes = 4\ndata_dir = \"/d\"", "`max_artifact_bytes`"),
        ("data_dir = \"/d\"\nlease = \"0s\"", "`lease`"),
        ("data_dir = \"/d\"\nlease = \"5s\"\nheartbeat = \"10s\"", "`heartbeat`"),
        ("data_dir = \"/d\"\n[api]\ntls_cert = \"/c\"", "`api.tls_key`"),
        ("data_dir = \"/d\"\n[api]\ntls_key = \"/c\"", "`api.tls_cert`"),
        ("data_dir = \"/d\"\n[api]\ntls_cert = \"/no/c\"\ntls_key = \"/no/k\"", "`/no/c`"),
        ("data_dir = \"/d\"\n[api]\npublic_url = \"longshore.example\"", "`api.public_url`"),
        ("data_dir = \"/d\"\n[api]\nlisten = \"127.0.0.1:5\"\n[agents]\nlisten = \"0.0.0.0:5\"", "`agents.listen`"),
        ("data_dir = \"/d\"\n[agents]\nnames = [\"https://x\"]", "`agents.names`"),
        ("data_dir = \"/d\"\n[agents]\ncertificate_validity = \"1s\"", "`agents.certificate_validity`"),
        ("data_dir = \"/d\"\n[log]\nlevel = \"a=b=c\"", "`log.level`"),
        ("data_dir = \"/d\"\n[connections]\nper_address = 0", "`connections.per_address`"),
        ("data_dir = \"/d\"\n[connections]\nhandshake_timeout = \"1h\"", "`connections.handshake_timeout`"),
        ("data_dir = \"/d\"\n[secrets]\nkek_file = \"/k\"\nkek_env = \"K\"", "`secrets.kek_file`"),
        ("data_dir = \"/d\"\n[secrets]\nkek_command = []", "`secrets.kek_file`"),
        ("data_dir = \"/d\"\n[secrets]\nkek_env = \"\"", "`secrets.kek_file`"),
        ("data_dir = \"/d\"\n[secrets]\nprevious_kek_file = \"/k\"\nprevious_kek_env = \"K\"", "`secrets.previous"),
        ("data_dir = \"/d\"\n[secrets]\nkek_file = \"/k\"\nprevious_kek_file = \"/k\"", "`secrets.previous"),
    ] {
        let error = load(text, &[]).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn connections_are_bounded_unless_it_is_said_how() {
    assert_eq!(load(SMALL, &[]).unwrap().connections, identity::Limits::default());
    let variables = [
        ("LONGSHORE_CONTROLLER__CONNECTIONS__PER_ADDRESS", "9"),
        ("LONGSHORE_CONTROLLER__CONNECTIONS__COUNT_LOOPBACK", "true"),
    ];
    let set = load(&format!("{SMALL}[connections]\nhandshake_timeout = \"3s\"\nin_all = 7\n"), &variables);
    let connections = set.unwrap().connections;
    assert_eq!((connections.per_address, connections.in_all, connections.count_loopback), (9, 7, true));
    assert_eq!(connections.handshake, Duration::from_secs(3));
}

#[test]
fn the_key_has_one_place() {
    use crate::secrets::kek::Source;
    let kek = |more: &str, env: &[(&str, &str)]| load(&format!("{SMALL}{more}"), env).unwrap().secrets.kek;
    assert_eq!(kek("", &[]), Source::DataDir);
    assert_eq!(kek("[secrets]\nkek_file = \"/k\"", &[]), Source::File("/k".into()));
    let argv = ["vault", "read"].map(str::to_owned).to_vec();
    assert_eq!(kek("[secrets]\nkek_command = [\"vault\", \"read\"]", &[]), Source::Command(argv.clone()));
    assert_eq!(kek("", &[("LONGSHORE_CONTROLLER__SECRETS__KEK_COMMAND", "vault, read")]), Source::Command(argv));
    assert_eq!(kek("", &[("LONGSHORE_CONTROLLER__SECRETS__KEK_ENV", "KEK")]), Source::Env("KEK".to_owned()));
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    for (name, value) in [
        ("LONGSHORE_CONTROLLER__API__LISEN", "x"),
        ("LONGSHORE_CONTROLLER__API__LISTEN", "x"),
        ("LONGSHORE_CONTROLLER__LEASE", "x"),
    ] {
        let error = load(SMALL, &[(name, value)]).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn sources_are_https_and_ssh_unless_it_is_said() {
    use longshore_core::source::Protocol;
    let load = |more: &str, variables: Vec<(String, String)>| {
        Config::from_text(Path::new("c.toml"), &format!("data_dir = \"/d\"\n{more}"), variables)
    };
    let sources = load("", Vec::new()).unwrap().engine.sources;
    assert_eq!((sources.protocols, sources.at_once), (vec![Protocol::Https, Protocol::Ssh], 2));
    let variable = ("LONGSHORE_CONTROLLER__SOURCES__PROTOCOLS".to_owned(), "ssh, file".to_owned());
    let set = load("[sources]\ntimeout = \"10s\"\nmax_bytes = 7\nat_once = 1", vec![variable]).unwrap().engine.sources;
    assert_eq!(set.protocols, [Protocol::Ssh, Protocol::File]);
    assert_eq!((set.time, set.bytes, set.at_once), (Duration::from_secs(10), 7, 1));
    for (bad, says) in [
        ("protocols = [\"ext\"]", "`sources.protocols`: `ext` is no protocol"),
        ("max_bytes = 0", "`sources.max_bytes`"),
        ("at_once = 0", "`sources.at_once`"),
        ("timeout = \"2h\"", "`sources.timeout`"),
    ] {
        let error = load(&format!("[sources]\n{bad}"), Vec::new()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn traces_are_sent_where_it_says_and_nowhere_without_it() {
    assert!(load(SMALL, &[]).unwrap().tracing.is_none());
    assert_eq!(load(SMALL, &[]).unwrap().engine.traced, None);
    let dir = tempfile::tempdir().unwrap();
    let headers = dir.path().join("headers");
    std::fs::write(&headers, "# the tenant's\n\nAuthorization: Bearer canary: 5\n").unwrap();
    let text = format!("{SMALL}[tracing]\nendpoint = \"https://c:4317\"\nsample = 0.25\nheaders_file = {headers:?}\n");
    let config = load(&text, &[("LONGSHORE_CONTROLLER__TRACING__ENDPOINT", "http://d:4317")]).unwrap();
    let tracing = config.tracing.clone().unwrap();
    assert_eq!((tracing.endpoint.as_str(), tracing.part, config.engine.traced), ("http://d:4317", 0.25, Some(0.25)));
    assert_eq!(
        (tracing.headers.0[0].0.as_str(), tracing.headers.0[0].1.expose()),
        ("authorization", "Bearer canary: 5")
    );
    assert!(!format!("{config:?}").contains("canary"));
    for (more, words) in [
        ("sample = 0.5", &["tracing.endpoint", "missing"][..]),
        ("endpoint = \"c:4317\"", &["tracing.endpoint", "http://HOST:4317"]),
        ("endpoint = \"http://c:4318/v1/traces\"", &["tracing.endpoint", "without a path"]),
        ("endpoint = \"http://c:4317\"\nsample = 1.5", &["tracing.sample", "between 0 and 1"]),
        ("endpoint = \"http://c:4317\"\nheaders_file = \"/nowhere\"", &["tracing.headers_file", "/nowhere"]),
        ("endpoint = \"http://c:4317\"\nca_file = \"/nowhere\"", &["tracing.ca_file", "https"]),
        ("endpont = \"http://c:4317\"", &["endpont"]),
    ] {
        let error = load(&format!("{SMALL}[tracing]\n{more}\n"), &[]).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{more}: {error}");
    }
    for bad in ["Bearer canary", "na me: canary", "a-bin: canary", ": canary"] {
        std::fs::write(&headers, bad).unwrap();
        let error = load(&text, &[]).unwrap_err();
        assert!(error.contains("line 1") && !error.contains("canary"), "{error}");
    }
}

#[test]
fn what_machines_are_verified_against_is_read_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let region = file("region.pem", &identity::cloud::testing::Signer::region().pem);
    let (leaf, chain) = identity::cloud::testing::Signer::azure("x.metadata.azure.com");
    let (chain, leaf) = (file("chain.pem", &chain), file("leaf.pem", &leaf.pem));
    let text = format!(
        "{SMALL}[join.aws]\ndocument_age = \"5m\"\nsts_endpoint = \"https://sts.internal\"\n[join.aws.certificates]\neu-central-1 = {region:?}\n\
         [join.azure]\ncertificates = [{chain:?}]\n"
    );
    let join = load(&text, &[]).unwrap().join;
    assert_eq!((join.aws.keys.len(), join.aws.document_age), (1, Duration::from_secs(300)));
    assert_eq!((join.azure.roots.len(), join.azure.intermediates.len()), (1, 1));
    assert_eq!(join.gcp.jwks_url, "https://www.googleapis.com/oauth2/v3/certs");
    let pair = format!("eu-west-1={region}");
    let variables = [
        ("LONGSHORE_CONTROLLER__JOIN__AWS__CERTIFICATES", pair.as_str()),
        ("LONGSHORE_CONTROLLER__JOIN__AZURE__CERTIFICATES", chain.as_str()),
        ("LONGSHORE_CONTROLLER__AGENTS__EPHEMERAL_SILENCE", "1h"),
    ];
    let config = load(SMALL, &variables).unwrap();
    assert!(config.join.aws.keys.contains_key("eu-west-1") && config.join.azure.roots.len() == 1);
    assert_eq!(config.engine.ephemeral_silence, Duration::from_secs(3_600));
    for (text, word) in [
        (format!("[join.aws.certificates]\n\"eu-*\" = {region:?}"), "`join.aws.certificates`"),
        ("[join.aws.certificates]\neu-west-1 = \"/no/file\"".to_owned(), "`/no/file`"),
        (format!("[join.azure]\ncertificates = [{leaf:?}]"), "none of them is a root"),
        ("[join.azure]\nname = \"azure\"".to_owned(), "`join.azure.name`"),
        ("[join.gcp]\njwks_url = \"keys\"".to_owned(), "`join.gcp.jwks_url`"),
        ("[join.aws]\nsts_endpoint = \"ftp://x\"".to_owned(), "`join.aws.sts_endpoint`"),
        ("[join.aws]\ndocument_age = \"1s\"".to_owned(), "`join.aws.document_age`"),
        ("[agents]\nephemeral_silence = \"1s\"".to_owned(), "`agents.ephemeral_silence`"),
    ] {
        let error = load(&format!("{SMALL}{text}"), &[]).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn the_scaler_has_programs_and_endpoints_and_wrong_ones_are_named() {
    let text = format!(
        "{SMALL}[scaling]\ninterval = \"5s\"\naws_endpoint = \"http://127.0.0.1:4566\"\n[scaling.commands]\nrack = [\"/bin/true\", \"-q\"]\n"
    );
    let scaling = load(&text, &[("LONGSHORE_CONTROLLER__SCALING__COMMAND_TIMEOUT", "2m")]).unwrap().scaling;
    assert_eq!((scaling.interval, scaling.command_timeout), (Duration::from_secs(5), Duration::from_secs(120)));
    assert_eq!(scaling.commands["rack"], ["/bin/true", "-q"]);
    assert_eq!(scaling.aws_endpoint.unwrap().to_string(), "http://127.0.0.1:4566");
    for (section, words) in [
        ("interval = \"0s\"", "`scaling.interval`"),
        ("gcp_endpoint = \"compute\"", "`scaling.gcp_endpoint`"),
        ("[scaling.commands]\nrack = []", "`rack` is empty"),
        ("[scaling.commands]\nrack = \"true\"", "line 4"),
    ] {
        let error = load(&format!("{SMALL}[scaling]\n{section}\n"), &[]).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
