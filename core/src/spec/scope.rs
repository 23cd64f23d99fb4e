//! Which names the expressions of a step may use, and where.

use std::collections::BTreeMap;

use super::flow::Approval;
use super::model::{Action, Step, Variable};
use super::suggest;
use super::tree::{At, Errors};
use super::values::{
    check_argument, check_backend, check_dir, check_image, check_stack, check_template, check_url, check_version,
};
use crate::account;
use crate::expression::{Condition, Error, OPEN, Part, Reference, Template};

/// What a step is, as far as expressions in later ones care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Pulumi,
    Approval,
    Http,
    DeployRelease,
    /// Wrong in the file; not a reason for more errors elsewhere.
    Unclear,
}

/// The names of a project, as seen from one of its steps.
#[derive(Debug)]
pub(super) struct Scope {
    /// Name of the project, where it could be read.
    pub(super) project: Option<String>,
    /// Declared variables; `None`: declared wrongly, so that nothing can be said about its use.
    pub(super) variables: Vec<(String, Option<Variable>)>,
    /// There may be others, from libraries that are not known here.
    pub(super) open: bool,
    /// Accounts of the server; `None`: not known here.
    pub(super) accounts: Option<BTreeMap<String, account::Kind>>,
    /// All steps in order.
    pub(super) steps: Vec<Defined>,
    /// Every step has its name. If not, an unknown name may be that of one, and is no reason for one more error.
    pub(super) complete: bool,
    /// Names of the groups; members know theirs by its index.
    pub(super) groups: Vec<String>,
    /// For each approval before `current` that shows a plan: its index, and that of the step whose plan it is.
    pub(super) plans: Vec<(usize, usize)>,
    /// Index of the step whose expressions are checked.
    pub(super) current: usize,
}

/// A step, as far as others care.
#[derive(Debug)]
pub(super) struct Defined {
    /// Empty if it could not be read.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) group: Option<usize>,
    /// Indices of the steps that are certainly over when it starts, sorted.
    pub(super) ancestors: Vec<usize>,
}

/// A place that takes expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Env,
    Image,
    Stack,
    Dir,
    Backend,
    Url,
    Version,
    When,
}

impl Place {
    fn rule(self) -> fn(&str) -> Result<(), String> {
        match self {
            Self::Env | Self::When => check_argument,
            Self::Image => check_image,
            Self::Stack => check_stack,
            Self::Dir => check_dir,
            Self::Backend => check_backend,
            Self::Url => check_url,
            Self::Version => check_version,
        }
    }

    /// What may stand for a value at the beginning, as far as the rule goes.
    fn stand_in(self) -> &'static str {
        match self {
            Self::Url => "http://x",
            Self::Backend => "x://x",
            _ => "x",
        }
    }

    /// Why it cannot take a secret.
    fn refuses_secrets(self) -> Option<&'static str> {
        match self {
            Self::Env => None,
            Self::When => Some("which steps run would show something of the secret"),
            Self::Backend => Some(
                "a secret would be shown here: leave `backend` out and give it as `PULUMI_BACKEND_URL` under `env`",
            ),
            Self::Image | Self::Stack | Self::Dir | Self::Url | Self::Version => {
                Some("a secret would be shown here: secrets are allowed in the values of `env` only")
            }
        }
    }

    /// Why it cannot take an output.
    fn refuses_outputs(self) -> Option<&'static str> {
        match self {
            Self::Env | Self::Dir | Self::Url | Self::When => None,
            Self::Version => Some("the version is chosen before any step runs, so it cannot name an output"),
            Self::Image => Some("the image is pulled before any step runs, so it cannot name an output"),
            Self::Stack | Self::Backend => {
                Some("the stack is locked before any step runs, so this cannot name an output")
            }
        }
    }
}

impl Scope {
    /// Reads a value that may hold expressions, and checks it.
    pub(super) fn template(&self, at: &At<'_>, place: Place, errors: &mut Errors) -> Option<Template> {
        let scalar = at.scalar(errors)?;
        // An error's line is that of the expression it is about.
        let opened: Vec<usize> = scalar.text.match_indices(OPEN).map(|(i, _)| i).collect();
        let line_at = |offset: usize| {
            let index = opened.binary_search(&offset).ok();
            let line = index.and_then(|index| scalar.expressions.get(index));
            line.copied().unwrap_or(at.line)
        };
        let template = match Template::parse(&scalar.text) {
            Ok(template) => template,
            Err(error) => {
                let line = error.offset().map_or(at.line, line_at);
                errors.add(line, &at.field, self.explained(&error));
                return None;
            }
        };
        let mut good = true;
        for part in template.parts() {
            if errors.is_full() {
                break;
            }
            if let Part::Reference { offset, to } = part
                && let Err(message) = self.check(to, place)
            {
                errors.add(line_at(*offset), &at.field, message);
                good = false;
            }
        }
        if let Err(message) = check_template(&template, place.stand_in(), place.rule()) {
            at.error(message, errors);
            good = false;
        }
        good.then_some(template)
    }

    /// Reads a condition, and checks the names in it.
    pub(super) fn condition(&self, at: &At<'_>, errors: &mut Errors) -> Option<Condition> {
        let scalar = at.scalar(errors)?;
        let condition = Condition::parse(&scalar.text).map_err(|message| at.error(message, errors)).ok()?;
        let mut good = true;
        for to in condition.references() {
            if errors.is_full() {
                break;
            }
            if let Err(message) = self.check(to, Place::When) {
                at.error(message, errors);
                good = false;
            }
        }
        good.then_some(condition)
    }

    /// An error of parsing, with a better guess where the name alone was written.
    fn explained(&self, error: &Error) -> String {
        if let Error::NotAnExpression { expression, .. } = error
            && let Some((name, variable)) = self.variables.iter().find(|(name, _)| name == expression)
        {
            return format!("`{name}` alone is no expression: write `{}`", written(name, variable.as_ref()));
        }
        error.to_string()
    }

    fn check(&self, to: &Reference, place: Place) -> Result<(), String> {
        match to {
            Reference::Vars(name) if place == Place::When && self.is_secret(name) => {
                let why = place.refuses_secrets().unwrap_or_default();
                Err(format!("`{name}` is a secret and cannot be compared: {why}"))
            }
            Reference::Vars(name) => self.check_variable(name, false),
            Reference::Secrets(name) => {
                self.check_variable(name, true)?;
                place.refuses_secrets().map_or(Ok(()), |why| Err(why.to_owned()))
            }
            Reference::Output { step, .. } => {
                self.check_step(step)?;
                place.refuses_outputs().map_or(Ok(()), |why| Err(why.to_owned()))
            }
            Reference::Environment | Reference::Project | Reference::Deployment => Ok(()),
        }
    }

    fn check_variable(&self, name: &str, secret: bool) -> Result<(), String> {
        let Some((_, variable)) = self.variables.iter().find(|(known, _)| known == name) else {
            if self.open {
                return Ok(());
            }
            let hint = suggest::hint(name, self.variables.iter().map(|(known, _)| known.as_str()));
            let declare = if secret { format!("`{name}: {{secret: true}}`") } else { format!("`{name}: VALUE`") };
            return Err(format!("variable `{name}` is not defined: add {declare} under `variables`{hint}"));
        };
        match (variable, secret) {
            (Some(Variable::Secret), false) => Err(format!("`{name}` is a secret: write `${{{{ secrets.{name} }}}}`")),
            (Some(Variable::Plain(_) | Variable::Scoped(_) | Variable::Prompt(_)), true) => {
                Err(format!("`{name}` is no secret: write `${{{{ vars.{name} }}}}`"))
            }
            _ => Ok(()),
        }
    }

    fn is_secret(&self, name: &str) -> bool {
        self.variables.iter().any(|(known, variable)| known == name && matches!(variable, Some(Variable::Secret)))
    }

    /// The step of that name, or why there is none; `None`: nothing can be said.
    fn find(&self, name: &str, meant: impl Fn(usize) -> bool) -> Result<Option<(usize, &Defined)>, String> {
        let found = self.steps.iter().enumerate().find(|(_, step)| step.name == name);
        if found.is_some() || !self.complete {
            return Ok(found);
        }
        if self.groups.iter().any(|group| group == name) {
            return Err(format!("`{name}` is a group: write the name of one of its steps"));
        }
        let names =
            self.steps.iter().enumerate().filter(|(index, _)| meant(*index)).map(|(_, step)| step.name.as_str());
        Err(format!("there is no step `{name}`{}", suggest::hint(name, names)))
    }

    fn ancestors(&self, index: usize) -> &[usize] {
        self.steps.get(index).map(|step| step.ancestors.as_slice()).unwrap_or_default()
    }

    /// Whether the outputs of a step are there when the current one is started.
    fn check_step(&self, name: &str) -> Result<(), String> {
        let Some((index, step)) = self.find(name, |index| index < self.current)? else {
            return Ok(());
        };
        if index == self.current {
            return Err("a step cannot use its own outputs".to_owned());
        }
        let group = self.steps.get(self.current).and_then(|current| current.group);
        if group.is_some() && step.group == group {
            return Err(format!(
                "step `{name}` runs at the same time: only outputs of steps before the group are there"
            ));
        }
        if index > self.current {
            return Err(format!("step `{name}` runs later: only outputs of earlier steps are there"));
        }
        if matches!(step.kind, Kind::Approval | Kind::Http | Kind::DeployRelease) {
            return Err(format!("step `{name}` has no outputs: only `run` and `pulumi` steps do"));
        }
        if self.ancestors(self.current).binary_search(&index).is_err() {
            return Err(format!("step `{name}` may still run when this one starts: add `{name}` to its `needs`"));
        }
        for (approval, planned) in &self.plans {
            if *planned == self.current && self.ancestors(*approval).binary_search(&index).is_err() {
                let approval = self.steps.get(*approval).map(|step| step.name.as_str()).unwrap_or_default();
                return Err(format!(
                    "the plan of this step is made for the approval `{approval}`, before `{name}` has run: put `{name}` \
                     before `{approval}`"
                ));
            }
        }
        Ok(())
    }

    /// Name of an approval that shows the plan of the current step.
    pub(super) fn plan_shown_by(&self) -> Option<&str> {
        let (approval, _) = self.plans.iter().find(|(_, planned)| *planned == self.current)?;
        self.steps.get(*approval).map(|step| step.name.as_str())
    }

    /// For an approval that shows a plan: what belongs into [`Scope::plans`].
    pub(super) fn planned(&self, step: &Step) -> Option<(usize, usize)> {
        let Action::Approval(Approval { plan: Some(name), .. }) = &step.action else {
            return None;
        };
        let planned = self.steps.iter().position(|step| step.name == *name)?;
        Some((self.current, planned))
    }

    /// Whether the current step, an approval, can show the plan of a step.
    pub(super) fn check_plan(&self, name: &str) -> Result<(), String> {
        let Some((index, step)) = self.find(name, |index| index > self.current)? else {
            return Ok(());
        };
        if index <= self.current {
            return Err(format!("step `{name}` runs earlier: an approval stands before the step whose plan it shows"));
        }
        if !matches!(step.kind, Kind::Pulumi | Kind::Unclear) {
            return Err(format!("step `{name}` has no plan: only `pulumi` steps do"));
        }
        if step.ancestors.binary_search(&self.current).is_err() {
            let approval = self.steps.get(self.current).map(|step| step.name.as_str()).unwrap_or_default();
            return Err(format!("step `{name}` does not wait for this approval: add `{approval}` to its `needs`"));
        }
        Ok(())
    }
}

/// How a variable is written in an expression.
fn written(name: &str, variable: Option<&Variable>) -> String {
    let space = if matches!(variable, Some(Variable::Secret)) { "secrets" } else { "vars" };
    format!("${{{{ {space}.{name} }}}}")
}
