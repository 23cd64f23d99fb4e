//! Join rules: made, listed and taken back by people.

use std::collections::BTreeMap;

use longshore_core::id::{AgentId, JoinRuleId};
use longshore_core::join::Conditions;
use serde_json::json;

use super::{Engine, Error, Result};
use crate::store::joins::JoinRuleRow;

/// A join rule that is to be made.
#[derive(Debug, Clone)]
pub struct NewJoinRule {
    /// The pool that machines join.
    pub pool: String,
    /// Labels that they get.
    pub labels: BTreeMap<String, String>,
    /// What they have to be.
    pub conditions: Conditions,
}

impl Engine {
    /// Makes a join rule.
    ///
    /// # Errors
    /// A conflict when one that counts asks for the same.
    pub async fn add_join_rule(&self, new: NewJoinRule, by: &str) -> Result<JoinRuleRow> {
        new.conditions.check().map_err(|invalid| {
            let message = format!("`{}` is not {}; patterns are not taken, write it out", invalid.value, invalid.what);
            Error::invalid(&invalid.condition.replace('-', "_"), message, None)
        })?;
        let row = JoinRuleRow {
            id: self.clock().join_rule_id(),
            pool: new.pool,
            labels: new.labels,
            conditions: new.conditions,
            created_at: self.clock().now(),
            created_by: by.to_owned(),
            revoked_at: None,
        };
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let rules = tx.join_rules().await?;
                let same = |rule: &&JoinRuleRow| rule.revoked_at.is_none() && rule.conditions == row.conditions;
                if let Some(same) = rules.iter().find(same) {
                    let message = format!("join rule `{}` asks for the same; no rule was made", same.id);
                    let hint = format!("take it back first: `longshore join-rule revoke {}`", same.id);
                    return Err(Error::conflict("exists", message, hint));
                }
                tx.insert_join_rule(&row).await?;
                let detail = json!({ "pool": row.pool, "labels": row.labels, "conditions": row.conditions });
                cx.audit(tx, "join_rule.created", format!("join_rule/{}", row.id), detail).await?;
                Ok(row)
            })
        })
        .await
    }

    /// Join rules, oldest first, with those that were taken back.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn join_rules(&self) -> Result<Vec<JoinRuleRow>> {
        self.read(|tx| Box::pin(async move { Ok(tx.join_rules().await?) })).await
    }

    /// Takes a join rule back. Agents that came in by it stay, until their certificates end without being renewed.
    ///
    /// # Errors
    /// When there is none of that id that counts.
    pub async fn revoke_join_rule(&self, id: JoinRuleId, by: &str) -> Result<()> {
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                if !tx.revoke_join_rule(id, cx.now).await? {
                    let hint = "`longshore join-rule list` shows those that count".to_owned();
                    return Err(Error::NotFound { kind: "join rule", name: id.to_string(), hint: Some(hint) });
                }
                cx.audit(tx, "join_rule.revoked", format!("join_rule/{id}"), json!({})).await
            })
        })
        .await
    }

    /// Lets the machine of an agent join again as another agent, whatever became of this one.
    ///
    /// # Errors
    /// A conflict for an agent that is no machine of a rule, or whose machine is another agent by now.
    pub async fn readmit(&self, id: AgentId, by: &str) -> Result<()> {
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                tx.agent(id).await?.ok_or_else(|| Error::not_found("agent", &id))?;
                let origin = tx.origin(id).await?.filter(|origin| origin.machine.is_some());
                let Some(mut origin) = origin else {
                    let message =
                        format!("agent `{id}` did not join by a rule, so there is no machine to let in again");
                    return Err(Error::conflict("no_machine", message, "make a join token for it".to_owned()));
                };
                if let Some(next) = origin.replaced_by {
                    let message = format!("the machine of agent `{id}` is agent `{next}` by now");
                    return Err(Error::conflict("no_machine", message, format!("`longshore agent readmit {next}`")));
                }
                origin.allowed_at = Some(cx.now);
                tx.update_origin(&origin).await?;
                cx.audit(tx, "agent.readmitted", format!("agent/{id}"), json!({ "machine": origin.machine })).await
            })
        })
        .await
    }
}
