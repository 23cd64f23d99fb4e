//! Makes an agent out of a join token, or of a machine whose cloud says what it is.
//!
//! A machine that was an agent before shows the key of then, whether or not its certificate has ended, and stays that agent: what it
//! runs goes on.

use longshore_core::id::AgentId;
use longshore_core::join::{binding, rejoin_text};
use longshore_core::secret::Secret;
use tokio::sync::watch;

use super::Error;
use crate::attest::{Cloud, prove};
use crate::config::Config;
use crate::identity::{self, Identity};
use crate::lifecycle::{Manager, StateDir};
use crate::retry::{Policy, Retry};
use crate::session::{self, Credential, Dialer, Introduction};
use crate::supervisor::Stop;

/// Between two tries of a machine to get in.
const RETRY: Policy = Policy { first: std::time::Duration::from_secs(2), most: std::time::Duration::from_secs(60) };

/// What lets an agent in.
#[derive(Debug, Clone)]
pub enum By {
    /// A join token.
    Token(Secret),
    /// The machine that it runs on.
    Machine(Cloud),
}

/// Makes a key on this machine, trades the token or the proof for a certificate and keeps both. An agent that is enrolled already is
/// left as it is unless `force` is set.
///
/// # Errors
/// [`Error`]; nothing was changed then, though a token may be used up when the answer was lost.
pub async fn enroll(config: &Config, by: By, force: bool) -> Result<Identity, Error> {
    let state_dir = StateDir::open(&config.state_dir)?;
    let former = match Identity::load(state_dir.path()) {
        Ok(there) if !force => return Err(identity::Error::Enrolled { agent: there.agent }.into()),
        Err(error @ identity::Error::Unreadable { .. }) if !force => return Err(error.into()),
        former => former.ok(),
    };
    let identity = match by {
        By::Token(token) => trade(config, Credential::Token(token), None).await?,
        By::Machine(cloud) => by_machine(config, cloud, former.as_ref()).await?,
    };
    identity.save(state_dir.path())?;
    identity::settled(state_dir.path());
    Ok(identity)
}

/// The identity that the agent runs with: the one that is there, or, where the configuration says so, one that the machine gets now;
/// tried until it gets one. `None`: the agent was told to stop meanwhile.
pub(super) async fn identity(
    config: &Config,
    state_dir: &StateDir,
    manager: Manager,
    stop: &mut watch::Receiver<Stop>,
) -> Result<Option<Identity>, Error> {
    let there = Identity::load(state_dir.path());
    let Some(cloud) = config.join else {
        let identity = there?;
        identity.check(crate::clock::now())?;
        return Ok(Some(identity));
    };
    let former = match there {
        Ok(identity) => match identity.check(crate::clock::now()) {
            Ok(()) => return Ok(Some(identity)),
            Err(error) => {
                tracing::warn!(%error, cloud = cloud.as_str(), "the machine proves anew what it is");
                Some(identity)
            }
        },
        Err(identity::Error::NotEnrolled { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut retry = Retry::new(RETRY);
    loop {
        let tried = tokio::select! {
            tried = by_machine(config, cloud, former.as_ref()) => tried,
            _ = stop.wait_for(|stop| *stop != Stop::Run) => return Ok(None),
        };
        match tried {
            Ok(identity) => {
                identity.save(state_dir.path())?;
                identity::settled(state_dir.path());
                tracing::info!(agent = %identity.agent, pool = identity.pool, "enrolled by what the machine is");
                return Ok(Some(identity));
            }
            Err(error) => {
                let reason = super::with_causes(&error);
                tracing::error!(reason, cloud = cloud.as_str(), "not enrolled yet; it is tried again");
                manager.waiting(&format!("not enrolled yet: {reason}"), RETRY.most * 3);
            }
        }
        tokio::select! {
            () = retry.pause() => {}
            _ = stop.wait_for(|stop| *stop != Stop::Run) => return Ok(None),
        }
    }
}

/// Asks for a nonce, collects the machine's proof for it and trades that.
pub(super) async fn by_machine(config: &Config, cloud: Cloud, former: Option<&Identity>) -> Result<Identity, Error> {
    let dialer = dialer(config, former)?;
    let challenge = session::challenge(&dialer).await.map_err(Error::Enroll)?;
    let new = identity::pending(&config.state_dir)?;
    let bound = binding(&challenge.nonce, &new.csr_pem);
    let endpoint = config.join_endpoint.as_ref();
    let proof = prove(cloud, endpoint, &challenge.controller, &bound, crate::clock::now()).await;
    let proof = proof.map_err(|source| Error::Metadata { cloud: cloud.as_str(), source })?;
    let previous =
        former.map(|former| former.sign(&rejoin_text(&bound)).map(|by| (former.certificate_pem.clone(), by)));
    let previous = previous.transpose()?;
    let credential = Credential::Machine { proof, nonce: challenge.nonce, previous };
    introduce(config, &dialer, credential, new, former).await
}

async fn trade(config: &Config, credential: Credential, former: Option<&Identity>) -> Result<Identity, Error> {
    introduce(config, &dialer(config, former)?, credential, identity::csr()?, former).await
}

fn authorities(config: &Config, former: Option<&Identity>) -> Result<String, Error> {
    match (std::fs::read_to_string(&config.ca_file), former) {
        (Ok(pem), _) => Ok(pem),
        // Those that it was given are as good.
        (Err(_), Some(former)) => Ok(former.ca_pem.clone()),
        (Err(source), None) => Err(Error::Authorities { path: config.ca_file.clone(), source }),
    }
}

fn dialer(config: &Config, former: Option<&Identity>) -> Result<Dialer, Error> {
    let ca_pem = authorities(config, former)?;
    Ok(Dialer::anonymous(config.controller.clone(), &ca_pem)?.by_way_of(config.proxy.clone()))
}

async fn introduce(
    config: &Config,
    dialer: &Dialer,
    credential: Credential,
    new: identity::NewKey,
    former: Option<&Identity>,
) -> Result<Identity, Error> {
    let introduction = Introduction {
        credential,
        csr_pem: new.csr_pem,
        name: config.name.clone(),
        boot_id: crate::host::boot_id().map_err(Error::system("read the host's boot id"))?,
    };
    let answer = session::enroll(dialer, &introduction).await.map_err(Error::Enroll)?;
    let agent: AgentId = answer.agent.parse().map_err(|err| identity::Error::Answer(format!("{err}")))?;
    let ca_pem = if answer.ca_pem.is_empty() { authorities(config, former)? } else { answer.ca_pem };
    let identity = Identity {
        agent,
        controller: answer.controller,
        pool: answer.pool,
        key_pem: new.key_pem,
        certificate_pem: answer.certificate_pem,
        ca_pem,
    };
    identity.verify()?;
    Ok(identity)
}
