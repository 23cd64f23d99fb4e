//! Which steps come before which.
//!
//! The file's order is a row of stages: a stage is one step, or one `parallel` group. A step without `needs` comes after the
//! whole stage before its own; a step with `needs` comes after exactly those, where the name of a group stands for all its
//! members. Only what stands earlier in the file counts, so there is no circle, whatever the steps say.

use std::collections::HashMap;
use std::ops::Range;

use super::model::Step;

/// What the order of a step depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) name: &'a str,
    pub(super) group: Option<&'a str>,
    pub(super) needs: Option<&'a [String]>,
}

impl<'a> From<&'a Step> for Slot<'a> {
    fn from(step: &'a Step) -> Self {
        Self { name: &step.name, group: step.group.as_deref(), needs: step.needs.as_deref() }
    }
}

/// For each step the steps that it waits for itself, as indices, sorted.
#[must_use]
pub fn predecessors(steps: &[Step]) -> Vec<Vec<usize>> {
    direct(&steps.iter().map(Slot::from).collect::<Vec<_>>())
}

/// For each step all steps that are certainly over when it starts, as indices, sorted.
#[must_use]
pub fn ancestors(steps: &[Step]) -> Vec<Vec<usize>> {
    transitive(&steps.iter().map(Slot::from).collect::<Vec<_>>())
}

fn direct(slots: &[Slot<'_>]) -> Vec<Vec<usize>> {
    let stages = stages(slots);
    let mut names: HashMap<&str, Range<usize>> = HashMap::new();
    for stage in &stages {
        if let Some(group) = slots.get(stage.start).and_then(|slot| slot.group) {
            names.entry(group).or_insert_with(|| stage.clone());
        }
    }
    for (index, slot) in slots.iter().enumerate() {
        names.entry(slot.name).or_insert(index..index + 1);
    }
    let mut all = Vec::with_capacity(slots.len());
    let mut before = 0..0;
    for stage in stages {
        for slot in slots.get(stage.clone()).unwrap_or_default() {
            let mut found: Vec<usize> = match slot.needs {
                None => before.clone().collect(),
                Some(needs) => needs.iter().filter_map(|name| names.get(name.as_str())).cloned().flatten().collect(),
            };
            found.retain(|index| *index < stage.start);
            found.sort_unstable();
            found.dedup();
            all.push(found);
        }
        before = stage;
    }
    all
}

/// [`ancestors`] of steps that have not been read whole yet.
pub(super) fn transitive(slots: &[Slot<'_>]) -> Vec<Vec<usize>> {
    // One bit a step: 999 steps that each need all before them are half a million edges.
    let mut sets: Vec<Vec<u64>> = Vec::with_capacity(slots.len());
    for direct in direct(slots) {
        let mut set = vec![0_u64; slots.len().div_ceil(64)];
        for index in direct {
            for (word, other) in set.iter_mut().zip(sets.get(index).into_iter().flatten()) {
                *word |= other;
            }
            if let Some(word) = set.get_mut(index / 64) {
                *word |= 1 << (index % 64);
            }
        }
        sets.push(set);
    }
    let indices = |set: &Vec<u64>| {
        let has = |index: &usize| set.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0);
        (0..slots.len()).filter(has).collect()
    };
    sets.iter().map(indices).collect()
}

/// The steps of each stage.
fn stages(slots: &[Slot<'_>]) -> Vec<Range<usize>> {
    let mut stages: Vec<Range<usize>> = Vec::new();
    for (index, slot) in slots.iter().enumerate() {
        let same = |stage: &Range<usize>| {
            slot.group.is_some() && slots.get(stage.start).is_some_and(|first| first.group == slot.group)
        };
        match stages.last_mut() {
            Some(stage) if same(stage) => stage.end = index + 1,
            _ => stages.push(index..index + 1),
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Script};
    use super::*;

    /// A step from `group/name: needs`; no `:` is no `needs`.
    fn step(text: &str) -> Step {
        let (who, needs) = text.split_once(':').map_or((text, None), |(who, needs)| (who, Some(needs)));
        let (group, name) = who.split_once('/').map_or((None, who), |(group, name)| (Some(group.to_owned()), name));
        Step {
            name: name.to_owned(),
            image: None,
            action: Action::Run { script: Script::Shell("true".to_owned()) },
            mounts: Vec::new(),
            accounts: Vec::new(),
            env: Vec::new(),
            timeout: None,
            network: Default::default(),
            profile: Default::default(),
            resources: Default::default(),
            pull: Default::default(),
            needs: needs.map(|needs| needs.split_whitespace().map(str::to_owned).collect()),
            group,
            when: None,
            retries: None,
            skippable: false,
            line: 0,
        }
    }

    fn check(steps: &[&str], direct: &[&[usize]], all: &[&[usize]]) {
        let parsed: Vec<Step> = steps.iter().map(|text| step(text)).collect();
        assert_eq!(predecessors(&parsed), direct, "{steps:?}");
        assert_eq!(ancestors(&parsed), all, "{steps:?}");
    }

    #[test]
    fn steps_in_a_row_come_one_after_the_other() {
        check(&[], &[], &[]);
        check(&["a", "b", "c"], &[&[], &[0], &[1]], &[&[], &[0], &[0, 1]]);
    }

    #[test]
    fn a_group_is_one_stage() {
        check(&["a", "g/b", "g/c", "d"], &[&[], &[0], &[0], &[1, 2]], &[&[], &[0], &[0], &[0, 1, 2]]);
        check(&["g/a", "g/b", "h/c", "h/d"], &[&[], &[], &[0, 1], &[0, 1]], &[&[], &[], &[0, 1], &[0, 1]]);
    }

    #[test]
    fn needs_are_exact() {
        check(&["a", "b: ", "c: a b", "d: a"], &[&[], &[], &[0, 1], &[0]], &[&[], &[], &[0, 1], &[0]]);
        // What a step needs brings what that one needs, and a later step without `needs` waits for the stage before it only.
        check(&["a", "b", "c: b", "d: ", "e"], &[&[], &[0], &[1], &[], &[3]], &[&[], &[0], &[0, 1], &[], &[3]]);
    }

    #[test]
    fn a_group_that_is_needed_is_all_its_members() {
        check(
            &["g/a", "g/b: ", "c: ", "d: g", "h/e: c", "h/f"],
            &[&[], &[], &[], &[0, 1], &[2], &[3]],
            &[&[], &[], &[], &[0, 1], &[2], &[0, 1, 3]],
        );
    }

    #[test]
    fn nothing_later_and_nothing_of_the_own_group_comes_before() {
        check(&["a: b a", "g/b: c g x", "g/c: b a a"], &[&[], &[], &[0]], &[&[], &[], &[0]]);
    }

    #[test]
    fn the_longest_process_is_ordered() {
        let steps: Vec<Step> = (0..999).map(|i| step(&format!("s{i}"))).collect();
        let all = ancestors(&steps);
        assert_eq!(all[998], (0..998).collect::<Vec<_>>());
        assert_eq!(all[64], (0..64).collect::<Vec<_>>());
    }
}
