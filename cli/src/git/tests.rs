use std::process::Command;

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

fn check(dir: &Path, reference: &str, sub: Option<&str>) -> Result<Checkout, Failure> {
    let address = Address::parse(&format!("file://{}", dir.display()), true).unwrap();
    let wanted = Wanted { address, reference: reference.to_owned(), dir: sub.map(str::to_owned) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(check_out(&wanted))
}

fn digest(folder: &Path) -> String {
    // As under umask 022, whatever it is here.
    assert!(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(folder).status().unwrap().success());
    pack::pack(folder, &mut |_, _| {}).unwrap().sha256
}

fn pushed(dir: &Path, reference: &str, sub: Option<&str>) -> (String, String) {
    let found = check(dir, reference, sub).unwrap();
    (found.commit.clone(), pack::pack_checkout(&found.folder, &mut |_, _| {}).unwrap().sha256)
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
    assert!(refused("main", Some("../x")).contains("`--dir`"));
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
    let error = pack::pack_checkout(&found.folder, &mut |_, _| {}).unwrap_err();
    let failure = Failure::from(error).to_string();
    assert!(failure.contains("`big.bin`") && failure.contains("Git LFS"), "{failure}");
}

#[test]
fn only_addresses_without_passwords_and_of_known_protocols_are_taken() {
    use address::Error;
    for (text, protocol) in [
        ("https://example.com/a/b.git", "https"),
        ("https://example.com:8443/a", "https"),
        ("ssh://git@example.com:22/a", "ssh"),
        ("git@example.com:a/b.git", "ssh"),
    ] {
        assert_eq!(Address::parse(text, false).unwrap().protocol(), protocol, "{text}");
    }
    for text in ["https://u:p@example.com/a", "https://t0ken@example.com/a", "ssh://git:p@example.com/a"] {
        assert_eq!(Address::parse(text, true), Err(Error::Password), "{text}");
    }
    for text in [
        "http://example.com/a",
        "git://example.com/a",
        "ext::sh -c x",
        "ext::x",
        "a@b::c",
        "/tmp/x",
        "../x",
        "-x",
        "",
        "ssh://-oProxyCommand=x/a",
        "git@-oProxyCommand=x:a",
        "-u@h:a",
        "https://",
        "ssh:///a",
        "u@h:",
        "file://host/x",
        "https://e/a b",
    ] {
        assert_eq!(Address::parse(text, true), Err(Error::Protocol), "{text}");
    }
    assert_eq!(Address::parse("file:///tmp/x", false), Err(Error::File));
}

#[test]
fn what_git_says_is_shown_without_passwords() {
    let said = run::said(b"fatal: unable to access 'https://u:p@host/x/':\n\x1b[31mno");
    assert_eq!(said, "fatal: unable to access 'https://...@host/x/': [31mno");
}
