//! Secrets open before, during and after a rotation, wherever it is cut short.

use std::collections::BTreeMap;

use super::*;
use crate::secrets::Kind;
use crate::store::SealedRow;
use crate::store::rows::OutputRow;

const VALUES: u32 = 230;

impl World {
    /// Many versions of the secret, an output key, and a sealed output: every kind there is.
    async fn filled() -> (Self, Sim) {
        let mut world = Self::new().await;
        let mut sim = world.agent().await;
        for n in 0..VALUES {
            world.set(&format!("value-{n}")).await;
        }
        world.running(&mut sim).await;
        let vault = Arc::clone(&world.engine.0.parts.vault);
        let done: Result<()> = world
            .engine
            .change("test", move |tx, _| {
                Box::pin(async move {
                    let deployments = tx.deployments(&DeploymentFilter::default()).await?;
                    let id = deployments.first().unwrap().deployment.id;
                    let mut step = tx.steps(id).await?.remove(1);
                    for name in ["a", "b-c"] {
                        let sealed = vault.seal(&context::output_aad(id, 1, name), b"\"out\"")?;
                        step.outputs.insert(name.to_owned(), OutputRow::Sealed(crate::hex::encode(&sealed)));
                    }
                    let odd = json!({ "sealed": [1.50, 12345678901234567890_u64, "\u{0}\"é"] });
                    step.outputs.insert("odd".to_owned(), OutputRow::Plain(odd));
                    assert!(tx.update_step(&step).await?);
                    Ok(())
                })
            })
            .await;
        done.unwrap();
        (world, sim)
    }

    async fn set(&self, value: &str) {
        let (name, value) = ("key".to_owned(), Secret::new(value.to_owned()));
        let new = NewVariable { name, value, secret: true, scope: Scope::All };
        self.engine.set_variable("shop", new, "anna").await.unwrap();
    }

    async fn sealed(&self) -> Vec<SealedRow> {
        let read: Result<_> = self
            .engine
            .read(|tx| {
                Box::pin(async move {
                    let mut all = Vec::new();
                    for kind in Kind::ALL {
                        all.extend(tx.sealed(kind, 0, 100_000).await?);
                    }
                    Ok(all)
                })
            })
            .await;
        read.unwrap()
    }

    /// What every sealed value opens to.
    async fn opened(&self) -> BTreeMap<(String, i64), Vec<u8>> {
        let vault = &self.engine.0.parts.vault;
        let open = |row: SealedRow| {
            let aad = row.place.aad();
            let plain = vault.open(&aad, &row.sealed).unwrap().to_vec();
            ((aad, row.row), plain)
        };
        self.sealed().await.into_iter().map(open).collect()
    }

    async fn done(&self) -> SecretsView {
        loop {
            let view = self.engine.secrets().await.unwrap();
            if view.remaining == 0 && !self.engine.0.resealing.load(Ordering::SeqCst) {
                return view;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn every_secret_opens_before_during_and_after() {
    let (mut world, _sim) = World::filled().await;
    let before = world.opened().await;
    assert_eq!(before.len(), VALUES as usize + 1 + 1 + 2);
    let plain = world.view(world.newest().await).await.steps[1].outputs.clone();
    let started = world.engine.rotate_secrets("anna").await.unwrap();
    assert_eq!((started.started, started.key, started.remaining), (true, 2, before.len() as u64));
    let again = world.engine.rotate_secrets("anna").await.unwrap();
    assert!(!again.started || again.key == 3, "{again:?}");
    assert_eq!(world.opened().await, before, "during");
    world.set("new").await;
    let view = world.done().await;
    let after = world.opened().await;
    assert_eq!(after.len(), before.len() + 1);
    assert!(before.iter().all(|(at, plain)| after[at] == *plain), "after");
    assert_eq!(view.keys.iter().filter(|key| key.current).map(|key| key.rows).sum::<u64>(), after.len() as u64);
    assert_eq!(world.view(world.newest().await).await.steps[1].outputs, plain);
    world.restart().await;
    assert_eq!(world.opened().await, after, "with the stored key");
    let audit = world.engine.audit(None, None, None).await.unwrap();
    for action in ["secrets.rotation_started", "secrets.rotated"] {
        assert!(audit.events.iter().any(|event| event.action == action), "{action}");
    }
}

impl World {
    async fn newest(&self) -> DeploymentId {
        let read: Result<_> = self
            .engine
            .read(|tx| Box::pin(async move { Ok(tx.deployments(&DeploymentFilter::default()).await?) }))
            .await;
        read.unwrap().first().unwrap().deployment.id
    }
}

#[tokio::test]
async fn a_rotation_that_was_cut_short_goes_on_at_the_next_start() {
    for waits in 0..4 {
        let (mut world, _sim) = World::filled().await;
        let before = world.opened().await;
        world.engine.rotate_secrets("anna").await.unwrap();
        // Some batches get through, then everything ends at once.
        for _ in 0..waits {
            world.engine.secrets().await.unwrap();
        }
        world.restart().await;
        assert_eq!(world.opened().await, before, "cut after {waits}");
        let view = world.done().await;
        assert_eq!(world.opened().await, before);
        assert_eq!(view.keys.last().map(|key| (key.key, key.current, key.rows)), Some((2, true, before.len() as u64)));
    }
}

#[tokio::test]
async fn what_was_tampered_with_is_left_and_stands_in_no_ones_way() {
    let (world, _sim) = World::filled().await;
    let first = world.sealed().await.swap_remove(0);
    let mut bad = first.sealed.clone();
    *bad.last_mut().unwrap() ^= 1;
    let row = first.clone();
    let done: Result<bool> =
        world.engine.change("test", move |tx, _| Box::pin(async move { Ok(tx.reseal(&row, &bad).await?) })).await;
    assert!(done.unwrap());
    for key in [2, 3] {
        assert_eq!(world.engine.rotate_secrets("anna").await.unwrap().key, key);
        while world.engine.0.resealing.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let view = world.engine.secrets().await.unwrap();
        assert_eq!(view.remaining, 1, "{view:?}");
    }
}
