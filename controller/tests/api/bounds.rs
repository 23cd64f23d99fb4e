//! Floods that keep to the rules of HTTP/2: how much memory they cost. Each is measured in a process of its own, where nothing else
//! takes any, with a client that keeps next to nothing itself.

use std::future::Future;
use std::process::Command;
use std::time::Duration;

use longshore_proto::{CAPABILITIES, v1};
use prost::Message as _;
use serde_json::json;
use v1::session_request::Message as Up;

use crate::agent::{self, Identity, Session};
use crate::h2::{self, Frame, Receiver, Sender};
use crate::harness::Running;
use crate::plane::{enrolled, running};

const MIB: u64 = 1 << 20;
/// What a flood may cost, controller and client together: a connection's window is 8 MiB.
const MOST: u64 = 16 * MIB;
/// Frames of a flood.
const MANY: u32 = 100_000;
/// Says that this process is the one that measures.
const ALONE: &str = "LONGSHORE_TEST_ALONE";
/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;
const ACK: u8 = 1;
/// ENHANCE_YOUR_CALM.
const CALM: u32 = 11;

/// Runs a test of this program in a process of its own.
fn alone(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os(ALONE).is_some() {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
        return;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let done = again.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&done.stderr));
}

/// A line of this process's status, in bytes.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    found.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

async fn served(server: &Running, ca: &str, identity: &Identity) {
    let plane = agent::dial(server.agents, ca, Some(identity)).await.unwrap();
    Session::open(plane).await.unwrap().beat().await;
}

/// Carries a flood out and, at the same time, has another agent served ten times. The memory that it took at its worst is bounded.
async fn bounded<T>(server: &Running, flood: impl Future<Output = T>) -> T {
    let (other, ca) = enrolled(server).await;
    served(server, &ca, &other).await;
    let before = memory("VmRSS:");
    let others = async {
        for _ in 0..10 {
            served(server, &ca, &other).await;
        }
    };
    let (result, ()) = tokio::join!(flood, others);
    // The highest that it ever was.
    let taken = memory("VmHWM:").saturating_sub(before);
    assert!(taken < MOST, "{} MiB", taken / MIB);
    result
}

/// Sends so many frames and reads until all of them were answered.
async fn answered(mut up: Sender, mut down: Receiver, flood: &[Vec<u8>], answer: impl Fn(&Frame) -> bool) {
    let send = async {
        for number in 0..MANY {
            assert!(up.send(&flood[usize::try_from(number).unwrap() % flood.len()]).await, "cut after {number}");
        }
    };
    let read = async {
        let mut count = 0;
        while count < MANY {
            let frame = down.next().await.unwrap_or_else(|| panic!("the connection ended after {count} answers"));
            count += u32::from(answer(&frame));
        }
    };
    tokio::join!(send, read);
}

#[test]
fn a_flood_of_pings_takes_no_memory() {
    alone("bounds::a_flood_of_pings_takes_no_memory", async {
        let server = running().await;
        let (identity, ca) = enrolled(&server).await;
        let (up, down) = h2::open(server.agents, &ca, Some(&identity), &[]).await;
        let flood = [h2::frame(h2::PING, 0, 0, b"payload!")];
        let answer = |frame: &Frame| frame.kind == h2::PING && frame.flags & ACK != 0 && frame.body == b"payload!";
        bounded(&server, answered(up, down, &flood, answer)).await;
    });
}

#[test]
fn a_flood_of_settings_takes_no_memory() {
    alone("bounds::a_flood_of_settings_takes_no_memory", async {
        let server = running().await;
        let (identity, ca) = enrolled(&server).await;
        let (mut up, down) = h2::open(server.agents, &ca, Some(&identity), &[]).await;
        // Streams whose window each of them changes.
        for stream in (1..101).step_by(2) {
            assert!(up.send(&call("ShipLog", stream, &[])).await);
        }
        let window =
            |size: u32| h2::frame(h2::SETTINGS, 0, 0, &[&WINDOW.to_be_bytes()[..], &size.to_be_bytes()].concat());
        let flood = [window(0), window(1 << 20), h2::frame(h2::SETTINGS, 0, 0, &[])];
        let answer = |frame: &Frame| frame.kind == h2::SETTINGS && frame.flags & ACK != 0;
        bounded(&server, answered(up, down, &flood, answer)).await;
    });
}

/// A call with the first bytes of its body.
fn call(rpc: &str, stream: u32, body: &[u8]) -> Vec<u8> {
    let headers = h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &h2::headers(rpc, &[]));
    [headers, h2::frame(h2::DATA, 0, stream, body)].concat()
}

/// What an agent says, as gRPC frames it.
fn said(message: Up) -> Vec<u8> {
    let bytes = v1::SessionRequest { message: Some(message) }.encode_to_vec();
    h2::message(u32::try_from(bytes.len()).unwrap(), &bytes)
}

fn hello() -> Vec<u8> {
    said(Up::Hello(v1::Hello {
        boot_id: "boot".to_owned(),
        slots: 1,
        weakest_profile: "standard".to_owned(),
        capabilities: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
        ..v1::Hello::default()
    }))
}

/// Sends frames until there were enough, or until the connection is closed: with which code.
async fn thrown(mut up: Sender, down: Receiver, frame: &[u8]) -> Option<u32> {
    let throw = async {
        for _ in 0..MANY {
            if !up.send(frame).await {
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        () = throw => None,
        code = down.end() => code,
    }
}

#[test]
fn data_without_data_takes_no_memory() {
    alone("bounds::data_without_data_takes_no_memory", async {
        let server = running().await;
        let (identity, ca) = enrolled(&server).await;
        // A session, and a call that waits for the rest of its message: frames without content, and of one byte, which is read.
        for (rpc, body, data) in [("Session", hello(), &b""[..]), ("ShipLog", h2::message(8 << 20, b""), &b"x"[..])] {
            let (mut up, down) = h2::open(server.agents, &ca, Some(&identity), &[]).await;
            assert!(up.send(&call(rpc, 1, &body)).await);
            let code = bounded(&server, thrown(up, down, &h2::frame(h2::DATA, 0, 1, data))).await;
            // What is read may be taken to its end; where the reader is too slow for it, it is cut off as well.
            let taken = rpc == "ShipLog" && code.is_none();
            assert!(taken || code == Some(CALM), "{rpc}: {code:?}");
        }
    });
}

/// A session of an agent that gives no window for answers, and as many heartbeats as make the controller wait for one.
async fn shut(server: &Running, ca: &str, identity: &Identity) -> (Sender, Receiver) {
    let (mut up, down) = h2::open(server.agents, ca, Some(identity), &[(WINDOW, 0)]).await;
    assert!(up.send(&call("Session", 1, &hello())).await);
    for _ in 0..40 {
        assert!(up.send(&beat()).await);
    }
    (up, down)
}

fn beat() -> Vec<u8> {
    h2::frame(h2::DATA, 0, 1, &said(Up::Heartbeat(v1::Heartbeat { sequence: 7, ..v1::Heartbeat::default() })))
}

#[test]
fn an_agent_that_takes_no_answer_takes_no_memory() {
    alone("bounds::an_agent_that_takes_no_answer_takes_no_memory", async {
        let server = running().await;
        let (identity, ca) = enrolled(&server).await;
        let (up, down) = shut(&server, &ca, &identity).await;
        let code = bounded(&server, thrown(up, down, &beat())).await;
        assert_eq!(code, Some(CALM));
    });
}

/// No timer ends it here: the last of the messages that wait for it does.
#[tokio::test]
async fn an_agent_that_takes_nothing_is_not_connected() {
    let server = running().await;
    let (identity, ca) = enrolled(&server).await;
    let (_up, mut down) = shut(&server, &ca, &identity).await;
    let state = async || server.get("/agents").await.ok(200)[0]["state"].as_str().unwrap().to_owned();
    let id = server.get("/agents").await.ok(200)[0]["id"].as_str().unwrap().to_owned();
    let cut = async {
        while state().await != "connected" {}
        // It has room for 32 of them on its stream and 256 before it.
        for _ in 0..150 {
            for what in ["drain", "undrain"] {
                server.post(&format!("/agents/{id}/{what}"), &json!({})).await;
            }
        }
        while state().await != "disconnected" {}
    };
    let read = async { while down.next().await.is_some() {} };
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! {
            () = cut => {}
            () = read => panic!("the connection itself need not end"),
        }
    });
    if ended.await.is_err() {
        panic!("still {}", state().await);
    }
    let (other, ca) = enrolled(&server).await;
    served(&server, &ca, &other).await;
}
