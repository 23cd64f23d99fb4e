//! Which value a variable has: one documented order, no ties.
//!
//! The narrowest scope wins: what was given with the deployment, then step, environment, channel, pool,
//! everything. Within one scope a value
//! that was set on the server for the project beats the one in the file, and that beats one from a library; of libraries the one that
//! stands later in `libraries` wins. No two candidates of a variable have the same scope and the same source, so there is nothing left
//! to chance. A variable that the project does not declare has the values of its libraries; one that is asked for has none from them.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::{Project, Variable};

/// How narrow a value is, from wide to narrow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything.
    All,
    /// A pool.
    Pool(String),
    /// A channel.
    Channel(String),
    /// An environment.
    Environment(String),
    /// A step.
    Step(String),
    /// One deployment.
    Deployment,
}

impl Scope {
    /// As the database has it: an environment by its name, the others with their kind before it. No name has a colon in it.
    #[must_use]
    pub fn column(&self) -> Option<String> {
        match self {
            Self::All | Self::Deployment => None,
            Self::Environment(name) => Some(name.clone()),
            Self::Pool(name) => Some(format!("pool:{name}")),
            Self::Channel(name) => Some(format!("channel:{name}")),
            Self::Step(name) => Some(format!("step:{name}")),
        }
    }

    /// Reads what [`column`](Self::column) wrote.
    #[must_use]
    pub fn from_column(text: Option<String>) -> Self {
        let Some(text) = text else { return Self::All };
        match text.split_once(':') {
            Some(("pool", name)) => Self::Pool(name.to_owned()),
            Some(("channel", name)) => Self::Channel(name.to_owned()),
            Some(("step", name)) => Self::Step(name.to_owned()),
            // What a later version wrote is for nothing that there is here.
            _ => Self::Environment(text),
        }
    }

    /// The environment, where it is for one.
    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        match self {
            Self::Environment(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it holds in a place of a project.
    #[must_use]
    pub fn holds(&self, project: &Project, place: &Place<'_>) -> bool {
        match self {
            Self::All | Self::Deployment => true,
            Self::Pool(name) => name == project.pool_of(place.environment),
            Self::Channel(name) => name == place.channel,
            Self::Environment(name) => name == place.environment,
            Self::Step(name) => place.step == Some(name.as_str()),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Pool(name) => write!(f, "pool `{name}`"),
            Self::Channel(name) => write!(f, "channel `{name}`"),
            Self::Environment(name) => write!(f, "environment `{name}`"),
            Self::Step(name) => write!(f, "step `{name}`"),
            Self::Deployment => f.write_str("this deployment"),
        }
    }
}

/// Where a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A library, by its place in [`Project::libraries`].
    Library(usize),
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
    pub fn words(self, project: &Project) -> String {
        match self {
            Self::Library(at) => format!("library `{}`", project.libraries.get(at).map_or("", String::as_str)),
            Self::File => "the spec".to_owned(),
            Self::Server => "`longshore variable set`".to_owned(),
            Self::Given => "`--var`".to_owned(),
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
    /// What it is for.
    pub scope: Scope,
    /// The value.
    pub value: String,
    /// The library it was set in, by its place in [`Project::libraries`]; `None`: for the project.
    pub library: Option<usize>,
}

/// Where a value is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The environment.
    pub environment: &'a str,
    /// The channel of the release.
    pub channel: &'a str,
    /// The step, if it is for one.
    pub step: Option<&'a str>,
    /// Values that came with the deployment.
    pub given: &'a BTreeMap<String, String>,
}

/// Every value that a plain variable could have in a place, the one that counts first.
#[must_use]
pub fn candidates(project: &Project, set: &[SetValue], name: &str, place: &Place<'_>) -> Vec<Candidate> {
    let mut found = Vec::new();
    let pool = project.pool_of(place.environment);
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
            if let Some(value) = of(&scoped.pools, pool) {
                add(Scope::Pool(pool.to_owned()), Source::File, &value);
            }
            if let Some(value) = of(&scoped.channels, place.channel) {
                add(Scope::Channel(place.channel.to_owned()), Source::File, &value);
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
        Some(Variable::Secret) => return found,
        None => {}
    }
    let declared = project.variable(name);
    let counts = |set: &&SetValue| match set.library {
        Some(_) => !matches!(declared, Some(Variable::Prompt(_))),
        None => declared.is_some(),
    };
    for set in set.iter().filter(|set| set.name == name).filter(counts) {
        let source = set.library.map_or(Source::Server, Source::Library);
        if set.scope.holds(project, place) {
            add(set.scope.clone(), source, &set.value);
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

/// Works out every plain value of a place, whose step does not count: those of all steps are worked out. A variable without a value
/// in it is left out: naming it is an error where it is named.
#[must_use]
pub fn resolve(project: &Project, set: &[SetValue], place: &Place<'_>) -> Resolved {
    let mut resolved = Resolved::default();
    let best = |name: &str, step| candidates(project, set, name, &Place { step, ..*place }).into_iter().next();
    let names: BTreeSet<&str> = set.iter().filter(|set| set.library.is_some()).map(|set| set.name.as_str()).collect();
    for name in names.into_iter().filter(|name| project.variable(name).is_none()) {
        if let Some(best) = best(name, None) {
            resolved.variables.insert(name.to_owned(), best.value);
        }
    }
    for (name, variable) in &project.variables {
        if let Some(best) = best(name, None) {
            resolved.variables.insert(name.clone(), best.value);
        }
        let mut steps: BTreeSet<&str> = BTreeSet::new();
        if let Variable::Scoped(scoped) = variable {
            steps.extend(scoped.steps.iter().map(|(step, _)| step.as_str()));
        }
        steps.extend(set.iter().filter(|set| set.name == *name).filter_map(|set| match &set.scope {
            Scope::Step(step) => Some(step.as_str()),
            _ => None,
        }));
        for step in steps {
            if let Some(Candidate { scope: Scope::Step(_), value, .. }) = best(name, Some(step)) {
                resolved.steps.entry(step.to_owned()).or_default().insert(name.clone(), value);
            }
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Prompt, PromptType, Scoped};

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
            channels: pairs(&[("beta", "channel")]),
            pools: pairs(&[("gpu", "pool"), ("other", "no")]),
        };
        project.variables.push(("s".to_owned(), Variable::Scoped(scoped)));
        let prompt = Prompt {
            prompt: "ticket".to_owned(),
            required: true,
            value: Some("none".to_owned()),
            kind: PromptType::Text,
            options: Vec::new(),
        };
        project.variables.push(("p".to_owned(), Variable::Prompt(prompt)));
        project
    }

    fn set(name: &str, environment: Option<&str>) -> SetValue {
        SetValue {
            name: name.to_owned(),
            scope: environment.map_or(Scope::All, |name| Scope::Environment(name.to_owned())),
            value: "set".to_owned(),
            library: None,
        }
    }

    fn library(at: usize, name: &str, environment: Option<&str>) -> SetValue {
        SetValue { value: format!("lib{at}"), library: Some(at), ..set(name, environment) }
    }

    fn order(name: &str, environment: &str, step: Option<&str>, set: &[SetValue]) -> Vec<String> {
        order_in("default", name, environment, step, set)
    }

    fn order_in(channel: &str, name: &str, environment: &str, step: Option<&str>, set: &[SetValue]) -> Vec<String> {
        let given = BTreeMap::from([("p".to_owned(), "OPS-7".to_owned())]);
        let place = Place { environment, channel, step, given: &given };
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
    fn a_value_that_was_set_counts_in_its_scope_alone() {
        let of = |scope: Scope| SetValue { scope, ..set("s", None) };
        let all = [
            of(Scope::Step("one".to_owned())),
            of(Scope::Channel("beta".to_owned())),
            of(Scope::Pool("gpu".to_owned())),
            of(Scope::Pool("other".to_owned())),
        ];
        assert_eq!(
            order_in("beta", "s", "dev", Some("one"), &all),
            ["set", "step", "set", "channel", "set", "pool", "all"]
        );
        assert_eq!(order("s", "dev", None, &all), ["set", "pool", "all"]);
        let given = BTreeMap::new();
        let place = Place { environment: "dev", channel: "default", step: None, given: &given };
        let set = [SetValue { name: "n".to_owned(), ..of(Scope::Step("one".to_owned())) }];
        let resolved = resolve(&project(), &set, &place);
        assert_eq!((resolved.variables["n"].as_str(), resolved.steps["one"]["n"].as_str()), ("1", "set"));
        for scope in all.into_iter().map(|set| set.scope).chain([Scope::All, Scope::Environment("e".to_owned())]) {
            assert_eq!(Scope::from_column(scope.column()), scope);
        }
    }

    #[test]
    fn a_channel_is_wider_than_an_environment_and_narrower_than_a_pool() {
        assert_eq!(order_in("beta", "s", "live", Some("one"), &[]), ["step", "env", "channel", "pool", "all"]);
        assert_eq!(order_in("beta", "s", "dev", None, &[set("s", None)]), ["channel", "pool", "set", "all"]);
        assert_eq!(order_in("beta", "s", "dev", None, &[set("s", Some("dev"))]), ["set", "channel", "pool", "all"]);
        assert_eq!(order_in("stable", "s", "dev", None, &[]), ["pool", "all"]);
        let given = BTreeMap::new();
        let place = Place { environment: "dev", channel: "beta", step: None, given: &given };
        let resolved = resolve(&project(), &[], &place);
        assert_eq!(resolved.variables.get("s").map(String::as_str), Some("channel"));
    }

    #[test]
    fn a_library_is_beaten_at_its_scope_and_wins_where_it_is_narrower() {
        let all = [library(1, "s", None), library(0, "s", None), library(0, "s", Some("live")), set("s", None)];
        assert_eq!(order("s", "live", None, &all), ["env", "lib0", "pool", "set", "all", "lib1", "lib0"]);
        assert_eq!(order("n", "live", None, &[library(0, "n", Some("live"))]), ["lib0", "1"]);
        assert_eq!(order("new", "dev", None, &[library(0, "new", None), set("new", None)]), ["lib0"], "undeclared");
        assert_eq!(order("p", "dev", None, &[library(0, "p", None)]), ["OPS-7", "none"], "it is asked for");
        let given = BTreeMap::new();
        let place = Place { environment: "dev", channel: "default", step: None, given: &given };
        let resolved = resolve(&project(), &[library(0, "new", None), library(1, "new", None)], &place);
        assert_eq!(resolved.variables.get("new").map(String::as_str), Some("lib1"));
    }

    proptest::proptest! {
        /// Whatever is set, in whatever order it comes: no two candidates tie, and the order is the same.
        #[test]
        fn the_order_is_total(picks in proptest::collection::vec((0..4_usize, 0..3_usize), 0..20), step in proptest::bool::ANY, channel in "beta|stable") {
            let environments = [None, Some("dev"), Some("live")];
            let mut all: Vec<SetValue> = Vec::new();
            for (source, environment) in picks {
                let environment = environments[environment];
                let value = if source == 3 { set("s", environment) } else { library(source, "s", environment) };
                if !all.contains(&value) {
                    all.push(value);
                }
            }
            let given = BTreeMap::new();
            let channel = channel.as_str();
            let place = Place { environment: "live", channel, step: step.then_some("one"), given: &given };
            let found = candidates(&project(), &all, "s", &place);
            for pair in found.windows(2) {
                proptest::prop_assert!((&pair[0].scope, pair[0].source) > (&pair[1].scope, pair[1].source));
            }
            all.reverse();
            proptest::prop_assert_eq!(found, candidates(&project(), &all, "s", &place));
        }
    }

    #[test]
    fn a_steps_own_values_are_kept_apart() {
        let given = BTreeMap::new();
        let place = Place { environment: "live", channel: "default", step: None, given: &given };
        let resolved = resolve(&project(), &[], &place);
        assert_eq!(resolved.variables.get("s").map(String::as_str), Some("env"));
        assert_eq!(resolved.steps.get("one").and_then(|values| values.get("s")).map(String::as_str), Some("step"));
        assert_eq!(resolved.steps.len(), 1);
    }
}
