//! The numbers of pools, as metrics. A pool costs a fixed number of series, and only so many pools have series of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::engine::ScalingView;

/// Pools with series of their own, the first by name; the others are summed up. A spec can name any pool.
const OWN: usize = 100;
/// The name that the others go by; no pool can have it.
const OTHERS: &str = "_other";

/// Series that were set, so that they become 0 once nothing stands behind them.
#[derive(Debug, Default)]
pub(super) struct PoolMetrics(Mutex<BTreeSet<Series>>);

/// Name and labels.
type Series = (&'static str, Vec<(&'static str, String)>);

impl PoolMetrics {
    /// Sets what is seen.
    pub(super) fn set(&self, views: &[ScalingView]) {
        let mut now: BTreeMap<Series, f64> = BTreeMap::new();
        for (at, view) in views.iter().enumerate() {
            let name = if at < OWN { view.pool.as_str() } else { OTHERS };
            for (series, value) in values(name, view) {
                let sum = now.entry(series.clone()).or_insert(0.0);
                // Of waits the longest counts.
                *sum = if series.0 == "longshore_pool_oldest_wait_seconds" { sum.max(value) } else { *sum + value };
            }
        }
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for series in before.iter().filter(|series| !now.contains_key(*series)) {
            gauge(series, 0.0);
        }
        for (series, value) in &now {
            gauge(series, *value);
        }
        *before = now.into_keys().collect();
    }
}

fn gauge((name, labels): &Series, value: f64) {
    let labels: Vec<metrics::Label> =
        labels.iter().map(|(key, value)| metrics::Label::new(*key, value.clone())).collect();
    metrics::gauge!(*name, labels).set(value);
}

fn values(pool: &str, view: &ScalingView) -> Vec<(Series, f64)> {
    let mut all = Vec::new();
    let mut put = |name: &'static str, label: Option<(&'static str, &str)>, value: f64| {
        let mut labels = vec![("pool", pool.to_owned())];
        labels.extend(label.map(|(key, value)| (key, value.to_owned())));
        all.push(((name, labels), value));
    };
    put("longshore_pool_queued_jobs", None, view.queued.into());
    for (reason, count) in &view.waiting {
        put("longshore_pool_waiting_jobs", Some(("reason", reason)), (*count).into());
    }
    put("longshore_pool_helped_jobs", None, view.helped.into());
    put("longshore_pool_oldest_wait_seconds", None, seconds(view.oldest_wait_seconds));
    for (state, count) in [("total", view.slots.total), ("busy", view.slots.busy), ("free", view.slots.free)] {
        put("longshore_pool_slots", Some(("state", state)), count.into());
    }
    let agents = view.agents;
    let states =
        [("connected", agents.connected), ("draining", agents.draining), ("disconnected", agents.disconnected)];
    for (state, count) in states {
        put("longshore_pool_agents", Some(("state", state)), count.into());
    }
    put("longshore_pool_unknown_attempts", None, view.unknown_attempts.into());
    let Some(scaler) = &view.scaler else { return all };
    let bounds = [("min", Some(scaler.min)), ("max", Some(scaler.max)), ("set", scaler.capacity)];
    for (bound, count) in bounds {
        if let Some(count) = count {
            put("longshore_pool_machines", Some(("bound", bound)), count.into());
        }
    }
    put("longshore_pool_absent_machines", None, scaler.absent.unwrap_or(0).into());
    put("longshore_pool_leaving_machines", None, f64::from(u32::try_from(scaler.leaving.len()).unwrap_or(u32::MAX)));
    let unsure = scaler.decision.as_deref().is_some_and(|word| word.starts_with("unsure") || word == "failed");
    put("longshore_pool_scaler_stuck", None, f64::from(u8::from(unsure)));
    all
}

fn seconds(value: Option<u64>) -> f64 {
    f64::from(u32::try_from(value.unwrap_or(0)).unwrap_or(u32::MAX))
}
