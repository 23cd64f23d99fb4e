//! Looks at a folder for a Pulumi program and its stacks. Reads files, runs nothing.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use longshore_core::spec::{self, PulumiFile, names};

use crate::failure::Failure;

/// Longest file that is read.
const MAX_FILE: u64 = 1 << 20;
/// The name when neither program nor folder has one that fits.
const DEFAULT_PROJECT: &str = "my-project";
/// The environment when there are no stacks.
const DEFAULT_ENVIRONMENT: &str = "dev";

/// What the file is written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// A name that a spec takes.
    pub(super) project: String,
    /// At least one, names unique.
    pub(super) environments: Vec<Target>,
    /// `None`: an example is written.
    pub(super) program: Option<Program>,
}

/// An environment, and the stack it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// A name that a spec takes.
    pub(super) name: String,
    /// Name of the stack.
    pub(super) stack: String,
}

/// A Pulumi program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The folder of `Pulumi.yaml`; `None`: the package's root.
    pub(super) dir: Option<String>,
    /// Its language.
    pub(super) runtime: String,
    /// URL of its backend.
    pub(super) backend: Option<String>,
}

/// Finds the program in `dir`, or in one of its folders.
pub(super) fn find(dir: &Path) -> Result<Found, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("the folder `{}` cannot be read: {error}", dir.display()))
            .untouched("no file was written")
            .next("name the folder that holds the program")
    };
    let folder = dir.canonicalize().map_err(unreadable)?;
    let of_folder = folder.file_name().and_then(|name| names::as_name(&name.to_string_lossy()));
    let Some((at, file)) = program_file(dir).map_err(unreadable)?.one(dir)? else {
        let project = of_folder.unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
        return Ok(Found { project, environments: environments(Vec::new()), program: None });
    };
    let PulumiFile { name, runtime, backend } = read(&file)?;
    let project =
        name.and_then(|name| names::as_name(&name)).or(of_folder).unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
    let home = at.as_ref().map_or_else(|| dir.to_owned(), |at| dir.join(at));
    let environments = environments(stacks(&home).map_err(unreadable)?);
    let runtime = runtime.unwrap_or_else(|| "yaml".to_owned());
    Ok(Found { project, environments, program: Some(Program { dir: at, runtime, backend }) })
}

/// Every `Pulumi.yaml` that is not too deep.
struct Files(Vec<(Option<String>, PathBuf)>);

impl Files {
    /// The one program; a choice between several is not made here.
    fn one(mut self, dir: &Path) -> Result<Option<(Option<String>, PathBuf)>, Failure> {
        if self.0.len() > 1 {
            let names: Vec<_> = self.0.iter().map(|(_, path)| format!("`{}`", path.display())).collect();
            return Err(Failure::usage(format!(
                "there are several programs in `{}`: {}",
                dir.display(),
                names.join(", ")
            ))
            .untouched("no file was written")
            .next("name the folder of one: `longshore init DIR`"));
        }
        Ok(self.0.pop())
    }
}

fn program_file(dir: &Path) -> std::io::Result<Files> {
    if let Some(file) = in_folder(dir) {
        return Ok(Files(vec![(None, file)]));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A link is not followed, and a name that the file could not hold is no place for a program.
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if name.starts_with('.') || !entry.file_type()?.is_dir() || spec::check_dir(&name).is_err() {
            continue;
        }
        found.extend(in_folder(&entry.path()).map(|file| (Some(name), file)));
    }
    found.sort();
    Ok(Files(found))
}

fn in_folder(dir: &Path) -> Option<PathBuf> {
    ["Pulumi.yaml", "Pulumi.yml"].iter().map(|name| dir.join(name)).find(|path| path.is_file())
}

fn read(path: &Path) -> Result<PulumiFile, Failure> {
    let shown = path.display();
    let bad = |why: String| {
        Failure::usage(format!("`{shown}` cannot be read: {why}"))
            .untouched("no file was written")
            .next("correct it, or name another folder")
    };
    let file = std::fs::File::open(path).map_err(|error| bad(error.to_string()))?;
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| bad(error.to_string()))?;
    spec::read_pulumi_file(&text).map_err(|error| bad(error.to_string()))
}

/// Names of the stacks that have a file `Pulumi.<stack>.yaml`, sorted.
fn stacks(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut stacks = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix("Pulumi.")) else { continue };
        let stack = rest.strip_suffix(".yaml").or_else(|| rest.strip_suffix(".yml"));
        stacks.extend(stack.filter(|stack| spec::check_stack(stack).is_ok()).map(str::to_owned));
    }
    stacks.sort();
    stacks.dedup();
    Ok(stacks)
}

/// An environment for each stack, under a name that a spec takes; `dev` without any.
fn environments(stacks: Vec<String>) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    for stack in stacks {
        let base = names::as_name(&stack).unwrap_or_else(|| DEFAULT_ENVIRONMENT.to_owned());
        let mut name = base.clone();
        let mut number = 2;
        while found.iter().any(|one| one.name == name) {
            let room: String = base.chars().take(58).collect();
            name = format!("{room}-{number}");
            number += 1;
        }
        found.push(Target { name, stack });
    }
    if found.is_empty() {
        let name = DEFAULT_ENVIRONMENT.to_owned();
        found.push(Target { stack: name.clone(), name });
    }
    found
}
