//! Join rules, and that a machine is one agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::id::JoinRuleId;
use longshore_core::join::Conditions;

use super::{agent, agent_id, at};
use crate::store::joins::{Gone, JoinRuleRow, OriginRow};
use crate::store::{Error, Store};

fn rule(n: u8) -> JoinRuleRow {
    JoinRuleRow {
        id: JoinRuleId::new(at(i64::from(n)), [n; 10]),
        pool: "default".to_owned(),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        conditions: Conditions::Aws {
            account: "111122223333".to_owned(),
            region: None,
            role: Some("worker".to_owned()),
            vpc: None,
        },
        created_at: at(1),
        created_by: "anna".to_owned(),
        revoked_at: None,
    }
}

fn origin(n: u8, machine: Option<&str>) -> OriginRow {
    OriginRow {
        agent: agent_id(n),
        rule: machine.map(|_| rule(1).id),
        machine: machine.map(str::to_owned),
        request: "ab".to_owned(),
        expires_at: at(100),
        ephemeral: true,
        allowed_at: None,
        replaced_by: None,
        gone: None,
    }
}

pub(super) async fn a_machine_is_one_agent(store: &Arc<dyn Store>) {
    write!(store, tx => {
        tx.insert_join_rule(&rule(1)).await?;
        tx.insert_join_rule(&rule(2)).await?;
        assert_eq!(tx.join_rules().await?, [rule(1), rule(2)]);
        assert!(tx.revoke_join_rule(rule(2).id, at(5)).await? && !tx.revoke_join_rule(rule(2).id, at(6)).await?);
        assert_eq!(tx.join_rules().await?[1].revoked_at, Some(at(5)));
        for n in [1, 2, 3] {
            tx.insert_agent(&agent(n)).await?;
        }
        tx.insert_origin(&origin(1, Some("aws/1/i-1"))).await?;
        tx.insert_origin(&origin(3, None)).await?;
        assert_eq!(tx.origin(agent_id(1)).await?, Some(origin(1, Some("aws/1/i-1"))));
        assert_eq!(tx.origin(agent_id(2)).await?, None);
        assert_eq!(tx.origin_of_machine("aws/1/i-1").await?.unwrap().agent, agent_id(1));
        assert_eq!(tx.origin_of_machine("aws/1/i-2").await?, None);
        Ok(())
    })
    .unwrap();
    let twice = write!(store, tx => {
        tx.insert_origin(&origin(2, Some("aws/1/i-1"))).await?;
        Ok(())
    });
    assert!(matches!(twice, Err(Error::Database(_))), "{twice:?}");
    write!(store, tx => {
        let mut old = origin(1, Some("aws/1/i-1"));
        (old.replaced_by, old.gone) = (Some(agent_id(2)), Some((at(7), Gone::Replaced)));
        (old.allowed_at, old.expires_at, old.request) = (Some(at(6)), at(200), "cd".to_owned());
        tx.update_origin(&old).await?;
        tx.insert_origin(&origin(2, Some("aws/1/i-1"))).await?;
        assert_eq!(tx.origin_of_machine("aws/1/i-1").await?.unwrap().agent, agent_id(2));
        assert_eq!(tx.origins().await?, [old, origin(2, Some("aws/1/i-1")), origin(3, None)]);
        Ok(())
    })
    .unwrap();
}
