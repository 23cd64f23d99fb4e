use std::os::unix::fs::PermissionsExt as _;

use super::*;

const REFERENCE: &str = "reg.example.com:5000/team/app:1";

fn registry(host: &str) -> Registry {
    Registry {
        host: host.to_owned(),
        username: None,
        password: None,
        password_file: None,
        docker_config: None,
        helper: None,
        command: None,
    }
}

fn file(dir: &tempfile::TempDir, name: &str, mode: u32, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

async fn login(registry: Registry) -> Result<Option<Login>, Error> {
    Logins::default().of(&[registry], REFERENCE).await
}

fn is(login: Option<Login>) -> (String, String, bool) {
    let login = login.unwrap();
    (login.username, login.password.expose().to_owned(), login.token)
}

#[test]
fn hosts_are_told_from_names_as_the_engine_does() {
    for (reference, host) in [
        ("busybox", HUB),
        ("team/app:1", HUB),
        ("index.docker.io/team/app", HUB),
        ("localhost/app", "localhost"),
        (REFERENCE, "reg.example.com:5000"),
        ("ghcr.io/a/b@sha256:0", "ghcr.io"),
    ] {
        assert_eq!(host_of(reference), host, "{reference}");
    }
    for (pattern, host, fits) in [
        ("ghcr.io", "ghcr.io", true),
        ("ghcr.io", "ghcr.io.evil.example", false),
        ("*.dkr.ecr.eu-west-1.amazonaws.com", "1234.dkr.ecr.eu-west-1.amazonaws.com", true),
        ("*.amazonaws.com", "amazonaws.com", false),
        ("*.amazonaws.com", "evilamazonaws.com", false),
        ("*", "x", true),
    ] {
        assert_eq!(registry(pattern).is_for(host), fits, "{pattern} {host}");
    }
}

#[test]
fn an_entry_says_one_way_and_says_it_whole() {
    let full = Registry { username: Some("u".into()), password_file: Some("/p".into()), ..registry("a:5000") };
    assert_eq!(full.check(), Ok(()));
    for (broken, field) in [
        (registry("a"), "registries"),
        (Registry { password: Some(Secret::new("hunter2".to_owned())), ..full.clone() }, "registries.password"),
        (Registry { host: "https://a".into(), ..full.clone() }, "registries.host"),
        (Registry { host: "*.".into(), ..full.clone() }, "registries.host"),
        (Registry { password_file: None, ..full.clone() }, "registries.username"),
        (Registry { password_file: Some("p".into()), ..full.clone() }, "registries.password_file"),
        (Registry { docker_config: Some("/c".into()), ..full }, "registries"),
        (Registry { helper: Some(vec![]), ..registry("a") }, "registries.helper"),
        (Registry { command: Some(vec![String::new()]), ..registry("a") }, "registries.command"),
    ] {
        assert_eq!(broken.check().unwrap_err().0, field, "{broken:?}");
    }
}

#[tokio::test]
async fn a_password_file_is_read_for_each_pull_and_is_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "password", 0o600, "hunter2\n");
    let entry = Registry { username: Some("ci".into()), password_file: Some(path.clone()), ..registry("*") };
    let logins = Logins::default();
    let entries = [entry];
    assert_eq!(is(logins.of(&entries, REFERENCE).await.unwrap()), ("ci".into(), "hunter2".into(), false));
    file(&dir, "password", 0o600, "hunter3");
    assert_eq!(is(logins.of(&entries, REFERENCE).await.unwrap()).1, "hunter3");
    file(&dir, "password", 0o604, "hunter3");
    let error = logins.of(&entries, REFERENCE).await.unwrap_err().to_string();
    assert!(error.contains("mode to 0600") && !error.contains("hunter"), "{error}");
    assert_eq!(logins.of(&[], REFERENCE).await, Ok(None));
}

#[tokio::test]
async fn a_docker_configuration_is_read_as_the_command_line_does() {
    let dir = tempfile::tempdir().unwrap();
    // `ci:hunter2` in base64.
    let text = r#"{"auths": {"reg.example.com:5000": {"auth": "Y2k6aHVudGVyMg=="}, "https://index.docker.io/v1/": {"identitytoken": "t"}}, "HttpHeaders": {}}"#;
    let config = |text: &str| Registry { docker_config: Some(file(&dir, "config.json", 0o600, text)), ..registry("*") };
    assert_eq!(is(login(config(text)).await.unwrap()), ("ci".into(), "hunter2".into(), false));
    assert_eq!(is(Logins::default().of(&[config(text)], "team/app").await.unwrap()), (String::new(), "t".into(), true));
    assert_eq!(login(config("{}")).await, Ok(None));
    for broken in [r#"{"auths": {"reg.example.com:5000": {"auth": "hunter2"}}}"#, "{hunter2"] {
        let error = login(config(broken)).await.unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = login(config(r#"{"credsStore": "../../bin/sh"}"#)).await.unwrap_err().to_string();
    assert!(error.contains("no name of one"), "{error}");
}

#[tokio::test]
async fn a_helper_is_asked_by_its_protocol_and_its_answer_kept_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] || exit 9\nread host\necho \"$host\" >> {}/asked\nprintf '{{\"ServerURL\": \"%s\", \"Username\": \"AWS\", \"Secret\": \"hunter2\"}}' \"$host\"\n",
        dir.path().display()
    );
    let program = file(&dir, "docker-credential-x", 0o700, &script).display().to_string();
    let entries = [Registry { helper: Some(vec!["/bin/sh".into(), program]), ..registry("*.example.com:5000") }];
    let logins = Logins::default();
    for _ in 0..3 {
        assert_eq!(is(logins.of(&entries, REFERENCE).await.unwrap()), ("AWS".into(), "hunter2".into(), false));
    }
    let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap();
    assert_eq!(asked(), "reg.example.com:5000\n");
    assert!(logins.refused(REFERENCE));
    logins.of(&entries, REFERENCE).await.unwrap();
    assert_eq!(asked().lines().count(), 2);
}

#[tokio::test]
async fn what_a_helper_says_instead_of_a_login_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let helper = |name: &str, body: &str| {
        let program = file(&dir, name, 0o700, &format!("#!/bin/sh\n{body}\n")).display().to_string();
        Registry { helper: Some(vec!["/bin/sh".into(), program]), ..registry("*") }
    };
    assert_eq!(login(helper("none", "echo credentials not found in native keychain; exit 1")).await, Ok(None));
    let token = helper("token", r#"echo '{"Username": "<token>", "Secret": "t"}'"#);
    assert_eq!(is(login(token).await.unwrap()), (String::new(), "t".into(), true));
    for (name, body, says) in [
        ("fails", "echo hunter2; echo no session >&2; exit 1", "no session"),
        ("odd", "echo hunter2", "no JSON"),
        ("silent", "exit 3", "nothing on its standard error"),
    ] {
        let error = login(helper(name, body)).await.unwrap_err().to_string();
        assert!(
            error.contains(says) && error.contains("reg.example.com:5000") && !error.contains("hunter2"),
            "{error}"
        );
    }
    let missing = Registry { helper: Some(vec!["/does/not/exist".into()]), ..registry("*") };
    assert!(login(missing).await.unwrap_err().to_string().contains("cannot be run"));
}

#[tokio::test]
async fn a_command_s_login_is_used_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let logins = Logins::default();
    for (expires, asks) in [("2999-01-01T00:00:00Z", 1), ("2001-01-01T00:00:00Z", 2)] {
        let count = dir.path().join(expires);
        let body = format!(
            "#!/bin/sh\necho x >> '{}'\necho '{{\"username\": \"u\", \"password\": \"hunter2\", \"expires_at\": \"{expires}\"}}'\n",
            count.display()
        );
        let program = file(&dir, &format!("login-{expires}"), 0o700, &body).display().to_string();
        let entries = [Registry { command: Some(vec!["/bin/sh".into(), program, "argument".into()]), ..registry("*") }];
        logins.forget();
        for _ in 0..2 {
            assert_eq!(is(logins.of(&entries, REFERENCE).await.unwrap()).1, "hunter2");
        }
        assert_eq!(std::fs::read_to_string(count).unwrap().lines().count(), asks, "{expires}");
    }
}
