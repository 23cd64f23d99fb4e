//! A fake scaling group: real agent processes, each with a fake instance's metadata and API, that come and go as machines do.
//!
//! Times are a sixth of the vendors': a spot notice of 120 s is one of 20 s here, and one of 30 s is one of 10 s.

use longshore_cloud_fakes::Aws;
use nix::sys::signal::Signal;

use crate::docker::{docker, remove_leftovers};
use crate::fleet::Fleet;
use crate::process::{run, seconds};

/// What a tool has to save its state, and what log and result have after it.
const TIMES: &str = "save_time = \"4s\"\nship_time = \"3s\"\n";

/// Heartbeat timeout of the group's hook, in seconds.
const HOOK: u64 = 20;

/// One machine.
#[derive(Debug)]
pub struct Machine {
    /// Name of its agent.
    pub name: String,
    /// Id of its agent.
    pub agent: String,
    /// Its metadata, and its group's API.
    pub cloud: Aws,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    /// It stays.
    Stays,
    /// It is taken away then, whatever its agent does.
    GoesAt(f64),
    /// It is taken away when its hook is done.
    GoesAfterHook,
    /// It is gone.
    Gone,
}

/// The group.
#[derive(Debug)]
pub struct Group {
    /// Controller and agents.
    pub fleet: Fleet,
    /// Every machine that there ever was.
    pub machines: Vec<Machine>,
}

impl Group {
    /// A group without a machine.
    #[must_use]
    pub fn start() -> Self {
        // Longer than a busy machine is silent, and shorter than the drill.
        Self { fleet: Fleet::start_with("10s", ""), machines: Vec::new() }
    }

    /// Adds machines; the agents connect when they do.
    pub fn grow(&mut self, by: usize) {
        for _ in 0..by {
            let number = self.machines.len();
            let name = format!("worker-{number}");
            let cloud = Aws::instance(&format!("i-{:017x}", 0xa000 + number));
            cloud.with(|instance| instance.timeouts = (HOOK, 3_600));
            let place = cloud.endpoint();
            let settings = format!(
                "\n[cloud]\nprovider = \"aws\"\nlifecycle_hook = \"drain\"\nscale_in_protection = true\npoll_interval = \"500ms\"\n{TIMES}\
                 metadata_endpoint = {place:?}\napi_endpoint = {place:?}\n"
            );
            let agent = self.fleet.enrol(&name, "drain_timeout = \"1m\"\n", &settings);
            self.fleet.start_agent(&name);
            self.machines.push(Machine { name, agent, cloud, fate: Fate::Stays });
        }
    }

    /// Machines that are to stay.
    #[must_use]
    pub fn staying(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|index| self.machines[*index].fate == Fate::Stays).collect()
    }

    /// The group scales a machine in; its hook waits for the agent.
    pub fn scale_in(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.cloud.with(|instance| instance.target = Some("Terminated"));
        machine.fate = Fate::GoesAfterHook;
    }

    /// The group scales a machine in, and its API does not answer any more: the hook times out.
    pub fn scale_in_in_vain(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.cloud.with(|instance| {
            instance.api_down = true;
            instance.target = Some("Terminated");
        });
        machine.fate = Fate::GoesAt(seconds() + f64::from(u32::try_from(HOOK).unwrap()));
    }

    /// A spot notice of so many seconds.
    pub fn spot(&mut self, index: usize, notice: u32) {
        let date = format!("+{notice} seconds");
        let at = run(std::process::Command::new("date").args(["-u", "-d", &date, "+%FT%TZ"]), b"").ok();
        let machine = &mut self.machines[index];
        machine.fate = Fate::GoesAt(seconds() + f64::from(notice));
        machine.cloud.with(|instance| instance.spot = Some(("terminate", at.text().trim().to_owned())));
    }

    /// A machine is gone, at once and without a word.
    pub fn vanish(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.fate = Fate::Gone;
        if !self.fleet.has_ended(&machine.name) {
            self.fleet.signal(&machine.name, Signal::SIGKILL);
        }
        remove_leftovers(std::slice::from_ref(&machine.agent));
    }

    /// Takes away the machines whose time has come. What the hook let go had nothing of a job any more.
    pub fn pass(&mut self) {
        for index in 0..self.machines.len() {
            match self.machines[index].fate {
                Fate::GoesAt(at) if seconds() >= at => self.vanish(index),
                Fate::GoesAfterHook if self.machines[index].cloud.with(|instance| instance.completed) => {
                    let filter = format!("label=longshore.agent={}", self.machines[index].agent);
                    assert_eq!(
                        docker(&["ps", "-aq", "--filter", &filter]).ok().text(),
                        "",
                        "a hook was done too early"
                    );
                    self.vanish(index);
                }
                _ => {}
            }
        }
    }
}
