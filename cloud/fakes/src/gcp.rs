//! A Compute Engine instance's metadata.

use crate::server::{Answer, Asked, Fake};

/// A fake with a machine.
pub type Gcp = Fake<GcpMachine>;

/// What is true of the machine.
#[derive(Debug, Clone)]
pub struct GcpMachine {
    /// `instance/preempted`.
    pub preempted: bool,
    /// `instance/maintenance-event`.
    pub maintenance: &'static str,
    /// Every path answers this instead, as no metadata service would.
    pub garbage: Option<String>,
}

impl Gcp {
    /// An instance that is left alone.
    #[must_use]
    pub fn instance() -> Self {
        let machine = GcpMachine { preempted: false, maintenance: "NONE", garbage: None };
        Self::start(machine, |machine, asked| Some(machine.answer(asked)))
    }
}

impl GcpMachine {
    fn answer(&self, asked: &Asked) -> Answer {
        if let Some(garbage) = &self.garbage {
            return Answer::ok(garbage.clone());
        }
        let mut answer = if asked.header("metadata-flavor") == Some("Google") {
            self.metadata(asked)
        } else {
            Answer::refuse(403, "Missing Metadata-Flavor:Google header.")
        };
        answer.headers.push(("Metadata-Flavor", "Google".to_owned()));
        answer
    }

    fn metadata(&self, asked: &Asked) -> Answer {
        let path = asked.path.split('?').next().unwrap_or_default();
        let Some(path) = path.strip_prefix("/computeMetadata/v1/") else { return Answer::nothing() };
        match path {
            "instance/preempted" => Answer::ok(if self.preempted { "TRUE" } else { "FALSE" }),
            "instance/maintenance-event" => Answer::ok(self.maintenance),
            "instance/id" => Answer::ok("4520031799277581759"),
            "instance/name" => Answer::ok("worker-x1f7"),
            "instance/zone" => Answer::ok("projects/987654321/zones/europe-west1-b"),
            "project/project-id" => Answer::ok("shop-workers"),
            "instance/service-accounts/default/token" => {
                Answer::ok(r#"{"access_token":"ya29.fake","expires_in":3599,"token_type":"Bearer"}"#)
            }
            "instance/service-accounts/default/identity" => {
                let audience = asked.parameter("audience").unwrap_or_default();
                if audience.is_empty() {
                    Answer::refuse(400, "non-empty audience parameter required")
                } else {
                    Answer::ok("e30.e30.c2ln")
                }
            }
            _ => Answer::nothing(),
        }
    }
}
