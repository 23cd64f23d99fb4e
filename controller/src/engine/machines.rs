//! Machines of a cloud that join by proof of what they are, and what becomes of one that comes again.
//!
//! Invariants: pool and labels come from the rule, never from the agent; a machine is one agent at a time, which a constraint of the
//! store holds too; whatever is refused is written down with the condition, up to a number each minute, since anyone may ask.

use longshore_core::attempt::{Event, Proof as Gone};
use longshore_core::id::AgentId;
use longshore_core::join::{Former, Mismatch, Rejoin, binding, rejoin_text};
use longshore_core::time::Timestamp;
use serde_json::{Value, json};

use super::cascade::on_attempt;
use super::cx::Cx;
use super::plane::{Error, Joined, ProofJoin};
use super::{Engine, Error as EngineError};
use crate::identity::cloud::{Attested, Refused, Verifier};
use crate::identity::{AgentCertificate, Ca};
use crate::store::Tx;
use crate::store::joins::{Gone as GoneBy, JoinRuleRow, OriginRow};
use crate::store::rows::AgentRow;

type Result<T, E = Error> = std::result::Result<T, E>;

/// What is known of a machine before it is decided.
struct Known {
    rules: Vec<JoinRuleRow>,
    former: Option<(OriginRow, AgentRow)>,
}

/// What was decided about a machine that asks to be let in.
struct Decided {
    rule: JoinRuleRow,
    machine: String,
    request: String,
    /// The agent that it was, and whether it stays that one.
    former: Option<(AgentId, Rejoin)>,
}

/// Why it is not let in: for the audit, and for whoever asked.
struct Denied {
    object: String,
    detail: Value,
    outside: String,
}

impl Denied {
    fn new(object: String, condition: &str, reason: &str, outside: String) -> Self {
        Self { object, detail: json!({ "condition": condition, "reason": reason }), outside }
    }
}

impl Engine {
    /// Lets a machine in that a rule is for. The same machine with the same signing request again is answered the same agent.
    ///
    /// # Errors
    /// [`Error::Proof`] when no rule lets it in, [`Error::Unverified`] when that could not be found out, [`Error::Identity`] for a bad
    /// signing request.
    pub async fn join_by_proof(&self, ca: &Ca, verifier: &Verifier, join: ProofJoin<'_>) -> Result<Joined> {
        let controller = self.0.meta.controller;
        let mut attested = match verifier.verify(&join.proof, join.nonce, join.csr, controller).await {
            Ok(attested) => attested,
            Err(error @ Refused::Unreachable(_)) => {
                tracing::warn!(%error, "a machine's proof could not be verified");
                return Err(Error::Unverified(error.to_string()));
            }
            Err(error) => {
                let denied =
                    Denied::new("machine".to_owned(), error.condition(), &error.to_string(), error.to_string());
                return Err(self.deny(verifier, &join, denied).await);
            }
        };
        let has_key = join.previous.and_then(|(certificate, signature)| {
            ca.agent_of_key(certificate, &rejoin_text(&binding(join.nonce, join.csr)), signature)
        });
        let known = self.known(attested.machine.name()).await?;
        if known.rules.iter().any(|rule| rule.conditions.asks_network_in(&attested.machine).is_some()) {
            verifier.find_network(&mut attested.machine).await.map_err(|error| {
                tracing::warn!(%error, "a machine's network could not be found out");
                Error::Unverified(error.to_string())
            })?;
        }
        let now = self.clock().now();
        let decided = match decide(&known, &attested, &join, has_key, now, verifier) {
            Ok(decided) => decided,
            Err(denied) => return Err(self.deny(verifier, &join, denied).await),
        };
        let agent = match decided.former {
            Some((agent, Rejoin::Same)) => agent,
            _ => self.clock().agent_id(),
        };
        let certificate = ca.sign_agent(join.csr, agent, now)?;
        let pool = self.let_in(&join, decided, agent, &certificate).await?;
        Ok(Joined { agent, certificate_pem: certificate.certificate_pem, controller, pool })
    }

    async fn known(&self, machine: String) -> Result<Known, EngineError> {
        self.read(move |tx| {
            Box::pin(async move {
                let rules = tx.join_rules().await?;
                let rules = rules.into_iter().filter(|rule| rule.revoked_at.is_none()).collect();
                let former = match tx.origin_of_machine(&machine).await? {
                    Some(origin) => tx.agent(origin.agent).await?.map(|row| (origin, row)),
                    None => None,
                };
                Ok(Known { rules, former })
            })
        })
        .await
    }

    async fn let_in(
        &self,
        join: &ProofJoin<'_>,
        decided: Decided,
        agent: AgentId,
        certificate: &AgentCertificate,
    ) -> Result<String> {
        let Decided { rule, machine, request, former } = decided;
        let now = self.clock().now();
        let row = agent_row(join, &rule, agent, certificate, now);
        let pool = row.pool.clone();
        let origin = OriginRow {
            agent,
            rule: Some(rule.id),
            machine: Some(machine.clone()),
            request,
            expires_at: certificate.not_after,
            ephemeral: true,
            allowed_at: None,
            replaced_by: None,
            gone: None,
        };
        let replaced = former.filter(|(_, rejoin)| *rejoin == Rejoin::Replace).map(|(agent, _)| agent);
        let expected = former.map(|(agent, _)| agent);
        let actor = agent.to_string();
        self.change(&actor, move |tx, cx| {
            Box::pin(async move {
                // Decided on what was read before: another try of the same machine may have been faster.
                if tx.origin_of_machine(&machine).await?.map(|origin| origin.agent) != expected {
                    return Err(Error::Unverified("another try of this machine was faster; try again".to_owned()));
                }
                let mut detail = json!({ "pool": row.pool, "labels": row.labels, "rule": rule.id, "machine": machine });
                if let Some(old) = replaced {
                    detail["replaces"] = json!(old);
                    tx.insert_agent(&row).await?;
                    replace(tx, cx, old, &row).await?;
                } else if expected.is_some() {
                    return stay(tx, cx, row, origin, detail).await;
                } else {
                    tx.insert_agent(&row).await?;
                }
                tx.insert_origin(&origin).await?;
                cx.audit(tx, "agent.enrolled", format!("agent/{agent}"), detail).await.map_err(Error::from)
            })
        })
        .await?;
        if let Some(old) = replaced {
            self.cut_off(old);
        }
        Ok(pool)
    }

    /// Writes down why somebody was not let in, and says it.
    async fn deny(&self, verifier: &Verifier, join: &ProofJoin<'_>, denied: Denied) -> Error {
        let Denied { object, mut detail, outside } = denied;
        tracing::warn!(object, %detail, hostname = join.hostname, "a machine was not let in");
        metrics::counter!("longshore_joins_refused_total").increment(1);
        if verifier.may_be_written() {
            detail["cloud"] = json!(join.proof.cloud());
            detail["hostname"] = json!(join.hostname);
            let written: Result<(), EngineError> = self
                .change("nobody", move |tx, cx| {
                    Box::pin(async move { cx.refused(tx, "agent.enroll", object, detail).await })
                })
                .await;
            if let Err(error) = written {
                return error.into();
            }
        }
        Error::Proof(outside)
    }
}

fn agent_row(
    join: &ProofJoin<'_>,
    rule: &JoinRuleRow,
    id: AgentId,
    certificate: &AgentCertificate,
    now: Timestamp,
) -> AgentRow {
    AgentRow {
        id,
        pool: rule.pool.clone(),
        labels: rule.labels.clone(),
        hostname: join.hostname.clone(),
        version: join.version.clone(),
        serial: certificate.serial.clone(),
        boot_id: join.boot_id.clone(),
        facts: json!({}),
        enrolled_at: now,
        seen_at: None,
        revoked_at: None,
        drained: None,
    }
}

/// Which rule lets the machine in, and as which agent.
fn decide(
    known: &Known,
    attested: &Attested,
    join: &ProofJoin<'_>,
    has_key: Option<AgentId>,
    now: Timestamp,
    verifier: &Verifier,
) -> Result<Decided, Denied> {
    let machine = attested.machine.name();
    let object = format!("machine/{machine}");
    let request =
        crate::hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, join.csr.as_bytes()).as_ref());
    let former = known.former.as_ref().map(|(origin, row)| {
        let former = Former {
            same_request: origin.request == request,
            has_key: has_key == Some(origin.agent),
            revoked: row.revoked_at.is_some(),
            allowed: origin.allowed_at.is_some(),
            gone: origin.gone.is_some(),
            expired: origin.expires_at < now,
        };
        (origin, row, former.rejoins())
    });
    if let Some((origin, _, Rejoin::Refuse(why))) = former {
        let outside = format!("{why} (agent `{}`)", origin.agent);
        let mut denied = Denied::new(object, "machine", &why.to_string(), outside);
        denied.detail["agent"] = json!(origin.agent);
        return Err(denied);
    }
    let stays = former.filter(|(_, _, rejoin)| *rejoin == Rejoin::Same);
    let pool = stays.map(|(_, row, _)| row.pool.as_str());
    let own = stays.and_then(|(origin, _, _)| origin.rule);
    let rule = pick(&known.rules, attested, own, pool).map_err(|nearest| match nearest {
        Some((rule, mismatch)) => {
            let outside = format!("join rule `{}` does not let it in: {}", rule.id, mismatch.outside());
            let mut denied = Denied::new(object.clone(), mismatch.condition(), &mismatch.to_string(), outside);
            denied.detail["rule"] = json!(rule.id);
            denied
        }
        None => {
            let reason = "there is no join rule for this machine; `longshore join-rule create` makes one";
            Denied::new(object.clone(), "rule", reason, reason.to_owned())
        }
    })?;
    // Whoever has the key of the agent is no stranger with an old document.
    if let Some(since) = attested.alone_since.filter(|_| stays.is_none()) {
        let most = verifier.document_age();
        if now.since(since) > most {
            let reason = format!(
                "the instance was started at {since}, and its document alone counts for {} s; give it a profile with a role, whose requests \
                 always count, or join sooner",
                most.as_secs()
            );
            let mut denied = Denied::new(object, "document-age", &reason, reason.clone());
            denied.detail["rule"] = json!(rule.id);
            return Err(denied);
        }
    }
    let former = former.map(|(origin, _, rejoin)| (origin.agent, rejoin));
    Ok(Decided { rule: rule.clone(), machine, request, former })
}

/// The rule that lets the machine in: its own one, else the one with the most conditions, else the oldest. An agent that stays the one it was
/// stays in its pool. Otherwise the one that came nearest, with what did not hold.
fn pick<'a>(
    rules: &'a [JoinRuleRow],
    attested: &Attested,
    own: Option<longshore_core::id::JoinRuleId>,
    pool: Option<&str>,
) -> Result<&'a JoinRuleRow, Option<(&'a JoinRuleRow, Mismatch)>> {
    let mut best: Option<(&JoinRuleRow, u8)> = None;
    let mut nearest: Option<(&JoinRuleRow, Mismatch)> = None;
    for rule in rules {
        match rule.conditions.admits(&attested.machine) {
            Ok(()) if pool.is_some_and(|pool| rule.pool != pool) => {}
            Ok(()) => {
                let rank = if own == Some(rule.id) { u8::MAX } else { rule.conditions.count() };
                if best.is_none_or(|(_, most)| rank > most) {
                    best = Some((rule, rank));
                }
            }
            Err(Mismatch::Cloud(_)) => {}
            Err(mismatch) => {
                if nearest.as_ref().is_none_or(|(_, other)| mismatch.nearness() > other.nearness()) {
                    nearest = Some((rule, mismatch));
                }
            }
        }
    }
    best.map(|(rule, _)| rule).ok_or(nearest)
}

/// The machine is another agent from here on. What it ran before is gone if it was booted anew since.
async fn replace(tx: &mut dyn Tx, cx: &mut Cx, old: AgentId, new: &AgentRow) -> Result<()> {
    let Some(mut origin) = tx.origin(old).await? else { return Ok(()) };
    (origin.replaced_by, origin.gone) = (Some(new.id), Some((cx.now, GoneBy::Replaced)));
    tx.update_origin(&origin).await?;
    let former = tx.agent(old).await?;
    tx.revoke_agent(old, cx.now).await?;
    let rebooted = former.is_some_and(|former| !new.boot_id.is_empty() && former.boot_id != new.boot_id);
    if rebooted {
        for row in tx.live_attempts().await? {
            if row.attempt.agent == old {
                on_attempt(tx, cx, &row.attempt, &Event::Proven(Gone::NewBoot)).await?;
            }
        }
    }
    cx.audit(tx, "agent.replaced", format!("agent/{old}"), json!({ "by": new.id, "rebooted": rebooted })).await?;
    Ok(())
}

/// It stays the agent that it was, with a new certificate.
async fn stay(tx: &mut dyn Tx, cx: &mut Cx, new: AgentRow, origin: OriginRow, mut detail: Value) -> Result<()> {
    let mut row = tx.agent(new.id).await?.ok_or(Error::Unknown)?;
    // It lives, though it has no stream yet.
    (row.serial, row.seen_at) = (new.serial, Some(cx.now));
    if !tx.update_agent(&row).await? {
        return Err(Error::Unknown);
    }
    tx.update_origin(&origin).await?;
    detail["labels"] = json!(row.labels);
    cx.audit(tx, "agent.reattested", format!("agent/{}", row.id), detail).await?;
    Ok(())
}
