//! What the image is made of: exact versions and lists, read from `packaging/pulumi-image`, and digests over them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use super::parts;

/// Raised when the code here changes what comes out in a way that none of the digested inputs shows.
const REVISION: &str = "1";

/// The module of the Pulumi CLI and that of its YAML language host.
const CLI: &str = "github.com/pulumi/pulumi/pkg/v3";
const YAML: &str = "github.com/pulumi/pulumi-yaml";

/// Everything that decides what the image holds.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// The folder `packaging/pulumi-image`.
    pub(super) source: PathBuf,
    /// The engine's architecture, by Debian's and Go's common name for it.
    pub(super) architecture: String,
    /// Version of the Pulumi CLI, of the YAML language host and of `dock`, without `v`.
    pub(super) cli: String,
    pub(super) yaml: String,
    pub(super) dock: String,
    /// The oldest Go that builds them.
    pub(super) go: String,
    /// Debian packages beside the minimal base.
    pub(super) packages: Vec<String>,
    pub(super) digests: Digests,
}

/// The names of the parts in the cache, and of the image in the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) base: String,
    pub(super) cli: String,
    pub(super) dock: String,
    pub(super) image: String,
}

impl Recipe {
    /// Reads the folder `packaging/pulumi-image`.
    pub(super) fn load(source: &Path, architecture: &str) -> anyhow::Result<Self> {
        let module = read(&source.join("go.mod"))?;
        let mut recipe = Self {
            source: source.to_path_buf(),
            architecture: architecture.to_owned(),
            cli: pinned(&module, CLI)?,
            yaml: pinned(&module, YAML)?,
            dock: read(&source.join("dock/VERSION"))?.trim().to_owned(),
            go: word_after(&module, "go").context("`go.mod` has no line `go VERSION`")?,
            packages: list(&read(&source.join("base-packages.txt"))?),
            digests: Digests::default(),
        };
        recipe.digests = recipe.digest(&module)?;
        Ok(recipe)
    }

    fn digest(&self, module: &str) -> anyhow::Result<Digests> {
        let sums = read(&self.source.join("go.sum"))?;
        let mut base = Inputs::new("base");
        parts::base_options(self).iter().for_each(|option| base.add(option));
        let mut cli = Inputs::new("cli");
        [&self.architecture, module, &sums, &parts::cli_flags(self)].into_iter().for_each(|input| cli.add(input));
        let mut dock = Inputs::new("dock");
        [&self.architecture, module, &sums, parts::DOCK_FLAGS].into_iter().for_each(|input| dock.add(input));
        for file in files(&self.source.join("dock"))? {
            dock.add(&file.strip_prefix(&self.source)?.to_string_lossy());
            dock.add(&read(&file)?);
        }
        let (base, cli, dock) = (base.finish(), cli.finish(), dock.finish());
        let mut image = Inputs::new("image");
        [&base, &cli, &dock, &read(&self.source.join("Dockerfile"))?].into_iter().for_each(|input| image.add(input));
        Ok(Digests { base, cli, dock, image: image.finish() })
    }
}

/// A digest over a list of texts, in which no text can pass for two.
struct Inputs(Sha256);

impl Inputs {
    fn new(kind: &str) -> Self {
        let mut inputs = Self(Sha256::new());
        inputs.add(REVISION);
        inputs.add(kind);
        inputs
    }

    fn add(&mut self, input: &str) {
        self.0.update(input.len().to_be_bytes());
        self.0.update(input);
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The version, without `v`, that `go.mod` requires of a module.
fn pinned(module: &str, name: &str) -> anyhow::Result<String> {
    let version = word_after(module, name).with_context(|| format!("`go.mod` does not require `{name}`"))?;
    match version.strip_prefix('v') {
        Some(version) => Ok(version.to_owned()),
        None => bail!("`go.mod` requires `{name}` at `{version}`, which is no version"),
    }
}

/// The word after `first` on the first line that begins with it, be it in a `require` block or behind the word `require`.
fn word_after(module: &str, first: &str) -> Option<String> {
    module.lines().find_map(|line| {
        let mut words = line.split_whitespace().filter(|word| *word != "require");
        (words.next() == Some(first)).then(|| words.next().map(str::to_owned)).flatten()
    })
}

/// The lines of a list that are not empty and not remarks.
pub(super) fn list(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The files of a folder and its folders that go into a build, in one order everywhere. Tests do not.
fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("`{}` cannot be read", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if !path.to_string_lossy().ends_with("_test.go") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("`{}` cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "module m\n\ngo 1.25.11\n\ntool a/b/cmd/x\n\nrequire one/x v1.2.3\n\nrequire (\n\ta/b v0.1.0 // indirect\n\tc v2\n\td main\n)\n";

    #[test]
    fn versions_are_read_from_go_mod() {
        assert_eq!(pinned(MODULE, "one/x").unwrap(), "1.2.3");
        assert_eq!(pinned(MODULE, "a/b").unwrap(), "0.1.0");
        assert_eq!(word_after(MODULE, "go").unwrap(), "1.25.11");
        assert!(pinned(MODULE, "a").unwrap_err().to_string().contains("does not require `a`"));
        assert!(pinned(MODULE, "d").unwrap_err().to_string().contains("no version"));
    }

    #[test]
    fn a_list_may_hold_remarks() {
        assert_eq!(list("# all\n\ngit\n  ca-certificates  # TLS\n"), ["git", "ca-certificates"]);
    }

    #[test]
    fn no_text_passes_for_two() {
        let digest = |texts: &[&str]| {
            let mut inputs = Inputs::new("test");
            texts.iter().for_each(|text| inputs.add(text));
            inputs.finish()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["ab", "c"]), digest(&["ab", "c"]));
        assert_eq!(digest(&[]).len(), 64);
    }

    #[test]
    fn the_recipe_of_this_checkout_is_whole() {
        let recipe = Recipe::load(&crate::sh::root().join("packaging/pulumi-image"), "amd64").unwrap();
        assert!(recipe.cli.starts_with("3."), "{}", recipe.cli);
        assert!(recipe.packages.contains(&"ca-certificates".to_owned()));
        let arm = Recipe::load(&recipe.source, "arm64").unwrap();
        assert_ne!(recipe.digests.base, arm.digests.base);
        assert_ne!(recipe.digests.image, arm.digests.image);
    }

    #[test]
    fn each_part_follows_its_own_inputs() {
        let dir = std::env::temp_dir().join(format!("longshore-recipe-{}", std::process::id()));
        fs::create_dir_all(dir.join("dock/yard")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write("go.mod", &format!("go 1.25\nrequire (\n{CLI} v3.1.0\n{YAML} v1.1.0\n)\n"));
        for name in ["go.sum", "Dockerfile", "dock/main.go", "dock/yard/yard.go"] {
            write(name, "");
        }
        write("base-packages.txt", "git\n");
        write("dock/VERSION", "0.1.0\n");
        let digests = || Recipe::load(&dir, "amd64").unwrap().digests;
        let first = digests();

        write("dock/yard/yard_test.go", "a test");
        write("README.md", "words");
        assert_eq!(digests(), first, "a test or a README is no input");
        write("dock/yard/yard.go", "changed");
        let second = digests();
        assert_eq!((&second.base, &second.cli), (&first.base, &first.cli));
        assert_ne!(second.dock, first.dock);
        assert_ne!(second.image, first.image);
        write("base-packages.txt", "git\ncurl\n");
        let third = digests();
        assert_ne!(third.base, second.base);
        assert_eq!((&third.cli, &third.dock), (&second.cli, &second.dock));
        write("Dockerfile", "changed");
        let fourth = digests();
        assert_eq!((&fourth.base, &fourth.cli, &fourth.dock), (&third.base, &third.cli, &third.dock));
        assert_ne!(fourth.image, third.image);
        fs::remove_dir_all(&dir).unwrap();
    }
}
