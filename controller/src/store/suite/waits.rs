//! Who waits, and whose turn it is.

use longshore_core::quarantine::Health;

use super::*;
use crate::store::waits::{Occupied, Schedule};

pub(super) async fn a_queue_is_read_by_the_first_of_each_line(store: &Arc<dyn Store>) {
    filled(store).await;
    write!(store, tx => {
        assert_eq!((tx.heads("other").await?, tx.queued_count().await?), (vec![], 3));
        let mut heads = tx.heads("default").await?;
        heads.sort_by_key(|row| row.seq);
        let ids: Vec<_> = heads.iter().map(|row| row.job.id).collect();
        assert_eq!(ids, [job_id(1), job_id(2)], "1 and 3 stand in one line");
        assert_eq!((heads[0].resources, heads[0].max_running), (job(1).resources, Some(2)));
        let behind = tx.behind(&heads[0]).await?;
        assert_eq!(behind.as_ref().map(|row| row.job.id), Some(job_id(3)));
        assert_eq!((tx.behind(&behind.unwrap()).await?, tx.behind(&heads[1]).await?), (None, None));
        let of = &attempt(1, 1);
        let from = heads[0].job.clone();
        let to = Job { state: job::State::Assigned { attempt: of.id }, epoch: 1, ..from.clone() };
        assert!(tx.update_job(&from, &to).await?);
        tx.insert_attempt(&AttemptRow { attempt: of.clone(), created_at: at(5) }).await?;
        let (pool, project) = ("default".to_owned(), "shop".to_owned());
        let one = Occupied { agent: of.agent, pool, project, resources: heads[0].resources };
        assert_eq!(tx.occupied().await?, [one]);
        assert!(tx.heads("default").await?.iter().any(|row| row.job.id == job_id(3)), "it has become the first");
        Ok(())
    })
    .unwrap();
}

pub(super) async fn jobs_give_up_when_they_have_waited_too_long(store: &Arc<dyn Store>) {
    filled(store).await;
    // They wait since 3 for up to a minute.
    let end = at(3 + 60_000_000);
    write!(store, tx => {
        assert_eq!(tx.next_to_give_up(at(0), at(5)).await?, Some(end));
        assert_eq!(tx.waited_too_long(at(0), at(end.as_micros() - 1), 9).await?, vec![]);
        assert_eq!(tx.waited_too_long(at(0), end, 2).await?.len(), 2);
        let began = at(1_000_000);
        assert_eq!(tx.waited_too_long(began, end, 9).await?, vec![], "nobody was there before");
        assert_eq!(tx.next_to_give_up(began, end).await?, Some(at(61_000_000)));
        assert_eq!(tx.waited_too_long(began, at(61_000_000), 9).await?.len(), 3);
        Ok(())
    })
    .unwrap();
}

pub(super) async fn keys_go_to_who_waits_first_and_whose_time_has_come(store: &Arc<dyn Store>) {
    filled(store).await;
    let key = "project/shop/dev";
    let later = DeploymentRow { priority: 9, not_before: Some(at(50)), expires_at: Some(at(70)), ..deployment(4) };
    write!(store, tx => {
        assert_eq!(tx.waited_for().await?, [key]);
        assert_eq!(tx.next_for(key, at(9)).await?, Some(deployment_id(2)), "it has more priority");
        assert_eq!(tx.top_priority(deployment_id(1)).await?, Some(1));
        tx.insert_deployment(&later).await?;
        assert_eq!(tx.next_for(key, at(49)).await?, Some(deployment_id(2)));
        assert_eq!(tx.next_for(key, at(50)).await?, Some(deployment_id(4)));
        assert_eq!(tx.schedule(at(9), at(10)).await?, Schedule { due: vec![], next: Some(at(50)) });
        assert_eq!(tx.schedule(at(49), at(50)).await?, Schedule { due: vec![deployment_id(4)], next: Some(at(70)) });
        assert_eq!(tx.schedule(at(50), at(60)).await?, Schedule { due: vec![], next: Some(at(70)) });
        assert_eq!(tx.schedule(at(60), at(70)).await?, Schedule { due: vec![deployment_id(4)], next: None });
        assert!(tx.set_priority(deployment_id(3), 20).await?);
        assert_eq!(tx.next_for(key, at(50)).await?, Some(deployment_id(3)));
        assert!(tx.begin_deployment(deployment_id(3), at(50)).await?);
        assert_eq!(tx.next_for(key, at(50)).await?, Some(deployment_id(4)), "it waits no more");
        let mut child = deployment(9);
        child.parent = Some((deployment_id(1), 3));
        tx.insert_deployment(&child).await?;
        assert_eq!(tx.next_for(key, at(50)).await?, Some(child.deployment.id), "children are first");
        assert_eq!(tx.children_for(key).await?, [child.deployment.id]);
        let to = Deployment { state: DeploymentState::Lost, ended_at: Some(at(9)), ..child.deployment.clone() };
        assert!(tx.update_deployment(&child.deployment, &to).await?);
        assert_eq!(tx.children_for(key).await?, vec![]);
        let row = crate::store::rows::ReservationRow { key: key.to_owned(), deployment: deployment_id(3), taken_at: at(4) };
        assert!(tx.reserve(&row).await?);
        assert_eq!((tx.reservation(key).await?, tx.reservation("b").await?), (Some(row), None));
        Ok(())
    })
    .unwrap();
}

pub(super) async fn the_health_of_agents_is_kept_while_it_is_not_good(store: &Arc<dyn Store>) {
    filled(store).await;
    let ill = Health::default().failed("no space", 1, at(5));
    write!(store, tx => {
        assert_eq!((tx.healths().await?.len(), tx.health(agent_id(1)).await?), (0, Health::default()));
        tx.save_health(agent_id(1), &Health::default().failed("a", 9, at(4))).await?;
        tx.save_health(agent_id(1), &ill).await?;
        assert_eq!(tx.health(agent_id(1)).await?, ill.clone());
        assert_eq!(tx.healths().await?, BTreeMap::from([(agent_id(1), ill)]));
        tx.save_health(agent_id(1), &Health::default()).await?;
        assert_eq!(tx.healths().await?.len(), 0);
        Ok(())
    })
    .unwrap();
}
