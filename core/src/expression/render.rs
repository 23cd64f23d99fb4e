//! From a template and the values at hand to a text.

use std::borrow::Cow;

use super::{Error, Part, Reference, Template};
use crate::secret::Secret;

/// Where the values come from. A lookup that answers `None` makes rendering fail.
pub trait Context {
    /// Value of a plain variable in the environment that is deployed to.
    fn variable(&self, name: &str) -> Option<&str>;
    /// Value of a secret variable in the environment that is deployed to.
    fn secret(&self, name: &str) -> Option<&Secret>;
    /// An output of a step that ran earlier in the deployment.
    fn output(&self, step: &str, name: &str) -> Option<Output<'_>>;
    /// Name of the environment that is deployed to.
    fn environment(&self) -> &str;
    /// Name of the project.
    fn project(&self) -> &str;
    /// Id of the deployment (`dep_...`).
    fn deployment(&self) -> &str;
}

/// An output as text.
pub struct Output<'a> {
    /// See [`output_text`].
    pub text: Cow<'a, str>,
    /// The step marked it as secret.
    pub secret: bool,
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        debug(f, "Output", &self.text, self.secret)
    }
}

/// The text that an output's JSON value stands for: a string is itself, anything else compact JSON.
#[must_use]
pub fn output_text(value: &serde_json::Value) -> Cow<'_, str> {
    match value {
        serde_json::Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// A template with its values in place.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The whole text.
    pub text: String,
    /// A secret is part of `text`: it may go to the running container and nowhere else.
    pub secret: bool,
}

impl Rendered {
    /// The text in the type that cannot be shown.
    #[must_use]
    pub fn into_secret(self) -> Secret {
        Secret::new(self.text)
    }
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        debug(f, "Rendered", &self.text, self.secret)
    }
}

/// Shows a text unless it is secret.
fn debug(f: &mut std::fmt::Formatter<'_>, name: &str, text: &str, secret: bool) -> std::fmt::Result {
    let shown = if secret { crate::init::MASK } else { text };
    f.debug_struct(name).field("text", &shown).field("secret", &secret).finish()
}

impl Template {
    /// Puts the values in, in one pass: nothing that a value holds is read as an expression.
    ///
    /// # Errors
    /// [`Error::NoVariable`], [`Error::NoSecret`], [`Error::NoOutput`] for the first value that is missing.
    pub fn render(&self, context: &impl Context) -> Result<Rendered, Error> {
        let mut out = Rendered { text: String::new(), secret: false };
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.text.push_str(text),
                Part::Reference { to, .. } => append(&mut out, to, context)?,
            }
        }
        Ok(out)
    }
}

/// Appends the value of one reference.
fn append(out: &mut Rendered, to: &Reference, context: &impl Context) -> Result<(), Error> {
    match to {
        Reference::Vars(name) => {
            let value = context.variable(name).ok_or_else(|| Error::NoVariable { name: name.clone() })?;
            out.text.push_str(value);
        }
        Reference::Secrets(name) => {
            let value = context.secret(name).ok_or_else(|| Error::NoSecret { name: name.clone() })?;
            out.text.push_str(value.expose());
            out.secret = true;
        }
        Reference::Output { step, name } => {
            let value =
                context.output(step, name).ok_or_else(|| Error::NoOutput { step: step.clone(), name: name.clone() })?;
            out.text.push_str(&value.text);
            out.secret |= value.secret;
        }
        Reference::Environment => out.text.push_str(context.environment()),
        Reference::Project => out.text.push_str(context.project()),
        Reference::Deployment => out.text.push_str(context.deployment()),
    }
    Ok(())
}
