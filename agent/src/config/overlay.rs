//! Settings from the environment: `LONGSHORE_AGENT__SECTION__KEY=value`.

use serde::Deserialize as _;
use toml::{Table, Value};

use super::file::File;

/// What each variable's name starts with.
const PREFIX: &str = "LONGSHORE_AGENT__";
/// Beside `LONGSHORE_LOG`, which says what is logged.
const LOG_FORMAT: &str = "LONGSHORE_LOG_FORMAT";

/// All settings of the environment, or the variable that is wrong and why.
pub(super) fn read(environment: impl Iterator<Item = (String, String)>) -> Result<File, (String, String)> {
    let mut all = File::default();
    for (variable, text) in environment {
        let path = match variable.as_str() {
            LOG_FORMAT => "LOG__FORMAT",
            _ => match variable.strip_prefix(PREFIX) {
                Some(path) => path,
                None => continue,
            },
        };
        match one(path, &text) {
            Ok(file) => all = file.over(all),
            Err(message) => return Err((variable, message)),
        }
    }
    Ok(all)
}

/// One variable as a configuration that holds nothing else. Its text is taken as a TOML value where that fits, else as a string.
fn one(path: &str, text: &str) -> Result<File, String> {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut table| table.remove("value"));
    let string = Value::String(text.to_owned());
    match parsed {
        Some(value) => deserialize(path, value).or_else(|message| deserialize(path, string).map_err(|_| message)),
        None => deserialize(path, string),
    }
}

fn deserialize(path: &str, value: Value) -> Result<File, String> {
    let nested = path.rsplit("__").fold(value, |inner, key| {
        let mut table = Table::new();
        table.insert(key.to_ascii_lowercase(), inner);
        Value::Table(table)
    });
    File::deserialize(nested).map_err(|err| err.message().to_owned())
}
