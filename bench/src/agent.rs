//! One agent: it enrols, holds its stream, beats, takes what it is offered, and comes back when the stream broke, after the same
//! waits as a real one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use longshore_agent::retry::{Policy, Retry};
use longshore_proto::v1;
use longshore_proto::v1::session_request::Message as Up;
use longshore_proto::v1::session_response::Message as Down;
use rcgen::KeyPair;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::Counters;
use crate::plane::{self, Identity, Plane};

/// Messages that may wait to be sent.
const QUEUE: usize = 64;

/// An agent that runs nothing.
pub(crate) struct Agent {
    pub(crate) number: usize,
    pub(crate) address: String,
    pub(crate) ca_pem: String,
    pub(crate) slots: u32,
    pub(crate) counters: Arc<Counters>,
    /// Told the deployment of each offer, and when it came, in microseconds since the host was booted.
    pub(crate) offered: mpsc::UnboundedSender<(String, u64)>,
}

/// Subtracts what was added when the stream came about.
struct Connected<'a>(&'a Counters);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Agent {
    /// Trades the join token for a certificate.
    pub(crate) async fn enroll(&mut self, token: &str) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let mut plane = plane::dial(&self.address, plane::settings(&self.ca_pem, None)?).await?;
        let request = v1::EnrollRequest {
            join_token: token.to_owned(),
            csr_pem: plane::csr(&key)?,
            hostname: format!("fleet-{}", self.number),
            boot_id: self.boot_id(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let certificate_pem = plane.enroll(request).await.context("not let in")?.into_inner().certificate_pem;
        Ok(Identity { certificate_pem, key })
    }

    /// Holds a stream for ever.
    pub(crate) async fn serve(&self, identity: &Identity) -> anyhow::Result<()> {
        let tls = plane::settings(&self.ca_pem, Some(identity))?;
        let mut retry = Retry::new(Policy::default());
        loop {
            if let Ok(plane) = plane::dial(&self.address, Arc::clone(&tls)).await {
                // Why a stream ended does not matter here: another one is opened.
                let welcomed = self.session(plane).await;
                if welcomed {
                    retry.reset();
                }
            }
            retry.pause().await;
        }
    }

    /// One stream until it ends; whether it was welcomed.
    async fn session(&self, mut plane: Plane) -> bool {
        let (up, messages) = mpsc::channel(QUEUE);
        if up.send(v1::SessionRequest { message: Some(Up::Hello(self.hello())) }).await.is_err() {
            return false;
        }
        let Ok(answer) = plane.session(ReceiverStream::new(messages)).await else { return false };
        let mut down = answer.into_inner();
        let Ok(Some(v1::SessionResponse { message: Some(Down::Welcome(welcome)) })) = down.message().await else {
            return false;
        };
        self.counters.connected.fetch_add(1, Ordering::AcqRel);
        let _connected = Connected(&self.counters);
        let mut beats = tokio::time::interval(Duration::from_secs(u64::from(welcome.heartbeat_seconds.max(1))));
        let (mut sequence, mut free) = (0, self.slots);
        loop {
            let answer = tokio::select! {
                message = down.message() => match message {
                    Ok(Some(message)) => self.heard(message, &mut free),
                    _ => return true,
                },
                _ = beats.tick() => {
                    sequence += 1;
                    Some(Up::Heartbeat(v1::Heartbeat { sequence, free_slots: free, host: Some(host(self.number)) }))
                }
            };
            if let Some(message) = answer
                && up.send(v1::SessionRequest { message: Some(message) }).await.is_err()
            {
                return true;
            }
        }
    }

    fn heard(&self, message: v1::SessionResponse, free: &mut u32) -> Option<Up> {
        let Some(Down::Offer(offer)) = message.message else { return None };
        // Nobody listens unless pickups are measured.
        let _told = self.offered.send((offer.deployment_id, longshore_agent::clock::boot_micros())).is_ok();
        *free = free.saturating_sub(1);
        self.counters.claimed.fetch_add(1, Ordering::AcqRel);
        Some(Up::OfferAnswer(v1::OfferAnswer { fence: offer.fence, accepted: true, reason: String::new() }))
    }

    fn hello(&self) -> v1::Hello {
        v1::Hello {
            capabilities: longshore_proto::CAPABILITIES.map(str::to_owned).to_vec(),
            boot_id: self.boot_id(),
            instance_id: format!("fleet-{}", self.number),
            slots: self.slots,
            host: Some(host(self.number)),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            weakest_profile: "standard".to_owned(),
            ..v1::Hello::default()
        }
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.number)
    }
}

fn host(number: usize) -> v1::HostFacts {
    v1::HostFacts {
        hostname: format!("fleet-{number}"),
        os: "Debian GNU/Linux 12".to_owned(),
        kernel: "6.1.0".to_owned(),
        arch: "x86_64".to_owned(),
        cpus: 4,
        memory_total: 16 << 30,
        memory_available: 12 << 30,
        disk_total: 100 << 30,
        disk_available: 80 << 30,
        engine_version: "20.10.24".to_owned(),
        engine_api: "1.41".to_owned(),
        ..v1::HostFacts::default()
    }
}
