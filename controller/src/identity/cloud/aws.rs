//! Instance identity documents of AWS.
//!
//! The document says account, region and instance, and is the same for as long as the instance runs: anyone who read it once has it. It
//! says nothing of VPC or role.

use longshore_core::join::{Machine, is_instance};
use longshore_core::time::Timestamp;
use serde::Deserialize;

use super::cms::Signed;
use super::settings::Aws;
use super::{Refused, base64};

/// What a document says, once its signature is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) account: String,
    pub(super) region: String,
    pub(super) instance: String,
    /// When the instance was started.
    pub(super) pending: Timestamp,
}

impl Document {
    pub(super) fn machine(self, role: Option<String>) -> Machine {
        let Self { account, region, instance, .. } = self;
        Machine::Aws { account, region: Some(region), role, vpc: None, instance }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    account_id: String,
    region: String,
    instance_id: String,
    pending_time: String,
}

/// Reads and verifies a document by the certificates of the region that it names.
pub(super) fn read(signed: &str, settings: &Aws) -> Result<Document, Refused> {
    let wrong = |why: String| Refused::Document(why);
    let der = base64(signed)?;
    let signed = Signed::read(&der).map_err(wrong)?;
    let said: Said = serde_json::from_slice(&signed.content)
        .map_err(|_| wrong("its content is no instance identity document".to_owned()))?;
    let Some(keys) = settings.keys.get(&said.region) else {
        let region: String = said.region.chars().take(40).collect();
        return Err(Refused::NotConfigured(format!(
            "there is no certificate of AWS for region `{region}` in `join.aws.certificates`"
        )));
    };
    // A region may have an old and a new one.
    if !keys.iter().any(|key| signed.verify(key).is_ok()) {
        let why = keys.first().and_then(|key| signed.verify(key).err()).unwrap_or_default();
        return Err(wrong(format!("{why} (AWS in `{}`)", said.region)));
    }
    if !is_instance(&said.instance_id) {
        return Err(wrong("it names no instance".to_owned()));
    }
    let pending = said.pending_time.parse().map_err(|_| wrong("its `pendingTime` is no time".to_owned()))?;
    Ok(Document { account: said.account_id, region: said.region, instance: said.instance_id, pending })
}
