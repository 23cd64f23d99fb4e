//! The pool's plugins on a real engine: where they come from, who sees them, and that no step changes them for the next.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use longshore_core::plugins::{Kind, Origin, Plugin};

use crate::bench::{Bench, Plan, TINY, TINY_1234, plan};

const PROGRAM: &str = "#!/bin/sh\necho of the pool\n";
/// What a step finds at the place.
const LOOK: &str = "cd /longshore/pulumi/plugins/resource-x-v1.0.0 && sh ./pulumi-resource-x && cat sub/more";

fn plugin(from: Origin, checksum: &str) -> Plugin {
    let checksum = format!("sha256:{checksum}");
    Plugin { kind: Kind::Resource, name: "x".to_owned(), version: "1.0.0".to_owned(), checksum, from }
}

/// Writes the plugin's directory into a folder and says its digest, by the command of the manual.
fn write(folder: &Path) -> String {
    let plugin = folder.join("resource-x-v1.0.0");
    std::fs::create_dir_all(plugin.join("sub")).unwrap();
    std::fs::write(plugin.join("pulumi-resource-x"), PROGRAM).unwrap();
    std::fs::write(plugin.join("sub/more"), "more\n").unwrap();
    let command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d'\\n' sha256sum | sha256sum";
    first_word(Command::new("sh").args(["-c", command]).current_dir(plugin).output().unwrap().stdout)
}

fn first_word(printed: Vec<u8>) -> String {
    String::from_utf8(printed).unwrap().split(' ').next().unwrap().to_owned()
}

async fn warm(bench: &Bench, plugins: &[Plugin]) -> Result<(), String> {
    bench.executor.warm_plugins(plugins, |_| ()).await.map_err(|why| why.to_string())
}

fn pulumi(image: &'static str, script: &str) -> Plan {
    Plan { pulumi: true, ..plan(image, script) }
}

async fn sees(bench: &Bench, image: &'static str) -> String {
    bench.run(&pulumi(image, LOOK)).await.text()
}

#[tokio::test]
async fn a_step_that_poisons_the_plugins_changes_nothing_for_the_next() {
    let bench = Bench::new().await;
    let folder = bench.dir.path().join("srv");
    let checksum = write(&folder);
    let set = [plugin(Origin::Folder { folder: folder.display().to_string() }, &checksum)];
    warm(&bench, &set).await.unwrap();
    assert_eq!(sees(&bench, TINY).await, "of the pool\nmore\n");

    // As root: overwrites, replaces, removes, adds, and leaves what nobody may enter. And the lock that Pulumi itself writes.
    let poison = "cd /longshore/pulumi/plugins && touch resource-x-v1.0.0.lock && echo evil > resource-x-v1.0.0/pulumi-resource-x && \
                  rm -r resource-x-v1.0.0/sub && mkdir -m 0 resource-y-v1.0.0 && chmod 0777 . && sh resource-x-v1.0.0/pulumi-resource-x; \
                  cat resource-x-v1.0.0/pulumi-resource-x; mount -o remount,rw /longshore/pulumi 2>/dev/null; ls /longshore/pulumi/plugins";
    let mut attempt = bench.attempt();
    let text = bench.run_in(&mut attempt, &pulumi(TINY, poison)).await.unwrap().text();
    assert!(
        text.contains("evil\n") && text.contains("resource-x-v1.0.0.lock"),
        "it did what it wanted for itself: {text}"
    );
    assert_eq!(sees(&bench, TINY).await, "of the pool\nmore\n");
    // The next step of the same attempt too: each has an overlay of its own.
    let next = Plan { index: 1, ..pulumi(TINY_1234, LOOK) };
    assert_eq!(bench.run_in(&mut attempt, &next).await.unwrap().text(), "of the pool\nmore\n");

    // Another user may lock, and not even try to write into a plugin.
    let other = "cd /longshore/pulumi/plugins && touch resource-x-v1.0.0.lock && echo locked; \
                 echo evil > resource-x-v1.0.0/pulumi-resource-x || echo refused";
    let text = bench.run(&pulumi(TINY_1234, other)).await.text();
    assert!(text.contains("locked") && text.contains("refused"), "{text}");
    assert_eq!(sees(&bench, TINY_1234).await, "of the pool\nmore\n");

    // A step that is none of Pulumi has none of it.
    assert_eq!(bench.run(&plan(TINY, "ls /longshore/pulumi 2>/dev/null; echo over")).await.text(), "over\n");

    // Nothing is left of an attempt, and the cache is as it was.
    for attempt in bench.executor.list_volumes().await.unwrap() {
        bench.executor.remove_volume(attempt).await.unwrap();
    }
    assert_eq!(bench.executor.list_volumes().await.unwrap(), []);
    std::fs::remove_dir_all(&folder).unwrap();
    let restarted = bench.restarted().await;
    restarted.warm_plugins(&set, |_| ()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_cache_is_found_out_and_fetched_anew() {
    let bench = Bench::new().await;
    let folder = bench.dir.path().join("srv");
    let checksum = write(&folder);
    let set = [plugin(Origin::Folder { folder: folder.display().to_string() }, &checksum)];
    warm(&bench, &set).await.unwrap();
    // Somebody on the host changes the kept file.
    let kept = find(bench.dir.path(), "pulumi-resource-x")
        .into_iter()
        .find(|path| path.display().to_string().contains("/content/"));
    let kept = kept.unwrap();
    let mut permissions = std::fs::metadata(&kept).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&kept, permissions).unwrap();
    std::fs::write(&kept, "changed").unwrap();
    let restarted = bench.restarted().await;
    restarted.warm_plugins(&set, |_| ()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), PROGRAM);
}

fn find(below: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(find(&path, name));
        } else if path.ends_with(name) {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn what_does_not_have_its_checksum_is_not_used_and_the_reason_says_so() {
    let bench = Bench::new().await;
    let folder = bench.dir.path().join("srv");
    let checksum = write(&folder);
    let from = Origin::Folder { folder: folder.display().to_string() };
    let why = warm(&bench, &[plugin(from.clone(), &"0".repeat(64))]).await.unwrap_err();
    for word in ["resource-x-v1.0.0", &format!("sha256:{checksum}"), &"0".repeat(64), "not used", "folder"] {
        assert!(why.contains(word), "`{word}` is not in: {why}");
    }
    assert_eq!(bench.run(&pulumi(TINY, "ls /longshore/pulumi 2>/dev/null; echo over")).await.text(), "over\n");
    warm(&bench, &[plugin(from, &checksum)]).await.unwrap();
    assert_eq!(sees(&bench, TINY).await, "of the pool\nmore\n");
    let missing = Origin::Folder { folder: "/does/not/exist".to_owned() };
    assert!(warm(&bench, &[plugin(missing, &"1".repeat(64))]).await.unwrap_err().contains("is there"));
    // The pool wants none any more.
    warm(&bench, &[]).await.unwrap();
    assert_eq!(bench.run(&pulumi(TINY, "ls /longshore/pulumi 2>/dev/null; echo over")).await.text(), "over\n");
}

/// Serves one file by HTTP; what was asked for is kept.
fn mirror(archive: Vec<u8>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().and_then(Result::ok).unwrap_or_default();
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let found = first.contains("/plugins/pulumi-resource-x-v1.0.0-linux-");
            seen.lock().unwrap().push(first);
            let (status, body) = if found { ("200 OK", archive.as_slice()) } else { ("404 Not Found", &b""[..]) };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).ok();
            stream.write_all(body).ok();
        }
    });
    (format!("http://{at}"), asked)
}

#[tokio::test]
async fn a_mirror_s_archive_is_known_by_the_checksum_that_it_is_published_with() {
    let bench = Bench::new().await;
    let folder = bench.dir.path().join("srv");
    write(&folder);
    let packed =
        Command::new("tar").args(["-czf", "../p.tar.gz", "."]).current_dir(folder.join("resource-x-v1.0.0")).status();
    assert!(packed.unwrap().success());
    let archive = std::fs::read(folder.join("p.tar.gz")).unwrap();
    let sum = first_word(Command::new("sha256sum").arg(folder.join("p.tar.gz")).output().unwrap().stdout);
    let (address, asked) = mirror(archive.clone());
    let at = |path: &str| Origin::Mirror { mirror: format!("{address}{path}") };
    assert!(warm(&bench, &[plugin(at("/elsewhere"), &sum)]).await.unwrap_err().contains("404"));
    assert!(warm(&bench, &[plugin(at("/plugins/"), &"2".repeat(64))]).await.unwrap_err().contains(&sum));
    warm(&bench, &[plugin(at("/plugins/"), &sum)]).await.unwrap();
    assert_eq!(sees(&bench, TINY).await, "of the pool\nmore\n");
    // What is kept is not fetched again, also after a restart.
    let before = asked.lock().unwrap().len();
    bench.restarted().await.warm_plugins(&[plugin(at("/plugins"), &sum)], |_| ()).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), before);

    // A folder may hold the archive in place of the directory.
    let archives = bench.dir.path().join("archives");
    std::fs::create_dir(&archives).unwrap();
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    std::fs::write(archives.join(format!("pulumi-resource-x-v1.0.0-linux-{arch}.tar.gz")), archive).unwrap();
    let other = Bench::new().await;
    warm(&other, &[plugin(Origin::Folder { folder: archives.display().to_string() }, &sum)]).await.unwrap();
    assert_eq!(sees(&other, TINY).await, "of the pool\nmore\n");
}

#[tokio::test]
async fn plugins_come_out_of_an_image_and_no_container_of_it_is_left() {
    let bench = Bench::new().await;
    let folder = bench.dir.path().join("srv");
    let checksum = write(&folder);
    let image = bench.image_with(&folder).await;
    let from = Origin::Image { image: image.clone(), path: "/baked/".to_owned() };
    let progress = Mutex::new(Vec::new());
    let set = [plugin(from, &checksum)];
    bench.executor.warm_plugins(&set, |said| progress.lock().unwrap().push(said)).await.unwrap();
    assert!(progress.into_inner().unwrap()[0].contains("0 of 1 plugins"));
    assert_eq!(sees(&bench, TINY).await, "of the pool\nmore\n");
    let nowhere = Origin::Image { image: image.clone(), path: "/nowhere".to_owned() };
    let why = warm(&bench, &[plugin(nowhere, &"3".repeat(64))]).await.unwrap_err();
    assert!(why.contains("/nowhere/resource-x-v1.0.0") && why.contains(&image), "{why}");
    let options = bollard::query_parameters::ListContainersOptionsBuilder::new().all(true).build();
    let all = bench.docker().list_containers(Some(options)).await.unwrap();
    let left =
        all.iter().filter(|container| container.names.iter().flatten().any(|name| name.contains("plugins-from")));
    assert!(left.filter(|left| left.image.as_deref() == Some(&image)).count() == 0);
    crate::distribution::remove(&bench, &image).await;
}
