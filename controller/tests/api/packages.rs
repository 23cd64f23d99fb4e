//! Packages, good and bad.

use axum::body::Body;
use axum::http::{Method, Request};

use crate::harness::{Server, files, package, sha256};

#[tokio::test]
async fn a_package_is_uploaded_once() {
    let server = Server::start().await;
    let bytes = package("Pulumi.yaml", b"name: x\nruntime: yaml\n");
    let path = format!("/packages/{}", sha256(&bytes));
    assert_eq!(server.call(Method::HEAD, &path, "").await.status, 404);
    let stored = server.call(Method::PUT, &path, bytes.clone()).await.ok(201);
    assert_eq!(
        (stored["sha256"].as_str().unwrap(), stored["bytes"].as_u64().unwrap()),
        (sha256(&bytes).as_str(), bytes.len() as u64)
    );
    assert_eq!(server.call(Method::HEAD, &path, "").await.status, 200);
    server.call(Method::PUT, &path, bytes.clone()).await.ok(200);
    let other = package("b", b"x");
    server.call(Method::PUT, &format!("/packages/{}", sha256(&other)), other.clone()).await.ok(201);
    let list = server.call(Method::GET, "/packages", "").await.ok(200);
    let listed: Vec<_> = list.as_array().unwrap().iter().map(|one| one["sha256"].as_str().unwrap()).collect();
    assert_eq!(listed, [sha256(&other), sha256(&bytes)]);
    assert_eq!((list[1]["bytes"].as_u64(), list[1]["created_by"].is_string()), (Some(bytes.len() as u64), true));
    let newest = server.call(Method::GET, "/packages?limit=1", "").await.ok(200);
    assert_eq!(newest.as_array().unwrap().len(), 1);
    server.call(Method::GET, "/packages?newest=1", "").await.problem(400, "bad_query");
}

/// What no CLI sends: each is refused with the entry's name, and nothing of it stays.
#[tokio::test]
async fn hostile_packages_are_refused_by_name() {
    let server = Server::start().await;
    let before = files(&server.folder.path().join("data/packages")).len();
    let raw = |entries: &[(tar::EntryType, &str, &str, usize)]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (kind, name, link, size) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(*size as u64);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            archive.append(&header, &vec![b'n'; *size][..]).unwrap();
        }
        zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap()
    };
    use tar::EntryType::{Block, Directory, Fifo, GNULongName, Link, Regular, Symlink};
    for (entries, says) in [
        (vec![(Regular, "/etc/cron.d/x", "", 1)], "/etc/cron.d/x"),
        (vec![(Symlink, "out", "/etc", 0)], "`out` is a link"),
        (vec![(Symlink, "d/out", "../../x", 0)], "`d/out` is a link"),
        (vec![(Link, "out", "../x", 0)], "`out` is a hard link"),
        (vec![(Symlink, "in", "d", 0), (Regular, "in/x", "", 1)], "`in/x` lies behind"),
        (vec![(Block, "sda", "", 0)], "`sda` is a device"),
        (vec![(Fifo, "pipe", "", 0)], "`pipe` is a named pipe"),
        (vec![(Regular, "f", "", 1), (Directory, "f", "", 0)], "`f` stands in the package twice"),
        (vec![(GNULongName, "l", "", 300), (Regular, "x", "", 0)], "longer than 255"),
        (vec![(Regular, "a", "", 1), (GNULongName, "l", "", 2 << 20)], "behind `a`"),
        (vec![(Regular, "bomb", "", 70 << 20)], "200-fold"),
    ] {
        let bytes = raw(&entries);
        let sha = sha256(&bytes);
        let refused = server.call(Method::PUT, &format!("/packages/{sha}"), bytes).await.problem(422, "bad_package");
        assert!(refused["detail"].as_str().unwrap().contains(says), "{refused}: {says}");
        assert_eq!(server.call(Method::HEAD, &format!("/packages/{sha}"), "").await.status, 404);
    }
    assert_eq!(files(&server.folder.path().join("data/packages")).len(), before);
}

#[tokio::test]
async fn what_is_wrong_leaves_nothing() {
    let server = Server::start_with("max_package_bytes = 5000").await;
    let before = files(&server.folder.path().join("data/packages")).len();
    let good = package("a", b"x");
    let put = async |sha: &str, body: Body| server.call(Method::PUT, &format!("/packages/{sha}"), body).await;
    put(&"0".repeat(64), good.clone().into()).await.problem(422, "digest_mismatch");
    put("nonsense", good.clone().into()).await.problem(422, "invalid");
    put("..%2f..%2fetc", good.into()).await.problem(422, "invalid");
    let hostile = package("../../etc/cron.d/x", b"x");
    let problem = put(&sha256(&hostile), hostile.into()).await.problem(422, "bad_package");
    assert!(problem["detail"].as_str().unwrap().contains("../../etc/cron.d/x"), "{problem}");
    let large = vec![7; 6_000];
    put(&sha256(&large), large.into()).await.problem(413, "too_large");
    assert_eq!(files(&server.folder.path().join("data/packages")).len(), before);
}

/// An upload from a byte on, whose body may break off.
fn rest(server: &Server, bytes: &[u8], from: usize, to: usize, broken: bool) -> Request<Body> {
    let mut chunks = vec![Ok(bytes[from..to].to_vec())];
    if broken {
        chunks.push(Err(std::io::Error::other("gone")));
    }
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let mut request = server.request(Method::PUT, &format!("/packages/{}", sha256(bytes)), body);
    request.headers_mut().insert("upload-offset", from.into());
    request.headers_mut().insert("upload-length", bytes.len().into());
    request
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on() {
    let server = Server::start().await;
    let bytes = package("a", sha256(b"x").as_bytes());
    let path = format!("/packages/{}", sha256(&bytes));
    let head = async || server.call(Method::HEAD, &path, "").await;
    assert!(head().await.headers.get("upload-offset").is_none());
    let cut = server.send(rest(&server, &bytes, 0, 20, true)).await.problem(400, "upload_cut");
    assert!(cut["detail"].as_str().unwrap().contains("20 bytes of it are kept"), "{cut}");
    let found = head().await;
    assert_eq!((found.status.as_u16(), found.headers["upload-offset"].to_str().unwrap()), (404, "20"));
    assert_eq!(found.headers["upload-length"].to_str().unwrap(), bytes.len().to_string());
    for wrong in [0, 19, 21] {
        server.send(rest(&server, &bytes, wrong, bytes.len(), false)).await.problem(409, "upload_offset");
    }
    let kept = server.send(rest(&server, &bytes, 20, 30, false)).await;
    assert_eq!((kept.ok(202)["offset"].as_u64(), kept.headers["upload-offset"].to_str().unwrap()), (Some(30), "30"));
    server.send(rest(&server, &bytes, 30, bytes.len(), false)).await.ok(201);
    assert_eq!(head().await.status, 200);
    let stored: Vec<_> = files(&server.folder.path().join("data/packages"));
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(std::fs::read(&stored[0]).unwrap(), bytes);
    // A row that a crash did not leave room for is made up for without a byte.
    server.send(rest(&server, &bytes, bytes.len(), bytes.len(), false)).await.ok(200);
}

#[tokio::test]
async fn wrong_bytes_and_headers_are_refused() {
    let server = Server::start_with("max_package_bytes = 5000").await;
    let bytes = package("a", sha256(b"x").as_bytes());
    server.send(rest(&server, &bytes, 0, 20, true)).await.problem(400, "upload_cut");
    let mut wrong = rest(&server, &bytes, 20, 20, false);
    *wrong.body_mut() = Body::from(vec![0; bytes.len() - 20]);
    server.send(wrong).await.problem(422, "digest_mismatch");
    assert_eq!(files(&server.folder.path().join("data/packages")), Vec::<std::path::PathBuf>::new());
    let mut alone = rest(&server, &bytes, 0, 20, false);
    alone.headers_mut().remove("upload-length");
    server.send(alone).await.problem(422, "invalid");
    let mut odd = rest(&server, &bytes, 0, 20, false);
    odd.headers_mut().insert("upload-offset", "-1".parse().unwrap());
    server.send(odd).await.problem(422, "invalid");
    let large = vec![7; 6_000];
    server.send(rest(&server, &large, 0, 10, false)).await.problem(413, "too_large");
}
