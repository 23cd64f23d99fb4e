//! What the network, or an agent that went bad, throws at the ports: messages without measure, broken HTTP/2, handshakes that do
//! not end. Each time somebody else is served meanwhile.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use longshore_proto::v1;
use rustls::ClientConnection;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;
use v1::session_request::Message as Up;

use crate::agent::{self, Identity, Session};
use crate::h2::{self, Frame, Receiver, Sender};
use crate::harness::{Running, Server};
use crate::plane::{enrolled, running};

/// PROTOCOL_ERROR and ENHANCE_YOUR_CALM of RFC 9113.
const PROTOCOL: u32 = 1;
const CALM: u32 = 11;

async fn served(server: &Running, ca: &str, identity: &Identity) {
    let plane = agent::dial(server.agents, ca, Some(identity)).await.unwrap();
    let _session = Session::open(plane).await.unwrap();
}

/// The end of a call: the headers or the reset that end it.
async fn ended(down: &mut Receiver, stream: u32) -> Frame {
    loop {
        let frame = down.next().await.unwrap_or_else(|| panic!("the connection ended instead of call {stream}"));
        if frame.stream == stream && (frame.kind == h2::RST_STREAM || frame.flags & h2::END_STREAM != 0) {
            return frame;
        }
    }
}

/// Sends a call's headers and these bytes, in frames that HTTP/2 takes.
async fn call(up: &mut Sender, rpc: &str, stream: u32, bytes: &[u8]) {
    assert!(up.send(&h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &h2::headers(rpc, &[]))).await);
    for chunk in bytes.chunks(16 << 10) {
        assert!(up.send(&h2::frame(h2::DATA, 0, stream, chunk)).await);
    }
}

#[tokio::test]
async fn messages_without_measure_end_their_call() {
    let server = running().await;
    let (identity, ca) = enrolled(&server).await;
    let (mut up, mut down) = h2::open(server.agents, &ca, Some(&identity), &[]).await;
    // Field 4 (`data`), 10 GiB long; groups of an unknown field, one in the other, 100,000 deep.
    let claims = [&[0x22][..], &[0x80, 0x80, 0x80, 0x80, 0x28], b"short"].concat();
    let deep = [0xa3, 0x06].repeat(100_000);
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let mut stream = 1;
    for rpc in ["ShipLog", "ShipArtifact", "Session", "ConfirmStart", "Complete"] {
        for bytes in
            [h2::message(u32::MAX, b"short"), h2::message(length(&claims), &claims), h2::message(length(&deep), &deep)]
        {
            call(&mut up, rpc, stream, &bytes).await;
            ended(&mut down, stream).await;
            stream += 2;
        }
    }
    let labels = (0..1_000_000).map(|number| (number.to_string(), String::new())).collect();
    let hello = v1::Hello { weakest_profile: "standard".to_owned(), labels, ..v1::Hello::default() };
    let mut plane = agent::dial(server.agents, &ca, Some(&identity)).await.unwrap();
    let first = v1::SessionRequest { message: Some(Up::Hello(hello)) };
    let refused = plane.session(tokio_stream::once(first)).await.err().unwrap();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    served(&server, &ca, &identity).await;
}

#[tokio::test]
async fn of_who_has_no_certificate_little_is_read() {
    let server = running().await;
    let (identity, ca) = enrolled(&server).await;
    let mut plane = agent::dial(server.agents, &ca, None).await.unwrap();
    let long = v1::EnrollRequest { join_token: "x".repeat(1 << 20), ..v1::EnrollRequest::default() };
    let refused = plane.enroll(long).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    // The call is refused by its headers: its body need not come.
    let (mut up, mut down) = h2::open(server.agents, &ca, None, &[]).await;
    call(&mut up, "ShipLog", 1, &[]).await;
    ended(&mut down, 1).await;
    // Calls to enroll that do not go on: one more than 64 is turned away.
    for stream in (3..3 + 2 * 64).step_by(2) {
        call(&mut up, "Enroll", stream, &[0]).await;
    }
    call(&mut up, "Enroll", 501, &[0]).await;
    ended(&mut down, 501).await;
    served(&server, &ca, &identity).await;
}

/// Throws `flood` at the plane, over and over, until the connection is closed; the code it is closed with.
async fn flooded(server: &Running, ca: &str, identity: &Identity, flood: impl Fn(u32) -> Vec<u8>) -> Option<u32> {
    let (mut up, down) = h2::open(server.agents, ca, Some(identity), &[]).await;
    let throw = async {
        for round in 0..200_000 {
            if !up.send(&flood(round)).await {
                return;
            }
        }
        panic!("it was taken to its end");
    };
    let (_, code) = tokio::join!(throw, down.end());
    code
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_close_the_connection() {
    let server = running().await;
    let (identity, ca) = enrolled(&server).await;
    let headers = h2::headers("Session", &[]);
    let rapid = flooded(&server, &ca, &identity, |round| {
        let stream = round * 2 + 1;
        let open = h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &headers);
        [open, h2::frame(h2::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    assert_eq!(rapid.await, Some(CALM), "rapid reset");
    served(&server, &ca, &identity).await;
    // A window that overflows: the server has to reset the stream itself.
    let made = flooded(&server, &ca, &identity, |round| {
        let stream = round * 2 + 1;
        let open = h2::frame(h2::HEADERS, h2::END_HEADERS, stream, &headers);
        [open, h2::frame(h2::WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()
    });
    assert_eq!(made.await, Some(CALM), "resets that the server was made to do");
    served(&server, &ca, &identity).await;
    // A window that grows by nothing, and data behind the end, are no HTTP/2 at all.
    for (flags, kind, body) in [(h2::END_STREAM, h2::DATA, &b"late"[..]), (0, h2::WINDOW_UPDATE, &[0; 4])] {
        let cut = flooded(&server, &ca, &identity, |round| {
            let stream = round * 2 + 1;
            let open = h2::frame(h2::HEADERS, h2::END_HEADERS | flags, stream, &headers);
            [open, h2::frame(kind, 0, stream, body)].concat()
        });
        assert_eq!(cut.await, Some(PROTOCOL));
        served(&server, &ca, &identity).await;
    }
}

#[tokio::test]
async fn headers_without_end_close_the_connection() {
    let server = running().await;
    let (identity, ca) = enrolled(&server).await;
    let (first, more) = (h2::headers("Session", &[]), h2::headers("Session", &[("x", &"y".repeat(15_000))]));
    let long = flooded(&server, &ca, &identity, |round| match round {
        0 => h2::frame(h2::HEADERS, 0, 1, &first),
        _ => h2::frame(h2::CONTINUATION, 0, 1, &more[first.len()..]),
    });
    assert_eq!(long.await, Some(CALM));
    let empty = flooded(&server, &ca, &identity, |round| match round {
        0 => h2::frame(h2::HEADERS, 0, 1, &first),
        _ => h2::frame(h2::CONTINUATION, 0, 1, &[]),
    });
    assert_eq!(empty.await, Some(CALM));
    served(&server, &ca, &identity).await;
}

/// Others are served while `flood` goes on, which is cut off at the end.
async fn meanwhile(server: &Running, ca: &str, identity: &Identity, flood: impl Future<Output = ()>) {
    let others = async {
        for _ in 0..10 {
            served(server, ca, identity).await;
        }
    };
    tokio::pin!(flood, others);
    let mut over = false;
    loop {
        tokio::select! {
            () = &mut others => return,
            () = &mut flood, if !over => over = true,
        }
    }
}

#[tokio::test]
async fn floods_of_frames_that_want_an_answer_hold_nobody_up() {
    let server = running().await;
    let (identity, ca) = enrolled(&server).await;
    for frame in [h2::frame(h2::PING, 0, 0, b"payload!"), h2::frame(h2::SETTINGS, 0, 0, &[])] {
        // Nothing of what it asks for is read: what cannot be answered is not read either.
        let (mut up, _down) = h2::open(server.agents, &ca, Some(&identity), &[]).await;
        let many = frame.repeat(1_000);
        meanwhile(&server, &ca, &identity, async { while up.send(&many).await {} }).await;
    }
    // And who has no room for an answer waits alone.
    let (mut up, mut down) = h2::open(server.agents, &ca, Some(&identity), &[(4, 0)]).await;
    call(&mut up, "Session", 1, &h2::message(2, &[0x0a, 0])).await;
    let stuck = async { while down.next().await.is_some() {} };
    let (other, _) = enrolled(&server).await;
    meanwhile(&server, &ca, &other, stuck).await;
}

/// The records of a client's first message.
fn client_hello(ca: &str) -> Vec<u8> {
    let name = ServerName::try_from(longshore_proto::SERVER_NAME).unwrap();
    let mut client = ClientConnection::new(Arc::new(h2::tls(ca, None)), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// What comes back for these bytes until the other side closes or answers.
async fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may have closed already.
    let _sent = stream.write_all(bytes).await.is_ok();
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).await.unwrap_or_default();
    answer.truncate(length);
    answer
}

#[tokio::test]
async fn connections_that_break_off_leave_the_listener_up() {
    let server = running().await;
    let (identity, ca) = enrolled(&server).await;
    let hello = client_hello(&ca);
    for address in [server.agents, server.api] {
        for round in 0..2_000 {
            let stream = TcpStream::connect(address).await.unwrap();
            // Closed by a reset, before or in the middle of the handshake.
            stream.set_zero_linger().unwrap();
            let sent = hello.len() * (round % 4) / 4;
            if sent > 0 {
                stream.try_write(&hello[..sent]).unwrap();
            }
        }
    }
    served(&server, &ca, &identity).await;
    // A first message in records of one byte each, and one that never was one.
    let fragments: Vec<u8> = hello[5..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
    let back = answer(server.agents, &fragments).await;
    assert!(matches!(back.first(), Some(22 | 21) | None), "a handshake, an alert, or the end: {back:?}");
    answer(server.agents, &[22, 3, 1, 255, 255, 1, 0, 0]).await;
    answer(server.agents, b"GET / HTTP/1.1\r\n\r\n").await;
    served(&server, &ca, &identity).await;
}

#[tokio::test]
async fn nothing_but_tls_1_3_and_http_2_is_spoken_to_agents() {
    let server = running().await;
    let (identity, ca) = enrolled(&server).await;
    // HTTP/2 in the clear: an alert, or nothing, but no frame of HTTP/2.
    let clear = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &h2::frame(h2::SETTINGS, 0, 0, &[])[..]].concat();
    assert!(matches!(answer(server.agents, &clear).await.first(), Some(21) | None));
    // The API is for people and scripts: it speaks HTTP/1.1 alone.
    let back = answer(server.api, &clear).await;
    assert!(back.is_empty() || back.starts_with(b"HTTP/1.1 4"), "{back:?}");
    // The first message of TLS 1.1: version, random, no session, one suite, no compression, groups and signatures.
    let extensions = [0, 16, 0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3];
    let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0], &extensions].concat();
    let length = u8::try_from(body.len()).unwrap();
    let hello = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    let back = answer(server.agents, &hello).await;
    assert_eq!((back[0], back.last()), (21, Some(&70)), "alert `protocol_version`: {back:?}");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::pem::PemObject::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    for (versions, protocol) in [(&rustls::version::TLS12, "h2"), (&rustls::version::TLS13, "http/1.1")] {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[versions]).unwrap();
        let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(longshore_proto::SERVER_NAME).unwrap();
        let refused = connector.connect(name, TcpStream::connect(server.agents).await.unwrap()).await;
        assert!(refused.is_err(), "{versions:?} {protocol}");
    }
    served(&server, &ca, &identity).await;
}

/// Connects from one of the machine's own addresses.
async fn from(own: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{own}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Waits until the other side closes.
async fn closed(stream: &mut TcpStream) {
    let mut rest = [0; 256];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn one_address_cannot_hold_all_handshakes_nor_connections() {
    let limits = "connections = { handshake_timeout = \"1s\", handshakes_per_address = 8, per_address = 12, count_loopback = true }";
    let server = Server::start_with(limits).await.run();
    for port in [server.agents, server.api] {
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(from("127.0.0.9", port).await);
        }
        // The API's connections have no handshake here, and are counted as such.
        while port == server.api && held.len() < 12 {
            held.push(from("127.0.0.9", port).await);
        }
        closed(&mut from("127.0.0.9", port).await).await;
        // All of them are closed by themselves: nobody says a word for a second.
        let silent = futures_util::future::join_all(held.iter_mut().map(closed));
        if port == server.agents {
            let (_, (identity, ca)) = tokio::join!(silent, enrolled(&server));
            served(&server, &ca, &identity).await;
        } else {
            silent.await;
        }
    }
    // A request that trickles in.
    let mut slow = from("127.0.0.9", server.api).await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: ").await.unwrap();
    closed(&mut slow).await;
}
