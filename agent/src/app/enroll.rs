//! Makes an agent out of a join token.

use longshore_core::id::AgentId;
use longshore_core::secret::Secret;

use super::Error;
use crate::config::Config;
use crate::identity::{self, Identity};
use crate::lifecycle::StateDir;
use crate::session::{self, Dialer, Introduction};

/// Makes a key on this machine, trades the token for a certificate and keeps both. An agent that is enrolled already is
/// left as it is unless `force` is set.
///
/// # Errors
/// [`Error`]; nothing was changed then, though the token may be used up when the answer was lost.
pub async fn enroll(config: &Config, token: Secret, force: bool) -> Result<Identity, Error> {
    let state_dir = StateDir::open(&config.state_dir)?;
    match Identity::load(state_dir.path()) {
        Ok(there) if !force => return Err(identity::Error::Enrolled { agent: there.agent }.into()),
        Err(error @ identity::Error::Unreadable { .. }) if !force => return Err(error.into()),
        _ => {}
    }
    let ca_pem = std::fs::read_to_string(&config.ca_file)
        .map_err(|source| Error::Authorities { path: config.ca_file.clone(), source })?;
    let dialer = Dialer::anonymous(config.controller.clone(), &ca_pem)?.by_way_of(config.proxy.clone());
    let new = identity::csr()?;
    let introduction = Introduction {
        token,
        csr_pem: new.csr_pem,
        name: config.name.clone(),
        boot_id: crate::host::boot_id().map_err(Error::system("read the host's boot id"))?,
    };
    let answer = session::enroll(&dialer, &introduction).await.map_err(Error::Enroll)?;
    let agent: AgentId = answer.agent.parse().map_err(|err| identity::Error::Answer(format!("{err}")))?;
    let identity = Identity {
        agent,
        controller: answer.controller,
        pool: answer.pool,
        key_pem: new.key_pem,
        certificate_pem: answer.certificate_pem,
        ca_pem: if answer.ca_pem.is_empty() { ca_pem } else { answer.ca_pem },
    };
    identity.verify()?;
    identity.save(state_dir.path())?;
    Ok(identity)
}
