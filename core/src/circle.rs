//! Who waits for whom, and whether a wait has no end.
//!
//! A deployment keeps its locks while a child of it runs, so one that waits for a lock waits for everything that its holder waits
//! for. Each of these waits has to end before the waiting one goes on, so a circle of them never ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::DeploymentId;

/// Whom each deployment waits for.
pub type Waits = BTreeMap<DeploymentId, BTreeSet<DeploymentId>>;

/// Whether `from` waits for itself in the end; the deployment through which it does so.
#[must_use]
pub fn through(waits: &Waits, from: DeploymentId) -> Option<DeploymentId> {
    let of = |id: DeploymentId| waits.get(&id).into_iter().flatten().copied();
    of(from).find(|first| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![*first]);
        while let Some(id) = open.pop() {
            if id == from {
                return true;
            }
            if seen.insert(id) {
                open.extend(of(id));
            }
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn id(n: u8) -> DeploymentId {
        DeploymentId::new(Timestamp::from_micros(1), [n; 10])
    }

    fn waits(pairs: &[(u8, u8)]) -> Waits {
        let mut waits = Waits::new();
        for (from, to) in pairs {
            waits.entry(id(*from)).or_default().insert(id(*to));
        }
        waits
    }

    #[test]
    fn a_circle_is_found_and_named_by_its_first_part() {
        assert_eq!(through(&waits(&[]), id(1)), None);
        assert_eq!(through(&waits(&[(1, 1)]), id(1)), Some(id(1)));
        let chain = [(1, 2), (2, 3), (3, 4), (1, 5)];
        assert_eq!(through(&waits(&chain), id(1)), None);
        let circle = waits(&[&chain[..], &[(4, 1)]].concat());
        assert_eq!(through(&circle, id(1)), Some(id(2)));
        assert_eq!(through(&circle, id(5)), None);
    }

    #[test]
    fn a_circle_of_others_is_not_ours_and_ends() {
        assert_eq!(through(&waits(&[(1, 2), (2, 3), (3, 2)]), id(1)), None);
    }
}
