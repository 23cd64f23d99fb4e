//! `longshore dev`: a controller and one agent on this machine, as two child processes in the foreground.
//!
//! Everything lies in one folder (see `layout`), so a second start carries on where the first was. Children that die are
//! started again. When `dev` ends, containers go on; the next start finds them. No secret is in an argument or in the
//! environment of a child: the join token goes by a file that is removed at once.

mod bring_up;
mod child;
mod companion;
mod engine;
mod layout;
mod orphan;
mod ports;
mod settings;

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use longshore_core::secret::Secret;

use crate::args::Dev;
use crate::client::Address;
use crate::commands::Context;
use crate::connect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::signals::Signals;
use bring_up::BringUp;
use child::{Control, Program, supervise};
use layout::Layout;
use ports::Ports;

/// How often a child may die before it was ready, until `dev` gives up.
const MOST_DEATHS: u32 = 5;

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in the folder.
    #[error("`{}` cannot be {what}", path.display())]
    Folder {
        /// For example "created".
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder's name cannot stand in a configuration file.
    #[error("the path `{}` is not UTF-8", .0.display())]
    Name(PathBuf),
    /// The folder holds something else.
    #[error("`{}` holds other files", .0.display())]
    Foreign(PathBuf),
    /// Another one has the folder.
    #[error("another `longshore dev`{} runs on `{}`", pid.map_or_else(String::new, |pid| format!(" (process {pid})")), root.display())]
    Held {
        /// The folder.
        root: PathBuf,
        /// The process that has it.
        pid: Option<u32>,
    },
    /// A program is missing.
    #[error("the program `{name}` is not there, neither {} nor in PATH", beside.as_ref().map_or_else(|| "beside this one".to_owned(), |folder| format!("in `{}`", folder.display())))]
    NoCompanion {
        /// Its name.
        name: &'static str,
        /// The folder of this program.
        beside: Option<PathBuf>,
    },
    /// No ports.
    #[error("no free port on 127.0.0.1")]
    Ports(#[source] io::Error),
    /// Signals or TLS of this process.
    #[error("this process cannot be set up")]
    Process(#[source] io::Error),
    /// The client.
    #[error("the client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// A child does not start.
    #[error("the {name} cannot be started from `{}`", path.display())]
    Start {
        /// Which.
        name: &'static str,
        /// Its program.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A child dies again and again.
    #[error("the {name} died {times} times before it was ready")]
    Dies {
        /// Which.
        name: &'static str,
        /// How often.
        times: u32,
    },
    /// The controller gives no join token.
    #[error("no join token")]
    JoinToken(#[source] crate::client::Error),
    /// Its answer has no such field.
    #[error("the controller's join token comes without `{0}`")]
    NoJoinToken(&'static str),
    /// The agent could not be enrolled.
    #[error("the agent could not be enrolled ({status}): {said}")]
    Enroll {
        /// How the program ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (exit, next) = match &error {
            Error::Held { .. } => (Exit::Usage, "use that one, end it first, or give this one another --data"),
            Error::Foreign(_) => {
                (Exit::Usage, "give --data a folder that is new, empty, or of an earlier `longshore dev`")
            }
            Error::Name(_) | Error::Folder { .. } => (Exit::Usage, "give --data a folder that you can write"),
            Error::NoCompanion { .. } => {
                (Exit::Failed, "build or install the three programs together: `cargo build --release`")
            }
            Error::Dies { .. } | Error::Enroll { .. } => (Exit::Failed, "the lines above say why"),
            _ => (Exit::Failed, "start it again; if it stays so, the lines above say more"),
        };
        Self::of(exit, &error).next(next)
    }
}

/// Runs until a signal comes.
///
/// # Errors
/// [`Failure`] when it does not come up; both children have ended then.
pub async fn run(context: &Context, args: &Dev) -> Result<Exit, Failure> {
    let output = context.output;
    let mut signals = Signals::listen().map_err(Error::Process)?;
    let programs = (companion::find("longshore-controller")?, companion::find("longshore-agent")?);
    let layout = Layout::open(&args.data)?;
    for name in ["agent", "controller"] {
        orphan::end(&layout, name, output).await;
    }
    let docker = engine::socket();
    if let Err(warning) = engine::check(&docker).await {
        output.message(&format!("warning: {warning}"));
    }
    if !layout.admin_token().exists() {
        // A new controller has a new authority: an agent of an older one could never connect.
        layout.forget(&layout.identity());
    }
    let ports = choose_ports(&layout, output)?;
    layout::write(&layout.controller_config(), &settings::controller(&layout, ports))?;
    layout::write(&layout.agent_config(), &settings::agent(&layout, ports, args.slots, &docker))?;
    let controller = program(&layout, "controller", programs.0, "serve", &layout.controller_config());
    let agent = program(&layout, "agent", programs.1, "run", &layout.agent_config());
    let url = format!("http://127.0.0.1:{}", ports.api);
    let address = Address::parse(&url).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;

    let (controller_control, agent_control) = (Control::default(), Control::default());
    controller_control.go.cancel();
    let conduct = async {
        let bring_up = BringUp {
            layout: &layout,
            address,
            controller: &controller,
            agent: &agent,
            agent_control: &agent_control,
            output,
        };
        let result = live(&bring_up, &url, &mut signals).await;
        layout.forget(&layout.env_file());
        end(&agent_control, &mut signals).await;
        end(&controller_control, &mut signals).await;
        result
    };
    let (result, (), ()) = tokio::join!(
        conduct,
        supervise(&controller, &controller_control, output),
        supervise(&agent, &agent_control, output)
    );
    result?;
    output.message("[dev] ended; containers that run go on, and the next start finds them");
    Ok(Exit::Done)
}

/// Comes up, says so, and stays until a signal comes.
async fn live(bring_up: &BringUp<'_>, url: &str, signals: &mut Signals) -> Result<(), Error> {
    let token = tokio::select! {
        token = bring_up.run() => token?,
        _ = signals.next() => return Ok(()),
    };
    let path = bring_up.layout.env_file();
    layout::write(&path, &environment(url, &token))?;
    drop(token);
    // Whoever started it with a closed stdout does not need the text.
    let _nobody_reads = bring_up.output.text(&ready_text(url, &path));
    signals.next().await;
    bring_up.output.message("[dev] ending; once more ends it at once");
    Ok(())
}

/// Ends a child; a further signal is not waited for.
async fn end(control: &Control, signals: &mut Signals) {
    control.stop.cancel();
    tokio::select! {
        () = control.done.cancelled() => {}
        _ = signals.next() => {
            control.force.cancel();
            control.done.cancelled().await;
        }
    }
}

fn program(layout: &Layout, name: &'static str, path: PathBuf, verb: &str, config: &Path) -> Program {
    let args: Vec<OsString> = vec![verb.into(), "--config".into(), config.into(), "--die-with-parent".into()];
    Program { name, path, args, pid_file: layout.pid_file(name), deaths: Cell::new(0), last_code: Cell::new(None) }
}

/// The ports of the last start when they are free, so that what knows the address keeps working.
fn choose_ports(layout: &Layout, output: Output) -> Result<Ports, Error> {
    let kept = std::fs::read_to_string(layout.controller_config()).ok().and_then(|text| settings::kept_ports(&text));
    match kept {
        Some(ports) if ports.are_free() => return Ok(ports),
        Some(ports) => output.message(&format!(
            "warning: something else listens on port {} or {}; this start takes new ones, so read `dev.env` again",
            ports.api, ports.agents
        )),
        None => {}
    }
    Ports::free().map_err(Error::Ports)
}

fn environment(url: &str, token: &Secret) -> String {
    format!("{}={url}\n{}={}\n", connect::URL, connect::TOKEN, token.expose())
}

fn ready_text(url: &str, env_file: &Path) -> String {
    let file = env_file.display().to_string();
    let plain = file.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    let file = if plain { file } else { format!("'{}'", file.replace('\'', "'\\''")) };
    format!(
        "\nLongshore is ready at {url}. Ctrl-C ends it; jobs that run go on.\n\n\
         In another shell:\n  \
         set -a; . {file}; set +a\n  \
         longshore agents\n  \
         longshore apply -f longshore.yaml\n  \
         longshore deploy PROJECT --env dev --wait\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_file_is_what_shells_and_scripts_read() {
        let text = environment("http://127.0.0.1:1", &Secret::new("t0ken".to_owned()));
        assert_eq!(text, "LONGSHORE_URL=http://127.0.0.1:1\nLONGSHORE_TOKEN=t0ken\n");
    }

    #[test]
    fn a_path_with_spaces_can_be_typed() {
        assert!(ready_text("u", Path::new("/tmp/a/dev.env")).contains(". /tmp/a/dev.env;"));
        assert!(ready_text("u", Path::new("/tmp/a b's/dev.env")).contains(". '/tmp/a b'\\''s/dev.env';"));
    }
}
