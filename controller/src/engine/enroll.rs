//! How agents come in, and how they are cut off.

use longshore_core::id::{AgentId, TokenId};
use longshore_core::time::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::plane::{Error, Join, Joined};
use super::{Engine, Error as EngineError};
use crate::hex;
use crate::identity::{AgentCertificate, Ca};
use crate::store::joins::OriginRow;
use crate::store::rows::{AgentRow, Drained, JoinTokenRow};

impl Engine {
    /// Lets an agent in for a join token. The same token with the same signing request again answers the same agent, so that a lost
    /// answer does not waste a token.
    ///
    /// # Errors
    /// [`Error::JoinToken`], [`Error::Identity`] for a bad signing request.
    pub async fn join(&self, ca: &Ca, join: Join<'_>) -> Result<Joined, Error> {
        let hash = join.token.ok_or_else(|| refused(None, "it is not of the form of one"))?;
        let request = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, join.csr.as_bytes()).as_ref());
        let said = request.clone();
        let (token, known) = self
            .read(move |tx| {
                Box::pin(async move {
                    let Some(token) = tx.join_token(&hash).await? else { return Ok((None, None)) };
                    let known = tx.joined_by(token.id, &said).await?;
                    Ok((Some(token), known))
                })
            })
            .await?;
        let token = token.ok_or_else(|| refused(None, "it is not known"))?;
        let now = self.clock().now();
        if let Some(why) = spent(&token, known.is_some(), now) {
            return Err(self.refused_join(&token, join.hostname, why).await);
        }
        let agent = known.unwrap_or_else(|| self.clock().agent_id());
        let certificate = ca.sign_agent(join.csr, agent, now)?;
        if known.is_none() {
            let row = AgentRow {
                id: agent,
                pool: token.pool.clone(),
                labels: token.labels.clone(),
                hostname: join.hostname,
                version: join.version,
                serial: certificate.serial.clone(),
                boot_id: join.boot_id,
                facts: json!({}),
                enrolled_at: now,
                seen_at: None,
                revoked_at: None,
                drained: None,
            };
            let (id, hostname) = (token.id, row.hostname.clone());
            let origin = token.ephemeral.then(|| OriginRow {
                agent,
                rule: None,
                machine: None,
                request: request.clone(),
                expires_at: certificate.not_after,
                ephemeral: true,
                allowed_at: None,
                replaced_by: None,
                gone: None,
            });
            let done = self
                .change(&agent.to_string(), move |tx, cx| {
                    Box::pin(async move {
                        tx.insert_agent(&row).await?;
                        if !tx.use_join_token(id, agent, &request, cx.now).await? {
                            return Err(Error::JoinToken);
                        }
                        if let Some(origin) = origin {
                            tx.insert_origin(&origin).await?;
                        }
                        let detail = json!({ "pool": row.pool, "labels": row.labels, "token": id });
                        cx.audit(tx, "agent.enrolled", format!("agent/{agent}"), detail).await?;
                        Ok(())
                    })
                })
                .await;
            match done {
                Err(Error::JoinToken) => return Err(self.refused_join(&token, hostname, "others were faster").await),
                done => done?,
            }
        }
        let controller = self.0.meta.controller;
        Ok(Joined { agent, certificate_pem: certificate.certificate_pem, controller, pool: token.pool })
    }

    /// Writes down that a token which is known let nobody in. Nothing is written of texts that are no token of ours: anyone can send those.
    async fn refused_join(&self, token: &JoinTokenRow, hostname: String, why: &'static str) -> Error {
        let (id, pool) = (token.id, token.pool.clone());
        let written: Result<(), EngineError> = self
            .change("nobody", move |tx, cx| {
                Box::pin(async move {
                    let detail = json!({ "pool": pool, "reason": why, "hostname": hostname });
                    cx.refused(tx, "agent.enroll", format!("join_token/{id}"), detail).await
                })
            })
            .await;
        match written {
            Ok(()) => refused(Some(id), why),
            Err(error) => error.into(),
        }
    }

    /// Join tokens, oldest first; their texts are not kept.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn join_tokens(&self) -> Result<Vec<JoinTokenRow>, EngineError> {
        self.read(|tx| Box::pin(async move { Ok(tx.join_tokens().await?) })).await
    }

    /// Takes a join token back. Agents that came in by it stay.
    ///
    /// # Errors
    /// When there is none of that id that counts.
    pub async fn revoke_join_token(&self, id: TokenId, by: &str) -> Result<(), EngineError> {
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                if !tx.revoke_join_token(id, cx.now).await? {
                    let hint = "`longshore join-token list` shows those that count".to_owned();
                    return Err(EngineError::NotFound { kind: "join token", name: id.to_string(), hint: Some(hint) });
                }
                cx.audit(tx, "join_token.revoked", format!("join_token/{id}"), json!({})).await
            })
        })
        .await
    }

    /// A new certificate for an agent that has one.
    ///
    /// # Errors
    /// [`Error::Unknown`] when it was cut off, [`Error::Identity`] for a bad signing request.
    pub async fn renew(&self, ca: &Ca, agent: AgentId, csr: &str) -> Result<AgentCertificate, Error> {
        let certificate = ca.sign_agent(csr, agent, self.clock().now())?;
        let (serial, not_after) = (certificate.serial.clone(), certificate.not_after);
        self.change(&agent.to_string(), move |tx, _| {
            Box::pin(async move {
                let mut row = tx.agent(agent).await?.ok_or(Error::Unknown)?;
                row.serial = serial;
                if !tx.update_agent(&row).await? {
                    return Err(Error::Unknown);
                }
                if let Some(mut origin) = tx.origin(agent).await? {
                    origin.expires_at = not_after;
                    tx.update_origin(&origin).await?;
                }
                Ok(())
            })
        })
        .await?;
        Ok(certificate)
    }

    /// Whether an agent may speak at all, and what ends all that it has open when it may no more.
    ///
    /// # Errors
    /// [`Error::Unknown`] when it is not enrolled or was cut off.
    pub async fn admit(&self, agent: AgentId) -> Result<CancellationToken, Error> {
        // Before the row is read: whoever is cut off after that cancels this one.
        let cutoff = self.0.sessions.cutoff(agent);
        let row = self.read(move |tx| Box::pin(async move { Ok(tx.agent(agent).await?) })).await?;
        if row.is_some_and(|row| row.revoked_at.is_none()) { Ok(cutoff) } else { Err(Error::Unknown) }
    }

    /// Ends everything that an agent has open.
    pub(super) fn cut_off(&self, agent: AgentId) {
        self.0.sessions.cut_off(agent);
    }

    /// Offers an agent no more jobs. What it has goes on.
    ///
    /// # Errors
    /// When there is no such agent, or it was cut off.
    pub async fn drain_agent(&self, id: AgentId, reason: String, by: &str) -> Result<(), EngineError> {
        self.set_drained(id, Some(reason), by).await
    }

    /// Offers an agent jobs again.
    ///
    /// # Errors
    /// When there is no such agent, or it was cut off.
    pub async fn undrain_agent(&self, id: AgentId, by: &str) -> Result<(), EngineError> {
        self.set_drained(id, None, by).await
    }

    async fn set_drained(&self, id: AgentId, reason: Option<String>, by: &str) -> Result<(), EngineError> {
        let who = by.to_owned();
        let drained = self
            .change(by, move |tx, cx| {
                Box::pin(async move {
                    tx.agent(id).await?.ok_or_else(|| EngineError::not_found("agent", &id))?;
                    let drained = reason.map(|reason| Drained { reason, by: who, at: cx.now });
                    if !tx.drain_agent(id, drained.as_ref()).await? {
                        return Err(EngineError::conflict("revoked", format!("agent `{id}` was cut off"), None));
                    }
                    let (what, detail) = match &drained {
                        Some(drained) => ("agent.drained", json!({ "reason": drained.reason })),
                        None => ("agent.undrained", json!({})),
                    };
                    cx.audit(tx, what, format!("agent/{id}"), detail).await?;
                    Ok(drained)
                })
            })
            .await?;
        self.0.sessions.drain(id, drained);
        self.0.dispatch.notify_one();
        Ok(())
    }

    /// Cuts an agent off; its streams are ended, its calls are refused. What it was running becomes `unknown` when its lease lapses.
    ///
    /// # Errors
    /// When there is no such agent, or it was cut off before.
    pub async fn revoke_agent(&self, id: AgentId, by: &str) -> Result<(), EngineError> {
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                tx.agent(id).await?.ok_or_else(|| EngineError::not_found("agent", &id))?;
                if !tx.revoke_agent(id, cx.now).await? {
                    return Err(EngineError::conflict("revoked", format!("agent `{id}` was cut off before"), None));
                }
                cx.audit(tx, "agent.revoked", format!("agent/{id}"), json!({})).await
            })
        })
        .await?;
        self.cut_off(id);
        Ok(())
    }
}

/// Why a token lets nobody in. Whoever it let in already may ask for the same answer again.
fn spent(token: &JoinTokenRow, known: bool, now: Timestamp) -> Option<&'static str> {
    if token.revoked_at.is_some() {
        return Some("it was taken back");
    }
    if token.expires_at <= now {
        return Some("it has expired");
    }
    (token.used >= token.uses && !known).then_some("it is used up")
}

/// Outside all refusals read the same, so that nobody learns which tokens there are; the log tells them apart.
fn refused(token: Option<TokenId>, why: &'static str) -> Error {
    let token = token.map_or_else(|| "-".to_owned(), |id| id.to_string());
    tracing::warn!(token, why, "a join token was refused");
    Error::JoinToken
}
