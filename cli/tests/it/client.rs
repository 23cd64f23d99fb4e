//! The client, against a fake server.

use crate::fake::{Fake, Reply};
use longshore_cli::client::retry::Patience;
use longshore_cli::client::{Address, Client, Error, Request};
use longshore_cli::exit::Exit;

fn client(url: &str) -> Client {
    Client::new(Address::parse(url).unwrap(), None).unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn a_server_that_is_not_there_is_not_reachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = run(async { client(&url).json(&Request::get(&["agents"]), Patience::NONE).await }).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.exit() == Exit::Unreachable, "{error:?}");
    assert!(longshore_cli::failure::Failure::from(error).to_string().contains(&url));
}

#[test]
fn a_server_that_stays_unready_is_not_reachable() {
    let fake = Fake::start([Reply::With { status: 503, header: "retry-after: 3600", body: "starting" }]);
    let error = run(async { client(&fake.url).json(&Request::get(&["agents"]), Patience::LONG).await }).unwrap_err();
    assert!(matches!(&error, Error::NotReady { .. }) && error.exit() == Exit::Unreachable, "{error:?}");
    assert!(error.to_string().contains("starting"), "{error}");
}

#[test]
fn another_service_is_not_taken_for_longshore() {
    let fake = Fake::start([Reply::bytes(b"<html>")]);
    let error = run(async { client(&fake.url).json(&Request::get(&["agents"]), Patience::NONE).await }).unwrap_err();
    assert!(matches!(error, Error::NotLongshore { .. }), "{error:?}");
}

#[test]
fn an_answer_that_was_cut_is_asked_for_again() {
    let fake = Fake::start([Reply::Cut(b"[1,".to_vec()), Reply::json(200, "[1,2]")]);
    let answer = run(async { client(&fake.url).json(&Request::get(&["agents"]), Patience::SHORT).await }).unwrap();
    assert_eq!(answer, serde_json::json!([1, 2]));
    assert_eq!(fake.lines(), ["GET agents", "GET agents"]);
}

#[test]
fn too_many_requests_is_tried_again_even_for_what_may_not_be_repeated() {
    let fake = Fake::start([Reply::With { status: 429, header: "retry-after: 0", body: "" }, Reply::json(200, "{}")]);
    run(async { client(&fake.url).json(&Request::post(&["join-tokens"]), Patience::SHORT).await }).unwrap();
    assert_eq!(fake.lines(), ["POST join-tokens", "POST join-tokens"]);
}
