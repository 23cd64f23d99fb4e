//! The controller behind an HTTP proxy, and what is said when the way there is blocked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use longshore_agent::config::{Address, Credentials, Proxy};
use longshore_agent::session::{DialError, Dialer, greet};
use longshore_agent::tasks::Tasks;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::controller::Controller;
use crate::world::{World, offer};

/// A proxy that lets through whoever has the right credentials, and writes down what it was asked.
struct Squid {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: Tasks,
}

/// base64 of `alice:s3cret`.
const RIGHT: &str = "Basic YWxpY2U6czNjcmV0";

impl Squid {
    async fn start(wanted: Option<&'static str>) -> Self {
        Self::at("127.0.0.1:0", wanted).await
    }

    async fn at(place: &str, wanted: Option<&'static str>) -> Self {
        let listener = TcpListener::bind(place).await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(vec![])));
        let (tasks, seen) = (Tasks::new(), Arc::clone(&asked));
        let inner = tasks.clone();
        tasks.spawn("proxy", async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let seen = Arc::clone(&seen);
                inner.spawn("proxied", async move { drop(serve(tcp, wanted, &seen).await) });
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    fn proxy(&self, credentials: Option<Credentials>) -> Proxy {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        Proxy { host, port, credentials, set_by: "field `proxy`" }
    }
}

async fn serve(tcp: TcpStream, wanted: Option<&str>, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut client = BufReader::new(tcp);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        client.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    seen.lock().unwrap().push(head[0].clone());
    let right = wanted.is_none_or(|wanted| head.contains(&format!("Proxy-Authorization: {wanted}")));
    if !right {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").await;
    }
    let place = head[0].split(' ').nth(1).unwrap();
    let Ok(mut server) = TcpStream::connect(place).await else {
        return client.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
    };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test]
async fn an_agent_behind_a_proxy_runs_a_job() {
    let squid = Squid::start(Some(RIGHT)).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("proxy-credentials");
    std::fs::write(&file, "alice:s3cret\n").unwrap();
    let mut world = World::by_way_of(Some(squid.proxy(Some(Credentials::File(file))))).await;
    let offer = offer(1, 1);
    world.offer(&offer).await;
    world.runtime.started(offer.fence, 0).await;
    world.runtime.exit(offer.fence, 0, 0);
    world.controller.completed().await;
    let asked = squid.asked.lock().unwrap().clone();
    let place = format!("CONNECT 127.0.0.1:{} HTTP/1.1", world.controller.address.port);
    assert!(asked.len() >= 2 && asked.iter().all(|line| *line == place), "{asked:?}");
    world.finish().await;
}

#[tokio::test]
async fn whose_failure_it_is_is_told_apart() {
    let controller = Controller::start().await;
    let said = async |address: &Address, proxy: Proxy| {
        let dialer = Dialer::anonymous(address.clone(), &controller.authority.ca_pem).unwrap().by_way_of(Some(proxy));
        let error = greet(&dialer).await.unwrap_err();
        assert!(matches!(error, DialError::Proxy(_)), "{error:?}");
        format!("{error}")
    };
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nowhere = Address { host: closed.ip().to_string(), port: closed.port() };

    let strict = Squid::start(Some(RIGHT)).await;
    let text = said(&controller.address, strict.proxy(None)).await;
    assert!(text.contains("wants a user"), "{text}");
    let wrong = Credentials::Given(longshore_core::secret::Secret::new("alice:wrong".to_owned()));
    let text = said(&controller.address, strict.proxy(Some(wrong))).await;
    assert!(text.contains("refuses the user and password") && !text.contains("wrong"), "{text}");
    let text = said(&controller.address, strict.proxy(Some(Credentials::File("/no/such".into())))).await;
    assert!(text.contains("/no/such"), "{text}");

    let open = Squid::start(None).await;
    let text = said(&nowhere, open.proxy(None)).await;
    assert!(text.contains("does not reach the controller"), "{text}");
    let gone = Proxy { host: nowhere.host.clone(), port: nowhere.port, credentials: None, set_by: "HTTPS_PROXY" };
    let text = said(&controller.address, gone).await;
    assert!(text.contains("set by HTTPS_PROXY") && text.contains("cannot be reached"), "{text}");

    // Through an open proxy it is the controller that answers, or fails to.
    let other = Controller::start().await;
    let dialer = Dialer::anonymous(controller.address.clone(), &other.authority.ca_pem).unwrap();
    let error = greet(&dialer.by_way_of(Some(open.proxy(None)))).await.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error:?}");
    let dialer = Dialer::anonymous(controller.address.clone(), &controller.authority.ca_pem).unwrap();
    let six = Squid::at("[::1]:0", None).await;
    assert_eq!(six.proxy(None).to_string(), format!("http://{}", six.address));
    greet(&dialer.clone().by_way_of(Some(six.proxy(None)))).await.unwrap();
    let greeting = greet(&dialer.by_way_of(Some(open.proxy(None)))).await.unwrap();
    assert!(greeting.spoken.unwrap().time.is_some());
}
