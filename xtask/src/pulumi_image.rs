//! An image with the real Pulumi CLI, made from package registries alone.
//!
//! For machines without an image registry: the demo, the tests and CI run what this makes. Three parts are made, each kept
//! in a cache outside the checkout under the digest of what it was made from: a Debian base, the CLI with its YAML language
//! host built from Go modules, and our provider `dock`. `packaging/pulumi-image/Dockerfile` puts them together. The image
//! carries the digest of everything as a label, by which a second run finds that there is nothing to do.

mod cache;
mod engine;
pub(crate) mod packaged;
mod parts;
mod recipe;
mod tools;
mod watch;

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use crate::sh;
use cache::Cache;
use recipe::Recipe;

/// How to make the image.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Make every part anew, also what is cached: for Debian's newest packages.
    pub(crate) force: bool,
}

/// The image that is in the engine now.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Its name, `longshore/pulumi:<CLI version>`.
    pub(crate) reference: String,
    /// The engine had it already.
    pub(crate) cached: bool,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// Makes sure that the engine has the image of this checkout.
pub(crate) fn run(options: Options) -> anyhow::Result<Image> {
    let began = now();
    let recipe = Recipe::load(&sh::root().join("packaging/pulumi-image"), &engine::architecture()?)?;
    let reference = format!("longshore/pulumi:{}", recipe.cli);
    let cached = !options.force && engine::has(&reference, &recipe.digests.image)?;
    if !cached {
        make(&recipe, &reference, options.force).with_context(|| format!("{reference} could not be made"))?;
    }
    Ok(Image { reference, cached, seconds: began.elapsed().as_secs_f64() })
}

/// Makes the parts that are not cached, and the image of them.
fn make(recipe: &Recipe, reference: &str, force: bool) -> anyhow::Result<()> {
    println!("making {reference}; what it is made of is kept in {}", Cache::folder()?.display());
    let cache = Cache::open()?;
    let wanted = |kind: &str, digest: &str| force || !cache.has(kind, digest);
    // Before minutes are spent on one part, it is known that the others can be made too.
    if wanted("cli", &recipe.digests.cli) || wanted("dock", &recipe.digests.dock) {
        tools::go(&recipe.go)?;
    }
    if wanted("base", &recipe.digests.base) {
        tools::mmdebstrap()?;
    }
    let get =
        |kind: &str, digest: &str, part: &dyn Fn(&Path) -> anyhow::Result<()>| cache.get(kind, digest, force, part);
    let base = get("base", &recipe.digests.base, &|dir| parts::base(recipe, dir))?;
    let cli = get("cli", &recipe.digests.cli, &|dir| parts::cli(recipe, dir))?;
    let dock = get("dock", &recipe.digests.dock, &|dir| parts::dock(recipe, dir))?;
    let context = cache.scratch("context")?;
    parts::context(recipe, &parts::Made { base, cli, dock }, &context)?;
    engine::build(&context, reference, &recipe.digests.image)
}

/// The one place here that reads the clock.
#[expect(clippy::disallowed_methods, reason = "a command of the repository tells its user how long it took")]
fn now() -> Instant {
    Instant::now()
}
