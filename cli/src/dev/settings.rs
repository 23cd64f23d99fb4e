//! The configuration files of the two children, written at each start.

use std::fmt::Write as _;
use std::path::Path;

use super::layout::Layout;
use super::ports::Ports;

const HEAD: &str = "# Written by `longshore dev` at each start: changes are lost.\n";

/// The agent can be away for long, since `dev` does not run all the time, and still be known when it comes back.
const VALIDITY: &str = "certificate_validity = \"90d\"\n";

/// `controller.toml`
pub(super) fn controller(layout: &Layout, ports: Ports) -> String {
    format!(
        "{HEAD}data_dir = {}\nshutdown_grace = \"2s\"\n\n[api]\nlisten = \"127.0.0.1:{}\"\n\n[agents]\nlisten = \"127.0.0.1:{}\"\n{VALIDITY}",
        path(&layout.controller_dir()),
        ports.api,
        ports.agents
    )
}

/// The ports that an earlier `controller.toml` names.
pub(super) fn kept_ports(text: &str) -> Option<Ports> {
    let table: toml::Table = text.parse().ok()?;
    let port = |section: &str| table.get(section)?.get("listen")?.as_str()?.rsplit_once(':')?.1.parse().ok();
    Some(Ports { api: port("api")?, agents: port("agents")? })
}

/// `agent.toml`
pub(super) fn agent(layout: &Layout, ports: Ports, slots: u16, docker: &Path) -> String {
    let mut text = HEAD.to_owned();
    let lines = [
        ("controller", quoted(&format!("https://127.0.0.1:{}", ports.agents))),
        ("ca_file", path(&layout.ca_file())),
        ("state_dir", path(&layout.agent_dir())),
        ("name", quoted("dev")),
        ("slots", slots.to_string()),
        // The agent ends at once and leaves its containers running; the next start finds them.
        ("drain_timeout", quoted("0s")),
        // The jobs are of whoever sits at this machine.
        ("metadata", quoted("allowed")),
    ];
    for (key, value) in lines {
        let _never_fails = writeln!(text, "{key} = {value}");
    }
    let _never_fails = write!(
        text,
        "\n[docker]\nsocket = {}\n\n[[mounts]]\nname = \"state\"\nsource = {}\ntarget = \"/state\"\nread_only = false\n",
        path(docker),
        path(&layout.state_dir())
    );
    text
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A TOML basic string. Its escapes are those of JSON, but for DEL, which TOML wants escaped as well.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_back_and_names_are_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a \"b\"\\\u{7f}é\n");
        let layout = Layout::open(&odd).unwrap();
        let ports = Ports { api: 1024, agents: 65535 };
        let text = controller(&layout, ports);
        assert_eq!(kept_ports(&text), Some(ports));
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["data_dir"].as_str(), layout.controller_dir().to_str());
        let table: toml::Table = agent(&layout, ports, 3, Path::new("/run/x.sock")).parse().unwrap();
        assert_eq!(table["mounts"][0]["source"].as_str(), layout.state_dir().to_str());
        assert_eq!(table["slots"].as_integer(), Some(3));
    }

    #[test]
    fn a_file_that_is_something_else_has_no_ports() {
        for text in
            ["", "[api]\nlisten = 3\n", "[api]\nlisten = \"127.0.0.1:x\"\n[agents]\nlisten = \"127.0.0.1:1\"\n", "{"]
        {
            assert_eq!(kept_ports(text), None, "{text}");
        }
    }
}
