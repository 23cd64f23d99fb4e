//! An Azure virtual machine's metadata.

use serde_json::{Value, json};

use crate::server::{Answer, Asked, Fake};

/// A fake with a machine.
pub type Azure = Fake<AzureMachine>;

/// What is true of the machine.
#[derive(Debug, Clone, Default)]
pub struct AzureMachine {
    /// Scheduled events.
    pub events: Vec<AzureEvent>,
    /// Ids of the events that were acknowledged.
    pub acknowledged: Vec<String>,
    /// Every path answers this instead.
    pub garbage: Option<String>,
}

/// A scheduled event.
#[derive(Debug, Clone)]
pub struct AzureEvent {
    /// `EventType`.
    pub kind: &'static str,
    /// Whose it is.
    pub machine: &'static str,
    /// `NotBefore`, as in `Mon, 19 Sep 2016 18:29:47 GMT`; empty: it has begun.
    pub not_before: String,
}

impl Azure {
    /// A machine named `workers_1`.
    #[must_use]
    pub fn machine() -> Self {
        Self::start(AzureMachine::default(), |machine, asked| Some(machine.answer(asked)))
    }
}

impl AzureMachine {
    fn answer(&mut self, asked: &Asked) -> Answer {
        if let Some(garbage) = &self.garbage {
            return Answer::ok(garbage.clone());
        }
        if asked.header("metadata") != Some("true") || asked.parameter("api-version").is_none() {
            return Answer::refuse(400, r#"{"error":"Bad request. api-version was not specified in the request"}"#);
        }
        let path = asked.path.split('?').next().unwrap_or_default();
        match (asked.method.as_str(), path) {
            ("GET", "/metadata/scheduledevents") => {
                let events: Vec<Value> = self.events.iter().enumerate().map(|(n, event)| event.json(n)).collect();
                Answer::ok(json!({ "DocumentIncarnation": events.len(), "Events": events }).to_string())
            }
            ("POST", "/metadata/scheduledevents") => {
                let said: Value = serde_json::from_str(&asked.body).unwrap_or_default();
                let Some(id) = said["StartRequests"][0]["EventId"].as_str() else {
                    return Answer::refuse(400, "no event");
                };
                self.acknowledged.push(id.to_owned());
                Answer::ok("")
            }
            ("GET", "/metadata/instance") => Answer::ok(
                json!({ "compute": {
                    "name": "workers_1", "vmId": "13f56399-bd52-4150-9748-7190aae1ff21", "location": "westeurope",
                    "subscriptionId": "8d10da13-8125-4ba9-a717-bf7490507b3d", "resourceGroupName": "shop",
                    "vmScaleSetName": "workers",
                }})
                .to_string(),
            ),
            ("GET", "/metadata/attested/document") => {
                Answer::ok(json!({ "encoding": "pkcs7", "signature": "ZmFrZQ==" }).to_string())
            }
            ("GET", "/metadata/identity/oauth2/token") => Answer::ok(
                json!({ "access_token": "eyJ0.fake", "expires_in": "3599", "token_type": "Bearer" }).to_string(),
            ),
            _ => Answer::nothing(),
        }
    }
}

impl AzureEvent {
    fn json(&self, number: usize) -> Value {
        json!({
            "EventId": format!("602d9444-d2cd-49c7-8624-8643e717100{number}"), "EventType": self.kind,
            "ResourceType": "VirtualMachine", "Resources": [self.machine],
            "EventStatus": if self.not_before.is_empty() { "Started" } else { "Scheduled" },
            "NotBefore": self.not_before, "Description": "", "EventSource": "Platform", "DurationInSeconds": -1,
        })
    }
}
