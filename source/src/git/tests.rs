use std::process::Command;

use longshore_core::secret::Secret;
use longshore_core::source::Protocol;

use super::*;
use crate::pack;

/// A repository of one branch `main` with a tag `v1` on its first commit.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    git(dir.path(), &["init", "--quiet", "--initial-branch=main"]);
    write("run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(dir.path().join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    write("infra/Pulumi.yaml", "name: x\n");
    // `git archive` would leave this out and rewrite that; a checkout does not.
    write(".gitattributes", "infra export-ignore\nversion.txt export-subst\nrun.sh filter=evil\n");
    write("version.txt", "$Format:%H$\n");
    write("noise.log", "x");
    write(".longshoreignore", "*.log\n");
    std::os::unix::fs::symlink("infra/Pulumi.yaml", dir.path().join("link")).unwrap();
    commit(dir.path(), "one");
    git(dir.path(), &["tag", "-a", "v1", "-m", "x"]);
    write("later.txt", "later");
    commit(dir.path(), "two");
    dir
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]).args(args);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

fn commit(dir: &Path, message: &str) {
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", "-m", message]);
}

fn check(dir: &Path, reference: &str, sub: Option<&str>) -> Result<Checkout, Error> {
    check_with(dir, reference, sub, &Means::of_user())
}

fn check_with(dir: &Path, reference: &str, sub: Option<&str>, means: &Means) -> Result<Checkout, Error> {
    let address = Address::parse(&format!("file://{}", dir.display()), &Protocol::ALL).unwrap();
    let wanted = Wanted { address, reference: reference.to_owned(), dir: sub.map(str::to_owned) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check_out(&wanted, means))
}

fn digest(folder: &Path) -> String {
    // As under umask 022, whatever it is here.
    assert!(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(folder).status().unwrap().success());
    pack::pack(folder, &mut |_, _| {}).unwrap().sha256
}

fn pushed(dir: &Path, reference: &str, sub: Option<&str>) -> (String, String) {
    let found = check(dir, reference, sub).unwrap();
    (found.commit.clone(), pack::pack_checkout(&found.folder, &std::env::temp_dir(), &mut |_, _| {}).unwrap().sha256)
}

#[test]
fn a_commit_is_the_package_of_its_checkout() {
    let origin = repository();
    let folder = origin.path();
    assert_eq!(pushed(folder, "main", None), (git(folder, &["rev-parse", "HEAD"]), digest(folder)));
    assert_eq!(pushed(folder, "main", Some("./infra/")).1, digest(&folder.join("infra")));
    let first = git(folder, &["rev-parse", "v1^{commit}"]);
    let at_first = pushed(folder, "v1", None);
    assert_eq!(at_first.0, first);
    assert_eq!(pushed(folder, &first, None), at_first);
    git(folder, &["checkout", "--quiet", "v1"]);
    assert_eq!(at_first.1, digest(folder));
}

#[test]
fn nothing_of_the_repository_is_run() {
    let origin = repository();
    let mark = origin.path().join("ran");
    let hook = origin.path().join(".git/hooks/post-checkout");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    git(origin.path(), &["config", "filter.evil.smudge", &format!("touch {}; cat", mark.display())]);
    check(origin.path(), "main", None).unwrap();
    assert!(!mark.exists());
}

#[test]
fn what_is_not_there_or_not_whole_is_refused() {
    let origin = repository();
    let refused = |reference: &str, dir: Option<&str>| check(origin.path(), reference, dir).unwrap_err().to_string();
    assert!(refused("nowhere", None).contains("`git fetch` failed: fatal: couldn't find remote ref nowhere"));
    assert!(refused("main", Some("nowhere")).contains("has no folder `nowhere`"));
    assert!(refused("main", Some("link")).contains("has no folder `link`"));
    assert!(matches!(check(origin.path(), "main", Some("../x")), Err(Error::Dir(_))));
    for odd in ["", "--upload-pack=touch x", "main:main", "+main", "a..b", "main^", "HEAD@{1}", "a b", "*"] {
        assert!(refused(odd, None).contains("is no ref"), "{odd}");
    }
    let inner = repository();
    git(origin.path(), &["submodule", "--quiet", "add", inner.path().to_str().unwrap(), "parts/inner"]);
    commit(origin.path(), "submodule");
    assert!(refused("main", None).contains("`parts/inner` is a submodule"));
    assert!(check(origin.path(), "main", Some("infra")).is_ok(), "what is not packed does not matter");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    std::fs::write(origin.path().join("infra/big.bin"), pointer).unwrap();
    commit(origin.path(), "pointer");
    let found = check(origin.path(), "main", Some("infra")).unwrap();
    let error = pack::pack_checkout(&found.folder, &std::env::temp_dir(), &mut |_, _| {}).unwrap_err();
    let pack::Error::Unreadable { path, source } = error else { panic!("{error:?}") };
    assert!(path.ends_with("big.bin") && source.to_string().contains("Git LFS"), "{source}");
}

#[test]
fn what_git_says_is_shown_without_passwords() {
    let said = run::said(b"fatal: unable to access 'https://u:p@host/x/':\n\x1b[31mno");
    assert_eq!(said, "fatal: unable to access 'https://...@host/x/': [31mno");
}

/// As a server fetches: with credentials of its own, in a folder of its own.
fn own(folder: &Path, credentials: Option<Credentials>) -> Means {
    Means { access: Access::Own(credentials), folder: folder.to_owned(), bytes: 1 << 20, time: Duration::from_secs(60) }
}

#[test]
fn a_server_makes_the_same_package_and_leaves_nothing() {
    let (origin, home) = (repository(), tempfile::tempdir().unwrap());
    let found = check_with(origin.path(), "main", None, &own(home.path(), None)).unwrap();
    let digest = pack::pack_checkout(&found.folder, home.path(), &mut |_, _| {}).unwrap().sha256;
    assert_eq!((found.commit.clone(), digest), pushed(origin.path(), "main", None));
    drop(found);
    check_with(origin.path(), "nowhere", None, &own(home.path(), None)).unwrap_err();
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn what_is_too_large_or_too_slow_is_given_up() {
    let (origin, home) = (repository(), tempfile::tempdir().unwrap());
    // It packs to nothing, so that the tree has to tell.
    std::fs::write(origin.path().join("zeros"), vec![0; 2 << 20]).unwrap();
    commit(origin.path(), "large");
    let large = check_with(origin.path(), "main", None, &own(home.path(), None));
    assert!(matches!(large, Err(Error::TooLarge(limit)) if limit == 1 << 20), "{large:?}");
    let small = Means { bytes: 10, ..own(home.path(), None) };
    assert!(matches!(check_with(origin.path(), "main", None, &small), Err(Error::TooLarge(10))));
    let soon = Means { time: Duration::ZERO, ..own(home.path(), None) };
    assert!(matches!(check_with(origin.path(), "main", None, &soon), Err(Error::Late(_))));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_link_that_leaves_is_refused_when_it_is_packed() {
    let (origin, home) = (repository(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink("/etc/passwd", origin.path().join("out")).unwrap();
    commit(origin.path(), "link");
    let found = check_with(origin.path(), "main", None, &own(home.path(), None)).unwrap();
    let error = pack::pack_checkout(&found.folder, home.path(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, pack::Error::Refused(_)) && format!("{error:?}").contains("out"), "{error:?}");
}

#[test]
fn credentials_are_in_private_files_while_they_are_lent() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let address = Address::parse("https://git.example:8443/x", &Protocol::SAFE).unwrap();
    let password = || Secret::new("p@ss/word\n".to_owned());
    let access = Access::Own(Some(Credentials::Password { user: "me".to_owned(), password: password() }));
    let lent = access.lend(home.path(), &address).unwrap();
    let path = home.path().join(".git-credentials");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "https://me:p%40ss%2Fword@git.example:8443\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(lent);
    assert!(!path.exists());
    let said = access.hidden().mask("fatal: p@ss/word, p%40ss%2Fword and bWU6cEBzcy93b3Jk");
    assert!(!said.contains("ss/word") && !said.contains("ss%2Fword") && !said.contains("bWU6cEBzcy93b3Jk"), "{said}");
    assert!(!format!("{access:?}").contains("ss/word"));
}

#[test]
fn git_is_told_no_secret_and_reads_nobodys_settings() {
    let home = tempfile::tempdir().unwrap();
    let address = Address::parse("git@git.example:x", &Protocol::SAFE).unwrap();
    let key = Credentials::Key { key: Secret::new("KEY-CANARY".to_owned()), known_hosts: "git.example x".to_owned() };
    let means = own(home.path(), Some(key));
    let lent = means.access.lend(home.path(), &address).unwrap();
    let git = Git::new(home.path(), &address, &means);
    let command = format!("{:?}", git.command_for_test());
    assert!(!command.contains("CANARY"), "{command}");
    for part in ["StrictHostKeyChecking=yes", "BatchMode=yes", "GIT_CONFIG_NOSYSTEM", "protocol.allow=never"] {
        assert!(command.contains(part), "{part}: {command}");
    }
    assert_eq!(std::fs::read_to_string(home.path().join("key")).unwrap(), "KEY-CANARY\n");
    drop(lent);
    assert!(!home.path().join("key").exists());
}

#[test]
fn who_goes_away_ends_git_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let address = Address::parse(&url, &Protocol::ALL).unwrap();
        let wanted = Wanted { address, reference: "main".to_owned(), dir: None };
        let means = own(home.path(), None);
        let (mut stream, _) = tokio::select! {
            done = check_out(&wanted, &means) => panic!("nobody answered: {done:?}"),
            asked = listener.accept() => asked.unwrap(),
        };
        // The one that asks was not git itself but what git has started, and it is gone, too.
        let mut rest = Vec::new();
        drop(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await);
    });
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
