//! Which value a variable has: one documented order, no ties.
//!
//! The narrowest scope wins: what was given with the deployment, then step, environment, pool, everything. Within one scope a value
//! that was set on the server beats the one in the file. No two candidates of a variable have the same scope and the same source, so
//! there is nothing left to chance.

use std::collections::BTreeMap;

use crate::spec::{Project, Variable};

/// How narrow a value is, from wide to narrow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything.
    All,
    /// A pool.
    Pool(String),
    /// An environment.
    Environment(String),
    /// A step.
    Step(String),
    /// One deployment.
    Deployment,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Pool(name) => write!(f, "pool `{name}`"),
            Self::Environment(name) => write!(f, "environment `{name}`"),
            Self::Step(name) => write!(f, "step `{name}`"),
            Self::Deployment => f.write_str("this deployment"),
        }
    }
}

/// Where a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `longshore.yaml`.
    File,
    /// `longshore variable set`.
    Server,
    /// `longshore deploy --var`.
    Given,
}

impl Source {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::File => "the spec",
            Self::Server => "`longshore variable set`",
            Self::Given => "`--var`",
        }
    }
}

/// One value that a variable could have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// For what.
    pub scope: Scope,
    /// From where.
    pub source: Source,
    /// The value.
    pub value: String,
}

/// A plain value that was set on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetValue {
    /// The variable.
    pub name: String,
    /// The environment it is for; `None`: all.
    pub environment: Option<String>,
    /// The value.
    pub value: String,
}

/// Where a value is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The environment.
    pub environment: &'a str,
    /// The step, if it is for one.
    pub step: Option<&'a str>,
    /// Values that came with the deployment.
    pub given: &'a BTreeMap<String, String>,
}

/// Every value that a plain variable could have in a place, the one that counts first.
#[must_use]
pub fn candidates(project: &Project, set: &[SetValue], name: &str, place: &Place<'_>) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut add = |scope, source, value: &str| found.push(Candidate { scope, source, value: value.to_owned() });
    match project.variable(name) {
        Some(Variable::Plain(value)) => add(Scope::All, Source::File, value),
        Some(Variable::Scoped(scoped)) => {
            let of = |list: &'_ [(String, String)], wanted: &str| {
                list.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
            };
            if let Some(value) = &scoped.value {
                add(Scope::All, Source::File, value);
            }
            if let Some(value) = of(&scoped.pools, &project.pool) {
                add(Scope::Pool(project.pool.clone()), Source::File, &value);
            }
            if let Some(value) = of(&scoped.environments, place.environment) {
                add(Scope::Environment(place.environment.to_owned()), Source::File, &value);
            }
            if let Some((step, value)) = place.step.and_then(|step| Some((step, of(&scoped.steps, step)?))) {
                add(Scope::Step(step.to_owned()), Source::File, &value);
            }
        }
        Some(Variable::Prompt(prompt)) => {
            if let Some(value) = &prompt.value {
                add(Scope::All, Source::File, value);
            }
            if let Some(value) = place.given.get(name) {
                add(Scope::Deployment, Source::Given, value);
            }
        }
        Some(Variable::Secret) | None => return found,
    }
    for set in set.iter().filter(|set| set.name == name) {
        match &set.environment {
            None => add(Scope::All, Source::Server, &set.value),
            Some(environment) if environment == place.environment => {
                add(Scope::Environment(environment.clone()), Source::Server, &set.value);
            }
            Some(_) => {}
        }
    }
    found.sort_by(|a, b| (&b.scope, b.source).cmp(&(&a.scope, a.source)));
    found
}

/// Plain values of one environment: for all steps, and by step where a step has its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// For every step.
    pub variables: BTreeMap<String, String>,
    /// Values that one step alone has.
    pub steps: BTreeMap<String, BTreeMap<String, String>>,
}

/// Works out every plain value of an environment. A variable without a value in it is left out: naming it is an error where it is
/// named.
#[must_use]
pub fn resolve(project: &Project, set: &[SetValue], environment: &str, given: &BTreeMap<String, String>) -> Resolved {
    let mut resolved = Resolved::default();
    for (name, variable) in &project.variables {
        let best = |step| {
            let place = Place { environment, step, given };
            candidates(project, set, name, &place).into_iter().next()
        };
        if let Some(best) = best(None) {
            resolved.variables.insert(name.clone(), best.value);
        }
        let Variable::Scoped(scoped) = variable else { continue };
        for (step, _) in &scoped.steps {
            if let Some(Candidate { scope: Scope::Step(_), value, .. }) = best(Some(step)) {
                resolved.steps.entry(step.clone()).or_default().insert(name.clone(), value);
            }
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Prompt, Scoped};

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn project() -> Project {
        let text = "version: 1\nproject: shop\npool: gpu\nenvironments: [{name: dev}, {name: live}]\nvariables: {n: 1}\n\
                    steps: [{name: one, image: i, run: x}]\n";
        let mut project = crate::spec::parse(text).unwrap();
        let scoped = Scoped {
            value: Some("all".to_owned()),
            environments: pairs(&[("live", "env")]),
            steps: pairs(&[("one", "step")]),
            pools: pairs(&[("gpu", "pool"), ("other", "no")]),
        };
        project.variables.push(("s".to_owned(), Variable::Scoped(scoped)));
        let prompt = Prompt { prompt: "ticket".to_owned(), required: true, value: Some("none".to_owned()) };
        project.variables.push(("p".to_owned(), Variable::Prompt(prompt)));
        project
    }

    fn set(name: &str, environment: Option<&str>) -> SetValue {
        SetValue { name: name.to_owned(), environment: environment.map(str::to_owned), value: "set".to_owned() }
    }

    fn order(name: &str, environment: &str, step: Option<&str>, set: &[SetValue]) -> Vec<String> {
        let given = BTreeMap::from([("p".to_owned(), "OPS-7".to_owned())]);
        let place = Place { environment, step, given: &given };
        candidates(&project(), set, name, &place).into_iter().map(|found| found.value).collect()
    }

    #[test]
    fn the_narrowest_wins_and_the_server_beats_the_file_at_the_same_scope() {
        assert_eq!(order("s", "live", Some("one"), &[]), ["step", "env", "pool", "all"]);
        assert_eq!(order("s", "live", None, &[]), ["env", "pool", "all"]);
        assert_eq!(order("s", "dev", Some("two"), &[]), ["pool", "all"]);
        assert_eq!(order("s", "live", None, &[set("s", None)]), ["env", "pool", "set", "all"]);
        assert_eq!(order("s", "live", None, &[set("s", Some("live"))]), ["set", "env", "pool", "all"]);
        assert_eq!(order("s", "dev", None, &[set("s", Some("live"))]), ["pool", "all"]);
        assert_eq!(order("n", "dev", None, &[set("n", None)]), ["set", "1"]);
        assert_eq!(order("p", "dev", None, &[]), ["OPS-7", "none"]);
        assert_eq!(order("missing", "dev", None, &[set("missing", None)]), Vec::<String>::new());
    }

    #[test]
    fn a_steps_own_values_are_kept_apart() {
        let resolved = resolve(&project(), &[], "live", &BTreeMap::new());
        assert_eq!(resolved.variables.get("s").map(String::as_str), Some("env"));
        assert_eq!(resolved.steps.get("one").and_then(|values| values.get("s")).map(String::as_str), Some("step"));
        assert_eq!(resolved.steps.len(), 1);
    }
}
