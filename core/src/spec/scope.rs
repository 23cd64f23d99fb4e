//! Which names the expressions of a step may use, and where.

use super::model::Variable;
use super::suggest;
use super::tree::{At, Errors};
use super::values::{check_argument, check_backend, check_dir, check_image, check_stack, check_template};
use crate::expression::{Error, OPEN, Part, Reference, Template};

/// What a step is, as far as expressions in later ones care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Pulumi,
    /// Wrong in the file; not a reason for more errors elsewhere.
    Unclear,
}

/// The names of a project, as seen from one of its steps.
#[derive(Debug)]
pub(super) struct Scope {
    /// Declared variables; `None`: declared wrongly, so that nothing can be said about its use.
    pub(super) variables: Vec<(String, Option<Variable>)>,
    /// All steps in order.
    pub(super) steps: Vec<(String, Kind)>,
    /// Index of the step whose expressions are checked.
    pub(super) current: usize,
}

/// A place that takes expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Env,
    Image,
    Stack,
    Dir,
    Backend,
}

impl Place {
    fn rule(self) -> fn(&str) -> Result<(), String> {
        match self {
            Self::Env => check_argument,
            Self::Image => check_image,
            Self::Stack => check_stack,
            Self::Dir => check_dir,
            Self::Backend => check_backend,
        }
    }

    /// Why it cannot take a secret.
    fn refuses_secrets(self) -> Option<&'static str> {
        match self {
            Self::Env => None,
            Self::Backend => Some(
                "a secret would be shown here: leave `backend` out and give it as `PULUMI_BACKEND_URL` under `env`",
            ),
            Self::Image | Self::Stack | Self::Dir => {
                Some("a secret would be shown here: secrets are allowed in the values of `env` only")
            }
        }
    }

    /// Why it cannot take an output.
    fn refuses_outputs(self) -> Option<&'static str> {
        match self {
            Self::Env | Self::Dir => None,
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
        if let Err(message) = check_template(&template, place.rule()) {
            at.error(message, errors);
            good = false;
        }
        good.then_some(template)
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
            let hint = suggest::hint(name, self.variables.iter().map(|(known, _)| known.as_str()));
            let declare = if secret { format!("`{name}: {{secret: true}}`") } else { format!("`{name}: VALUE`") };
            return Err(format!("variable `{name}` is not defined: add {declare} under `variables`{hint}"));
        };
        match (variable, secret) {
            (Some(Variable::Secret), false) => Err(format!("`{name}` is a secret: write `${{{{ secrets.{name} }}}}`")),
            (Some(Variable::Plain(_)), true) => Err(format!("`{name}` is no secret: write `${{{{ vars.{name} }}}}`")),
            _ => Ok(()),
        }
    }

    fn check_step(&self, name: &str) -> Result<(), String> {
        let Some(index) = self.steps.iter().position(|(known, _)| known == name) else {
            let earlier = self.steps.iter().take(self.current).map(|(known, _)| known.as_str());
            return Err(format!("there is no step `{name}`{}", suggest::hint(name, earlier)));
        };
        match index.cmp(&self.current) {
            std::cmp::Ordering::Equal => Err("a step cannot use its own outputs".to_owned()),
            std::cmp::Ordering::Greater => {
                Err(format!("step `{name}` runs later: only outputs of earlier steps are there"))
            }
            std::cmp::Ordering::Less => Ok(()),
        }
    }
}

/// How a variable is written in an expression.
fn written(name: &str, variable: Option<&Variable>) -> String {
    let space = if matches!(variable, Some(Variable::Secret)) { "secrets" } else { "vars" };
    format!("${{{{ {space}.{name} }}}}")
}
