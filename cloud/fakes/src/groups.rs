//! Groups of machines as whoever scales them sees them: of all three clouds, each with the metadata that gives out its credentials.

use serde_json::{Value, json};

use crate::server::{Answer, Asked, Fake};

/// A fake with a group.
pub type Groups = Fake<Group>;

/// Which cloud's API it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An Auto Scaling group, of the name `workers`.
    Aws,
    /// A managed instance group `workers` of the project `shop` in the zone `europe-west3-a`.
    Gcp,
    /// A scale set `workers` of the resource group `shop` in the subscription `sub`.
    Azure,
}

/// What is true of the group.
#[derive(Debug, Clone)]
pub struct Group {
    kind: Kind,
    /// Machines that it is set to have.
    pub capacity: u32,
    /// It refuses to be set to fewer.
    pub min: u32,
    /// It refuses to be set to more.
    pub max: u32,
    /// Names of its machines; of Azure also their ids in the set.
    pub machines: Vec<String>,
    /// Machines that it ended.
    pub ended: Vec<String>,
    /// Everything but the credentials is refused with this status.
    pub refuses: Option<u16>,
    /// What changes it is done, and the connection is cut before the answer.
    pub loses: bool,
}

impl Groups {
    /// A group with these machines.
    #[must_use]
    pub fn of(kind: Kind, machines: &[&str]) -> Self {
        let machines: Vec<String> = machines.iter().map(|name| (*name).to_owned()).collect();
        let capacity = u32::try_from(machines.len()).unwrap();
        let group = Group { kind, capacity, min: 0, max: 50, machines, ended: Vec::new(), refuses: None, loses: false };
        Self::start(group, |group, asked| {
            let before = (group.capacity, group.ended.len());
            let answer = group.answer(asked);
            let lost = group.loses && before != (group.capacity, group.ended.len());
            (!lost).then_some(answer)
        })
    }
}

impl Group {
    fn answer(&mut self, asked: &Asked) -> Answer {
        if let Some(answer) = self.credentials(asked) {
            return answer;
        }
        if let Some(status) = self.refuses {
            return Answer::refuse(status, "the service has a bad day");
        }
        match self.kind {
            Kind::Aws => self.aws(asked),
            Kind::Gcp => self.gcp(asked),
            Kind::Azure => self.azure(asked),
        }
    }

    /// Metadata of the machine that the controller runs on.
    fn credentials(&self, asked: &Asked) -> Option<Answer> {
        let path = asked.path.split('?').next().unwrap_or_default();
        Some(match (self.kind, path) {
            (Kind::Aws, "/latest/api/token") => Answer::ok("AQAEAHh-fake"),
            (Kind::Aws, "/latest/meta-data/iam/security-credentials/") => Answer::ok("scaler"),
            (Kind::Aws, "/latest/meta-data/iam/security-credentials/scaler") => Answer::ok(
                r#"{"Code":"Success","LastUpdated":"2026-11-28T20:00:00Z","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"fake","Token":"fake","Expiration":"2099-01-01T00:00:00Z"}"#,
            ),
            (Kind::Gcp, "/computeMetadata/v1/instance/service-accounts/default/token") => {
                let mut answer = Answer::ok(r#"{"access_token":"ya29.fake","expires_in":3599,"token_type":"Bearer"}"#);
                answer.headers.push(("Metadata-Flavor", "Google".to_owned()));
                answer
            }
            (Kind::Azure, "/metadata/identity/oauth2/token") => Answer::ok(
                r#"{"access_token":"eyJ.fake","expires_in":"86399","resource":"https://management.azure.com/","token_type":"Bearer"}"#,
            ),
            _ => return None,
        })
    }

    fn aws(&mut self, asked: &Asked) -> Answer {
        let parameter = |name: &str| asked.parameter(name).unwrap_or_default();
        let signed = asked.header("authorization").unwrap_or_default().starts_with("AWS4-HMAC-SHA256 Credential=");
        if !signed {
            return error(403, "MissingAuthenticationToken", "Request is missing Authentication Token");
        }
        let action = parameter("Action");
        match action.as_str() {
            "DescribeAutoScalingGroups" if parameter("AutoScalingGroupNames.member.1") == "workers" => self.describe(),
            "DescribeAutoScalingGroups" => {
                done(&action, "<DescribeAutoScalingGroupsResult><AutoScalingGroups/></DescribeAutoScalingGroupsResult>")
            }
            "SetDesiredCapacity" => match parameter("DesiredCapacity").parse() {
                Ok(to) if (self.min..=self.max).contains(&to) => {
                    self.capacity = to;
                    done(&action, "")
                }
                _ => error(400, "ValidationError", "New SetDesiredCapacity value is out of the bounds of the group"),
            },
            "TerminateInstanceInAutoScalingGroup" => {
                let name = parameter("InstanceId");
                if !self.machines.contains(&name) {
                    return error(
                        400,
                        "ValidationError",
                        "Instance Id not found - No managed instance found for instance ID",
                    );
                }
                if self.capacity <= self.min {
                    return error(
                        400,
                        "ValidationError",
                        "Terminating instance without replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.",
                    );
                }
                self.end(&name);
                done(
                    &action,
                    "<TerminateInstanceInAutoScalingGroupResult><Activity><StatusCode>InProgress</StatusCode></Activity></TerminateInstanceInAutoScalingGroupResult>",
                )
            }
            _ => error(400, "InvalidAction", "this fake does not know it"),
        }
    }

    fn describe(&self) -> Answer {
        let member = |name: &String| {
            format!(
                "<member><InstanceId>{name}</InstanceId><AvailabilityZone>eu-west-1a</AvailabilityZone>\
                 <LifecycleState>InService</LifecycleState><HealthStatus>Healthy</HealthStatus></member>"
            )
        };
        let instances: String = self.machines.iter().map(member).collect();
        done(
            "DescribeAutoScalingGroups",
            &format!(
                "<DescribeAutoScalingGroupsResult><AutoScalingGroups><member><AutoScalingGroupName>workers</AutoScalingGroupName>\
                 <MinSize>{}</MinSize><MaxSize>{}</MaxSize><DesiredCapacity>{}</DesiredCapacity>\
                 <Instances>{instances}</Instances></member></AutoScalingGroups></DescribeAutoScalingGroupsResult>",
                self.min, self.max, self.capacity
            ),
        )
    }

    fn gcp(&mut self, asked: &Asked) -> Answer {
        const PATH: &str = "/compute/v1/projects/shop/zones/europe-west3-a/instanceGroupManagers/workers";
        if asked.header("authorization") != Some("Bearer ya29.fake") {
            return Answer::refuse(
                401,
                r#"{"error":{"code":401,"message":"Request had invalid authentication credentials."}}"#,
            );
        }
        let operation =
            r#"{"kind":"compute#operation","id":"1","name":"operation-1","operationType":"resize","status":"RUNNING"}"#;
        let path = asked.path.split('?').next().unwrap_or_default();
        match (asked.method.as_str(), path.strip_prefix(PATH).unwrap_or("?")) {
            ("GET", "") => Answer::ok(
                json!({ "kind": "compute#instanceGroupManager", "name": "workers", "targetSize": self.capacity })
                    .to_string(),
            ),
            ("POST", "/listManagedInstances") => {
                let url = |name: &String| json!({ "instance": format!("https://www.googleapis.com/compute/v1/projects/shop/zones/europe-west3-a/instances/{name}"), "instanceStatus": "RUNNING", "currentAction": "NONE" });
                let mut all: Vec<Value> = self.machines.iter().map(url).collect();
                // One that is being made has no URL yet.
                all.push(json!({ "currentAction": "CREATING" }));
                Answer::ok(json!({ "managedInstances": all }).to_string())
            }
            ("POST", "/resize") => match asked.parameter("size").and_then(|size| size.parse().ok()) {
                Some(to) => {
                    self.capacity = to;
                    Answer::ok(operation)
                }
                None => Answer::refuse(400, "size"),
            },
            ("POST", "/deleteInstances") => {
                let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
                for path in body["instances"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    let Some(name) = path.strip_prefix("zones/europe-west3-a/instances/") else {
                        return Answer::refuse(400, "Invalid value for field 'instances'");
                    };
                    self.end(name);
                }
                Answer::ok(operation)
            }
            _ => Answer::refuse(404, r#"{"error":{"code":404,"message":"was not found"}}"#),
        }
    }

    fn azure(&mut self, asked: &Asked) -> Answer {
        const PATH: &str =
            "/subscriptions/sub/resourceGroups/shop/providers/Microsoft.Compute/virtualMachineScaleSets/workers";
        if asked.header("authorization") != Some("Bearer eyJ.fake") {
            return Answer::refuse(
                401,
                r#"{"error":{"code":"AuthenticationFailed","message":"Authentication failed."}}"#,
            );
        }
        let path = asked.path.split('?').next().unwrap_or_default();
        if asked.parameter("api-version").is_none() {
            return Answer::refuse(400, r#"{"error":{"code":"MissingApiVersionParameter"}}"#);
        }
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let set = |capacity: u32| json!({ "name": "workers", "location": "westeurope", "sku": { "name": "Standard_D4s_v5", "tier": "Standard", "capacity": capacity } });
        match (asked.method.as_str(), path.strip_prefix(PATH).unwrap_or("?")) {
            ("GET", "") => Answer::ok(set(self.capacity).to_string()),
            ("PATCH", "") => match (body["sku"]["name"].as_str(), body["sku"]["capacity"].as_u64()) {
                (Some("Standard_D4s_v5"), Some(to)) => {
                    self.capacity = u32::try_from(to).unwrap_or(0);
                    Answer::ok(set(self.capacity).to_string())
                }
                _ => Answer::refuse(400, r#"{"error":{"code":"InvalidParameter"}}"#),
            },
            ("GET", "/virtualMachines") => {
                let machine = |(at, name): (usize, &String)| {
                    json!({ "instanceId": at.to_string(), "name": format!("workers_{at}"),
                        "properties": { "vmId": format!("00000000-0000-0000-0000-00000000000{at}"), "osProfile": { "computerName": name } } })
                };
                let value: Vec<Value> = self.machines.iter().enumerate().map(machine).collect();
                Answer::ok(json!({ "value": value }).to_string())
            }
            ("POST", "/delete") => {
                let ids = body["instanceIds"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let names: Vec<String> =
                    ids.filter_map(|id| self.machines.get(id.parse::<usize>().ok()?).cloned()).collect();
                for name in names {
                    self.end(&name);
                }
                Answer { status: 202, ..Answer::ok("") }
            }
            _ => Answer::refuse(404, r#"{"error":{"code":"ResourceNotFound"}}"#),
        }
    }

    fn end(&mut self, name: &str) {
        if self.machines.iter().any(|other| other == name) {
            self.machines.retain(|other| other != name);
            self.capacity = self.capacity.saturating_sub(1);
            self.ended.push(name.to_owned());
        }
    }
}

fn done(action: &str, result: &str) -> Answer {
    Answer::ok(format!(
        "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">{result}\
         <ResponseMetadata><RequestId>7c6e177f-f082-11e1-ac58-3714bEXAMPLE</RequestId></ResponseMetadata></{action}Response>"
    ))
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::refuse(
        status,
        format!(
            "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error><RequestId>fake</RequestId></ErrorResponse>"
        ),
    )
}
