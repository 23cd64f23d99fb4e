//! Operations on a stack outside the lifecycle: one step of a release, run by itself with another Pulumi operation.
//!
//! Invariant: what guards a step in its process guards what writes to its stack here too. Every approval that stands before the
//! step is asked for again, and a protected environment asks for one whether the process has any or not.

use serde::{Deserialize, Serialize};

use crate::expression::Template;
use crate::spec::{Action, Approval, Environment, Operation, Project, Pulumi, Step};

/// Name of the approval that is asked for where the process has none.
const APPROVAL: &str = "approve";

/// An operation on the stack of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackOperation {
    /// What is done.
    pub operation: Operation,
    /// Name of the `pulumi` step whose program, stack and settings count.
    pub step: String,
}

/// Why there is nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The process has no `pulumi` step.
    #[error("the release has no `pulumi` step, so there is no stack")]
    NoStack,
    /// It has several, and none was named.
    #[error("the release has more than one `pulumi` step: {0}")]
    Several(String),
    /// No step of that name runs Pulumi.
    #[error("the release has no `pulumi` step `{name}`; it has {known}")]
    NoStep {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// It is for something else.
    #[error("`{0}` is no operation on a stack: preview, up, refresh, destroy, drift, unlock")]
    NoOperation(String),
}

/// An operation by its name.
///
/// # Errors
/// [`Rejected::NoOperation`].
pub fn by_name(name: &str) -> Result<Operation, Rejected> {
    let all = [
        Operation::Preview,
        Operation::Up,
        Operation::Refresh,
        Operation::Destroy,
        Operation::Drift,
        Operation::Unlock,
    ];
    let found = all.into_iter().find(|operation| operation.as_str() == name);
    found.ok_or_else(|| Rejected::NoOperation(name.to_owned()))
}

impl StackOperation {
    /// The operation on the step of that name, or on the only one that there is.
    ///
    /// # Errors
    /// [`Rejected`] where no step, or more than one, is meant.
    pub fn new(project: &Project, operation: Operation, step: Option<&str>) -> Result<Self, Rejected> {
        let stacks: Vec<&str> =
            project.steps.iter().filter(|step| pulumi(step).is_some()).map(|step| step.name.as_str()).collect();
        let list = || stacks.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let step = match (step, stacks.as_slice()) {
            (_, []) => return Err(Rejected::NoStack),
            (None, [only]) => *only,
            (None, _) => return Err(Rejected::Several(list())),
            (Some(name), _) if stacks.contains(&name) => name,
            (Some(name), _) => return Err(Rejected::NoStep { name: name.to_owned(), known: list() }),
        };
        Ok(Self { operation, step: step.to_owned() })
    }

    /// The project with nothing but what the operation runs. Without such a step it runs nothing.
    #[must_use]
    pub fn process(&self, project: &Project, environment: &str) -> Project {
        let at = project.steps.iter().position(|step| step.name == self.step && pulumi(step).is_some());
        let mut steps = Vec::new();
        if let Some((at, step)) = at.and_then(|at| Some((at, project.steps.get(at)?))) {
            if self.operation.writes() {
                let protected = project.environment(environment).is_some_and(|found: &Environment| found.protected);
                steps = self.guards(project.steps.get(..at).unwrap_or_default(), protected);
            }
            steps.push(self.alone(step));
        }
        Project { steps, ..project.clone() }
    }

    /// Approvals that are asked for first. On a protected environment each is, whatever its condition says.
    fn guards(&self, before: &[Step], protected: bool) -> Vec<Step> {
        let guard = |step: &Step| {
            let Action::Approval(approval) = &step.action else { return None };
            let approval = Approval { plan: self.plan(), ..approval.clone() };
            let when = step.when.clone().filter(|_| !protected);
            Some(Step { action: Action::Approval(approval), needs: None, group: None, when, ..step.clone() })
        };
        let mut found: Vec<Step> = before.iter().filter_map(guard).collect();
        if found.is_empty() && protected {
            let approval = Approval { teams: Vec::new(), needs: 1, plan: self.plan(), expires: None };
            let name = if self.step == APPROVAL { format!("{APPROVAL}-operation") } else { APPROVAL.to_owned() };
            found.push(bare(name, Action::Approval(approval)));
        }
        found
    }

    /// Only `up` runs by a plan.
    fn plan(&self) -> Option<String> {
        (self.operation == Operation::Up).then(|| self.step.clone())
    }

    fn alone(&self, step: &Step) -> Step {
        let action = match &step.action {
            Action::Pulumi(pulumi) => Action::Pulumi(Pulumi { operation: self.operation, ..pulumi.clone() }),
            other => other.clone(),
        };
        Step { action, needs: None, group: None, when: None, retries: None, skippable: false, ..step.clone() }
    }
}

/// The name of the stack that a step works on.
#[must_use]
pub fn stack_of(project: &Project, step: &str) -> Option<Template> {
    project.step(step).and_then(Step::pulumi_stack_template)
}

fn pulumi(step: &Step) -> Option<&Pulumi> {
    match &step.action {
        Action::Pulumi(pulumi) => Some(pulumi),
        _ => None,
    }
}

fn bare(name: String, action: Action) -> Step {
    Step {
        name,
        image: None,
        action,
        mounts: Vec::new(),
        env: Vec::new(),
        accounts: Vec::new(),
        timeout: None,
        network: crate::spec::Network::default(),
        profile: crate::spec::Profile::default(),
        resources: crate::resources::Resources::default(),
        pull: crate::offer::Pull::default(),
        needs: None,
        group: None,
        when: None,
        retries: None,
        skippable: false,
        line: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Graph;

    const SPEC: &str = "version: 1\nproject: shop\nenvironments: [{name: dev}, {name: live, protected: true}]\nsteps:\n\
        - {name: build, image: i, run: x}\n\
        - {name: go, approval: {teams: [ops], needs: 2, plan: infra}, when: \"environment == 'live'\"}\n\
        - {name: infra, image: i, pulumi: {operation: up}, retries: {max: 2}, when: always()}\n\
        - {name: check, image: i, run: x}\n";

    fn project(text: &str) -> Project {
        crate::spec::parse(text).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn names(project: &Project) -> Vec<&str> {
        project.steps.iter().map(|step| step.name.as_str()).collect()
    }

    fn steps(spec: &Project, operation: Operation, environment: &str) -> Project {
        StackOperation::new(spec, operation, None).unwrap().process(spec, environment)
    }

    #[test]
    fn one_step_is_left_and_what_guards_it() {
        let spec = project(SPEC);
        for operation in [Operation::Preview, Operation::Drift] {
            assert_eq!(names(&steps(&spec, operation, "live")), ["infra"], "what reads asks nobody");
        }
        for operation in [Operation::Up, Operation::Refresh, Operation::Destroy, Operation::Unlock] {
            let made = steps(&spec, operation, "live");
            assert_eq!(names(&made), ["go", "infra"]);
            let Action::Approval(approval) = &made.steps[0].action else { panic!() };
            assert_eq!((approval.needs, approval.teams.as_slice()), (2, &["ops".to_owned()][..]));
            assert_eq!(approval.plan.is_some(), operation == Operation::Up);
            assert_eq!(made.steps[0].when, None, "protected: no condition lets it be left out");
            assert!(steps(&spec, operation, "dev").steps[0].when.is_some());
            let Action::Pulumi(pulumi) = &made.steps[1].action else { panic!() };
            assert_eq!(pulumi.operation, operation);
            assert!(made.steps[1].retries.is_none() && made.steps[1].when.is_none());
            // The graph of what is left is one row.
            assert!(!Graph::new(&made.steps).concurrent(0, 1));
        }
    }

    #[test]
    fn a_protected_environment_asks_also_where_the_process_does_not() {
        let spec = project(&SPEC.replace(
            "- {name: go, approval: {teams: [ops], needs: 2, plan: infra}, when: \"environment == 'live'\"}\n",
            "",
        ));
        let made = steps(&spec, Operation::Destroy, "live");
        assert_eq!(names(&made), ["approve", "infra"]);
        assert!(
            matches!(&made.steps[0].action, Action::Approval(approval) if approval.needs == 1 && approval.teams.is_empty())
        );
        assert_eq!(names(&steps(&spec, Operation::Destroy, "dev")), ["infra"]);
        let named = project(&SPEC.replace("infra", "approve").replace(
            "{name: go, approval: {teams: [ops], needs: 2, plan: approve}, when: \"environment == 'live'\"}",
            "{name: go, image: i, run: x}",
        ));
        assert_eq!(names(&steps(&named, Operation::Up, "live")), ["approve-operation", "approve"]);
    }

    #[test]
    fn the_step_is_the_only_one_or_named() {
        let spec = project(SPEC);
        assert_eq!(StackOperation::new(&spec, Operation::Up, None).unwrap().step, "infra");
        let wrong = StackOperation::new(&spec, Operation::Up, Some("build")).unwrap_err();
        assert_eq!(wrong.to_string(), "the release has no `pulumi` step `build`; it has `infra`");
        let two =
            project(&SPEC.replace("name: check, image: i, run: x", "name: dns, image: i, pulumi: {operation: up}"));
        assert_eq!(
            StackOperation::new(&two, Operation::Up, None).unwrap_err().to_string(),
            "the release has more than one `pulumi` step: `infra`, `dns`"
        );
        assert_eq!(StackOperation::new(&two, Operation::Up, Some("dns")).unwrap().step, "dns");
        assert_eq!(by_name("drift"), Ok(Operation::Drift));
        assert!(by_name("import").unwrap_err().to_string().contains("`import`"));
        let none =
            project("version: 1\nproject: shop\nenvironments: [{name: dev}]\nsteps:\n- {name: a, image: i, run: x}\n");
        assert_eq!(StackOperation::new(&none, Operation::Up, None), Err(Rejected::NoStack));
    }
}
