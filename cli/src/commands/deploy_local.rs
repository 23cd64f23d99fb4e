//! `longshore deploy --local`: the working tree and its own `longshore.yaml`, without an apply.
//!
//! What differs from the applied spec is told before anything is sent; it is information, and nothing is asked.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Context;
use super::apply::{known, show};
use super::spec_file::{SpecFile, mistakes};
use crate::args::Deploy;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::git::{self, State};

/// Name of the spec in a working tree.
const SPEC: &str = "longshore.yaml";
const UNTOUCHED: &str = "nothing was deployed";

/// A working tree that is understood.
#[derive(Debug)]
pub(super) struct Tree {
    /// Name of its project.
    pub(super) project: String,
    folder: PathBuf,
    file: SpecFile,
    state: Option<State>,
}

impl Tree {
    /// Reads the spec of a folder, and what git says of it.
    pub(super) async fn read(context: &Context, args: &Deploy, folder: &Path) -> Result<Self, Failure> {
        if !folder.is_dir() {
            return Err(Failure::usage(format!("`{}` is no folder", folder.display()))
                .untouched(UNTOUCHED)
                .next(format!("name the folder that holds `{SPEC}`")));
        }
        let file = SpecFile::read(&folder.join(SPEC)).map_err(|failure| failure.untouched(UNTOUCHED))?;
        let project = file.check().map_err(|errors| {
            context.output.message(&file.explain(&errors, context.output.paint_messages()));
            Failure::usage(format!("{} in `{}`", mistakes(errors.len()), file.name)).untouched(UNTOUCHED)
        })?;
        if let Some(name) = args.project.as_ref().filter(|name| **name != project.name) {
            let message = format!("`{}` is of project `{}`, not of `{name}`", file.name, project.name);
            return Err(Failure::usage(message).untouched(UNTOUCHED).next("leave the project out, or name its folder"));
        }
        let state = git::state(folder).await;
        Ok(Self { project: project.name, folder: folder.to_owned(), file, state })
    }

    /// The folder to pack.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tells what is deployed, and what differs from the spec that was applied.
    pub(super) async fn tell(&self, context: &Context, client: &Client) -> Result<(), Failure> {
        let name = self.project.as_str();
        let known = known(client, name).await.map_err(|failure| failure.untouched(UNTOUCHED))?;
        if known.revision == 0 {
            return Err(Failure::new(Exit::Refused, format!("there is no project `{name}` on the server"))
                .untouched(UNTOUCHED)
                .next(format!("apply it once: `longshore apply -f {}`", self.file.name)));
        }
        let of = self.state.as_ref().map_or_else(String::new, |state| {
            let dirty = if state.dirty { " with changes" } else { "" };
            format!(" (commit {}{dirty})", state.commit.get(..12).unwrap_or(&state.commit))
        });
        context.output.message(&format!("working tree `{}`{of}; the project stays as it is", self.folder.display()));
        let own = self.file.check().ok();
        let changes =
            own.zip(known.spec.as_ref()).map(|(own, applied)| longshore_core::spec::diff(Some(applied), &own));
        context.output.message(&show(&known, name, changes.as_deref(), context.output.paint_messages()));
        Ok(())
    }

    /// What goes with the request.
    pub(super) fn body(&self) -> Value {
        let mut body = json!({ "spec": String::from_utf8_lossy(&self.file.bytes) });
        if let Some(state) = &self.state {
            body["commit"] = json!(state.commit);
            body["dirty"] = json!(state.dirty);
        }
        body
    }
}
