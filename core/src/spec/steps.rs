//! Reads the list of steps: groups are taken apart, names and `needs` checked, then each step is read in the scope of those
//! that come before it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::known::{self, Known};
use super::model::Step;
use super::order::{Slot, transitive};
use super::scope::{Defined, Kind, Scope};
use super::step::{FIELDS, Outline, Standing};
use super::suggest;
use super::tree::{At, Errors, Fields};
use super::variables::Declared;
use crate::account;
use crate::expression::Condition;

/// Fields of a group.
pub(super) const GROUP: [&str; 4] = ["name", "parallel", "needs", "when"];
/// Most steps, members of groups counted one by one.
pub(super) const MAX_STEPS: usize = 999;

/// The steps with the groups taken apart.
#[derive(Debug, Default)]
pub(super) struct Listed<'a> {
    entries: Vec<Entry<'a>>,
    groups: Vec<Group<'a>>,
    /// Every step and every group has a name that could be read.
    complete: bool,
}

#[derive(Debug)]
struct Entry<'a> {
    /// `None` if it could not be read.
    outline: Option<Outline<'a>>,
    group: Option<usize>,
}

#[derive(Debug)]
struct Group<'a> {
    /// Empty if it could not be read.
    name: String,
    members: Range<usize>,
    needs: Option<At<'a>>,
    when: Option<At<'a>>,
}

impl<'a> Listed<'a> {
    /// Reads the names of all steps and groups, and of their fields.
    pub(super) fn read(at: &At<'a>, errors: &mut Errors) -> Option<Self> {
        let elements = at.list(MAX_STEPS, errors)?;
        if elements.is_empty() {
            at.error(
                "at least one step is needed: write `- name: hello`, `image: alpine` and `run: echo hello`",
                errors,
            );
        }
        let mut listed = Self { complete: true, ..Self::default() };
        let mut names = HashMap::new();
        for element in elements {
            match element.fields(&FIELDS, errors) {
                Some(fields) if fields.has("parallel") => listed.group(&fields, &mut names, errors),
                fields => listed.entry(element, fields, None, &mut names, errors),
            }
        }
        if listed.entries.len() > MAX_STEPS {
            at.error(format!("{} steps are too many: at most {MAX_STEPS}", listed.entries.len()), errors);
            return None;
        }
        Some(listed)
    }

    fn entry(
        &mut self,
        at: At<'a>,
        fields: Option<Fields<'a>>,
        group: Option<usize>,
        names: &mut HashMap<String, &'static str>,
        errors: &mut Errors,
    ) {
        let outline = fields.map(|fields| Outline::read(at, fields, errors));
        match outline.as_ref().and_then(|outline| outline.name().map(|name| (outline, name))) {
            Some((outline, name)) => unique(name, "step", outline.name_at(), names, errors),
            None => self.complete = false,
        }
        self.entries.push(Entry { outline, group });
    }

    fn group(&mut self, fields: &Fields<'a>, names: &mut HashMap<String, &'static str>, errors: &mut Errors) {
        let name_at = fields.require("name", "name: NAME", errors);
        let name = name_at.and_then(|at| at.name(errors));
        match (name_at, &name) {
            (Some(at), Some(name)) => unique(name, "group", at, names, errors),
            _ => self.complete = false,
        }
        for field in FIELDS.iter().filter(|field| !GROUP.contains(field)) {
            if let Some(other) = fields.get(field) {
                let message = format!("a group runs nothing itself: write `{field}` in the steps under `parallel`");
                errors.add(other.name_line, &other.field, message);
            }
        }
        let index = self.groups.len();
        let start = self.entries.len();
        let members = fields.get("parallel").and_then(|at| members(at, errors));
        self.complete &= members.is_some();
        for member in members.unwrap_or_default() {
            let inner = member.fields(&FIELDS, errors);
            if let Some(nested) = inner.as_ref().and_then(|fields| fields.get("parallel")) {
                nested.error("a group cannot stand in a group: write its steps in the outer one", errors);
                self.complete = false;
                continue;
            }
            if let Some(approval) = inner.as_ref().and_then(|fields| fields.get("approval")) {
                let message = "an approval stands before what it guards, and the steps of a group run at the same time: \
                               write it before the group";
                approval.error(message, errors);
            }
            self.entry(member, inner, Some(index), names, errors);
        }
        let (needs, when) = (fields.get("needs").cloned(), fields.get("when").cloned());
        self.groups.push(Group { name: name.unwrap_or_default(), members: start..self.entries.len(), needs, when });
    }

    /// The names of the steps, for others.
    pub(super) fn known(&self) -> Known {
        let names = self.entries.iter().filter_map(|entry| entry.outline.as_ref()?.name());
        Known::new("step", names.map(str::to_owned).collect(), self.complete)
    }

    /// Reads the steps, each in the scope of those before it. `open`: there may be other variables; `accounts`: those of the server,
    /// if it was asked. Gives the variables back.
    pub(super) fn steps(
        self,
        project: Option<String>,
        (variables, open): (Declared, bool),
        accounts: Option<&BTreeMap<String, account::Kind>>,
        errors: &mut Errors,
    ) -> (Option<Vec<Step>>, Declared) {
        let mut needs = self.needs(errors);
        let defined = self.defined(&needs);
        let names: Vec<String> = self.groups.iter().map(|group| group.name.clone()).collect();
        let mut scope = Scope {
            project,
            variables,
            open,
            accounts: accounts.cloned(),
            steps: defined,
            complete: self.complete,
            groups: names,
            plans: Vec::new(),
            current: 0,
        };
        let mut groups = self.groups;
        let mut steps = Vec::new();
        for (current, entry) in self.entries.into_iter().enumerate() {
            scope.current = current;
            let group = entry.group.and_then(|index| groups.get_mut(index));
            let Some(outline) = entry.outline else {
                continue;
            };
            let mut standing =
                Standing { group: None, needs: needs.get_mut(current).and_then(Option::take), when: None };
            if let Some(group) = group {
                standing.group = Some(group.name.clone());
                standing.when = group.when_of(&outline, &scope, errors);
            }
            let step = outline.step(&scope, standing, errors);
            scope.plans.extend(step.as_ref().and_then(|step| scope.planned(step)));
            steps.extend(step);
        }
        (Some(steps), scope.variables)
    }

    /// What each step needs: what it says itself, or what its group says.
    fn needs(&self, errors: &mut Errors) -> Vec<Option<Vec<String>>> {
        let names = self.ranges();
        let of_groups: Vec<Option<Vec<String>>> = self
            .groups
            .iter()
            .map(|group| self.needed(group.needs.as_ref()?, &group.members, &group.members, &names, errors))
            .collect();
        let mut needs = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let own = index..index + 1;
            let stage = entry.group.and_then(|group| self.groups.get(group)).map_or(&own, |group| &group.members);
            needs.push(match entry.outline.as_ref().and_then(|outline| outline.field("needs")) {
                Some(at) => self.needed(at, &own, stage, &names, errors),
                None => entry.group.and_then(|group| of_groups.get(group)).cloned().flatten(),
            });
        }
        needs
    }

    /// The steps that each name stands for; the first one, where a name is there twice.
    fn ranges(&self) -> HashMap<&str, Range<usize>> {
        let mut names = HashMap::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if let Some(name) = entry.outline.as_ref().and_then(Outline::name) {
                names.entry(name).or_insert(index..index + 1);
            }
        }
        for group in self.groups.iter().filter(|group| !group.name.is_empty()) {
            names.entry(&group.name).or_insert_with(|| group.members.clone());
        }
        names
    }

    /// Reads one `needs`. `own`: whose it is; `stage`: that with its whole group.
    fn needed(
        &self,
        at: &At<'_>,
        own: &Range<usize>,
        stage: &Range<usize>,
        names: &HashMap<&str, Range<usize>>,
        errors: &mut Errors,
    ) -> Option<Vec<String>> {
        let needs = known::names(at, MAX_STEPS, errors)?;
        let elements = at.list(MAX_STEPS, errors)?;
        let mut good = true;
        for (name, element) in needs.iter().zip(elements) {
            let Some(range) = names.get(name.as_str()) else {
                good = false;
                if self.complete && !errors.is_full() {
                    let earlier = names.iter().filter(|(_, range)| range.end <= stage.start).map(|(name, _)| *name);
                    let hint = suggest::hint(name, earlier);
                    element.error(format!("there is no step or group `{name}`{hint}"), errors);
                }
                continue;
            };
            let message = if range == own || range == stage {
                "it cannot wait for itself: name earlier steps".to_owned()
            } else if range.start >= stage.end {
                format!("`{name}` stands later in the file: a step can wait for earlier ones only, so move it up")
            } else if range.end > stage.start {
                format!("steps of one group do not wait for each other: write `{name}` before the group")
            } else {
                continue;
            };
            element.error(message, errors);
            good = false;
        }
        good.then_some(needs)
    }

    fn defined(&self, needs: &[Option<Vec<String>>]) -> Vec<Defined> {
        let name_of = |entry: &Entry<'a>| entry.outline.as_ref().and_then(Outline::name).unwrap_or_default().to_owned();
        let names: Vec<String> = self.entries.iter().map(name_of).collect();
        let slots: Vec<Slot<'_>> = (self.entries.iter().zip(&names).zip(needs))
            .map(|((entry, name), needs)| Slot {
                name,
                group: entry.group.and_then(|group| Some(self.groups.get(group)?.name.as_str())),
                needs: needs.as_deref(),
            })
            .collect();
        let ancestors = transitive(&slots);
        (self.entries.iter().zip(names).zip(ancestors))
            .map(|((entry, name), ancestors)| Defined {
                name,
                kind: entry.outline.as_ref().map_or(Kind::Unclear, Outline::kind),
                group: entry.group,
                ancestors,
            })
            .collect()
    }
}

impl Group<'_> {
    /// What the group's `when` is for the current step, one of its members. It is read for the first member, and again for
    /// those that say nothing else, since each may come after other steps; once it is wrong, no more.
    fn when_of(&mut self, member: &Outline<'_>, scope: &Scope, errors: &mut Errors) -> Option<Condition> {
        let inherits = member.field("when").is_none();
        if !inherits && scope.current != self.members.start {
            return None;
        }
        let condition = scope.condition(self.when.as_ref()?, errors);
        if condition.is_none() {
            self.when = None;
        }
        condition.filter(|_| inherits)
    }
}

fn members<'a>(at: &At<'a>, errors: &mut Errors) -> Option<Vec<At<'a>>> {
    let members = at.list(MAX_STEPS, errors)?;
    if members.is_empty() {
        at.error(
            "a group needs at least one step: write `- name: hello`, `image: alpine` and `run: echo hello`",
            errors,
        );
    }
    Some(members)
}

/// Records an error for a name that a step or a group has already.
fn unique(name: &str, what: &'static str, at: &At<'_>, names: &mut HashMap<String, &'static str>, errors: &mut Errors) {
    match names.get(name) {
        Some(other) => at.error(format!("there is already a {other} `{name}`"), errors),
        None => {
            names.insert(name.to_owned(), what);
        }
    }
}
