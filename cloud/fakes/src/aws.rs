//! An EC2 instance's metadata (IMDSv2) and the Auto Scaling API of its group.

use crate::server::{Answer, Asked, Fake};

/// A fake with a machine.
pub type Aws = Fake<AwsMachine>;

/// The role's public half of the key.
const KEY: &str = "ASIAFAKEFAKEFAKEFAKE";
const HOOK: &str = "drain";
const GROUP: &str = "workers";

/// What is true of the machine, and what its group was told.
#[derive(Debug, Clone)]
pub struct AwsMachine {
    /// `i-...`.
    pub instance: String,
    /// `spot/instance-action`: action and time.
    pub spot: Option<(&'static str, String)>,
    /// `events/recommendations/rebalance`: time.
    pub rebalance: Option<String>,
    /// `autoscaling/target-lifecycle-state`.
    pub target: Option<&'static str>,
    /// The hook's own timeouts in seconds: heartbeat, global.
    pub timeouts: (u64, u64),
    /// The group protects it from scale-in.
    pub protected: bool,
    /// The hook was completed.
    pub completed: bool,
    /// Heartbeats that came.
    pub heartbeats: u32,
    /// State and network, as EC2 has them.
    pub placed: (&'static str, Option<String>),
    /// The account that EC2 says it is of.
    pub owner: &'static str,
    /// The role may not ask EC2.
    pub ec2_denied: bool,
    /// The API refuses whatever is asked.
    pub api_down: bool,
    /// Every path of the metadata answers this instead.
    pub garbage: Option<String>,
    /// Tokens given out; the last one counts.
    pub tokens: u32,
}

impl Aws {
    /// An instance in service.
    #[must_use]
    pub fn instance(instance: &str) -> Self {
        let machine = AwsMachine {
            instance: instance.to_owned(),
            spot: None,
            rebalance: None,
            target: Some("InService"),
            timeouts: (60, 3_600),
            protected: false,
            completed: false,
            heartbeats: 0,
            placed: ("running", Some("vpc-0123456789abcdef0".to_owned())),
            owner: "111122223333",
            ec2_denied: false,
            api_down: false,
            garbage: None,
            tokens: 0,
        };
        Self::start(machine, |machine, asked| Some(machine.answer(asked)))
    }

    /// Makes the token that was given out last count no more.
    pub fn forget_token(&self) {
        self.with(|machine| machine.tokens += 1);
    }
}

impl AwsMachine {
    fn answer(&mut self, asked: &Asked) -> Answer {
        if asked.path == "/" {
            return self.api(asked);
        }
        if let Some(garbage) = &self.garbage {
            return Answer::ok(garbage.clone());
        }
        let Some(path) = asked.path.strip_prefix("/latest/") else { return Answer::nothing() };
        if path == "api/token" {
            let seconds =
                asked.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse::<u32>().ok());
            if asked.method != "PUT" || seconds.is_none_or(|seconds| !(1..=21_600).contains(&seconds)) {
                return Answer::refuse(400, "bad request");
            }
            self.tokens += 1;
            return Answer::ok(self.token());
        }
        if asked.header("x-aws-ec2-metadata-token") != Some(&self.token()) {
            return Answer::refuse(401, "");
        }
        self.metadata(path)
    }

    fn token(&self) -> String {
        format!("AQAEAFake{:04}==", self.tokens)
    }

    fn metadata(&self, path: &str) -> Answer {
        let some = |text: Option<String>| text.map_or_else(Answer::nothing, Answer::ok);
        match path {
            "meta-data/instance-id" => Answer::ok(self.instance.clone()),
            "meta-data/placement/region" => Answer::ok("eu-west-1"),
            "meta-data/spot/instance-action" => {
                some(self.spot.as_ref().map(|(action, time)| format!(r#"{{"action": "{action}", "time": "{time}"}}"#)))
            }
            "meta-data/events/recommendations/rebalance" => {
                some(self.rebalance.as_ref().map(|time| format!(r#"{{"noticeTime": "{time}"}}"#)))
            }
            "meta-data/autoscaling/target-lifecycle-state" => some(self.target.map(str::to_owned)),
            "meta-data/iam/security-credentials/" => Answer::ok("worker"),
            "meta-data/iam/security-credentials/worker" => Answer::ok(format!(
                r#"{{"Code":"Success","LastUpdated":"2026-11-28T20:00:00Z","Type":"AWS-HMAC","AccessKeyId":"{KEY}",
                    "SecretAccessKey":"fake","Token":"fake-session","Expiration":"2096-11-29T02:00:00Z"}}"#
            )),
            "dynamic/instance-identity/document" => Answer::ok(format!(
                "{{\n  \"accountId\" : \"123456789012\",\n  \"instanceId\" : \"{}\",\n  \"region\" : \"eu-west-1\"\n}}",
                self.instance
            )),
            "dynamic/instance-identity/pkcs7" | "dynamic/instance-identity/rsa2048" => Answer::ok("ZmFrZQ==\n"),
            _ => Answer::nothing(),
        }
    }

    fn api(&mut self, asked: &Asked) -> Answer {
        if self.api_down {
            return Answer::refuse(503, "<html>Service Unavailable</html>");
        }
        let scope = format!("AWS4-HMAC-SHA256 Credential={KEY}/");
        let signed = asked.header("authorization").is_some_and(|header| {
            let ec2 = header.contains("/ec2/aws4_request, SignedHeaders=")
                && asked.parameter("Version").as_deref() == Some("2016-11-15");
            header.starts_with(&scope)
                && (ec2 || header.contains("/eu-west-1/autoscaling/aws4_request, SignedHeaders="))
        });
        if !signed || asked.header("x-amz-security-token") != Some("fake-session") {
            return error("AccessDenied", "not signed by the role");
        }
        let action = asked.parameter("Action").unwrap_or_default();
        let of = |name: &str, value: &str| asked.parameter(name).as_deref() == Some(value);
        let own =
            of("AutoScalingGroupName", GROUP) && of("LifecycleHookName", HOOK) && of("InstanceId", &self.instance);
        match action.as_str() {
            "DescribeAutoScalingInstances" => self.describe(&action),
            "DescribeInstances" if self.ec2_denied => denied(),
            "DescribeInstances" if of("InstanceId.1", &self.instance) => self.instances(),
            "DescribeInstances" => error("InvalidInstanceID.NotFound", "The instance ID does not exist"),
            "DescribeLifecycleHooks" => self.hooks(&action),
            "RecordLifecycleActionHeartbeat" if own && self.waits() => {
                self.heartbeats += 1;
                done(&action, &format!("<{action}Result/>"))
            }
            "CompleteLifecycleAction" if own && self.waits() && of("LifecycleActionResult", "CONTINUE") => {
                self.completed = true;
                done(&action, &format!("<{action}Result/>"))
            }
            "RecordLifecycleActionHeartbeat" | "CompleteLifecycleAction" => {
                error("ValidationError", "No active Lifecycle Action found with instance ID")
            }
            "SetInstanceProtection" if of("InstanceIds.member.1", &self.instance) => {
                self.protected = of("ProtectedFromScaleIn", "true");
                done(&action, &format!("<{action}Result/>"))
            }
            _ => error("InvalidAction", "this fake does not know it"),
        }
    }

    /// The hook holds the instance.
    fn waits(&self) -> bool {
        self.target == Some("Terminated") && !self.completed
    }

    /// EC2 answers in a form of its own: lists of `item`, nothing around the result.
    fn instances(&self) -> Answer {
        let (state, vpc) = &self.placed;
        let vpc = vpc.as_ref().map(|vpc| format!("<vpcId>{vpc}</vpcId>")).unwrap_or_default();
        Answer::ok(format!(
            "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId><reservationSet><item>\
             <reservationId>r-1</reservationId><ownerId>{}</ownerId><groupSet><item><groupId>sg-1</groupId></item></groupSet><instancesSet><item>\
             <instanceId>{}</instanceId><instanceState><code>16</code><name>{state}</name></instanceState>{vpc}\
             </item></instancesSet></item></reservationSet></DescribeInstancesResponse>",
            self.owner, self.instance
        ))
    }

    fn describe(&self, action: &str) -> Answer {
        let state = if self.waits() { "Terminating:Wait" } else { "InService" };
        done(
            action,
            &format!(
                "<{action}Result><AutoScalingInstances><member><InstanceId>{}</InstanceId>\
                 <AutoScalingGroupName>{GROUP}</AutoScalingGroupName><AvailabilityZone>eu-west-1a</AvailabilityZone>\
                 <LifecycleState>{state}</LifecycleState><HealthStatus>HEALTHY</HealthStatus>\
                 <ProtectedFromScaleIn>{}</ProtectedFromScaleIn></member></AutoScalingInstances></{action}Result>",
                self.instance, self.protected
            ),
        )
    }

    fn hooks(&self, action: &str) -> Answer {
        let (heartbeat, global) = self.timeouts;
        done(
            action,
            &format!(
                "<{action}Result><LifecycleHooks><member><AutoScalingGroupName>{GROUP}</AutoScalingGroupName>\
                 <LifecycleHookName>{HOOK}</LifecycleHookName>\
                 <LifecycleTransition>autoscaling:EC2_INSTANCE_TERMINATING</LifecycleTransition>\
                 <GlobalTimeout>{global}</GlobalTimeout><HeartbeatTimeout>{heartbeat}</HeartbeatTimeout>\
                 <DefaultResult>CONTINUE</DefaultResult></member></LifecycleHooks></{action}Result>"
            ),
        )
    }
}

fn done(action: &str, result: &str) -> Answer {
    Answer::ok(format!(
        "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">{result}\
         <ResponseMetadata><RequestId>7c6e177f-f082-11e1-ac58-3714bEXAMPLE</RequestId></ResponseMetadata></{action}Response>"
    ))
}

/// EC2's own form of a refusal.
fn denied() -> Answer {
    Answer::refuse(
        403,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>UnauthorizedOperation</Code>\
         <Message>You are not authorized to perform this operation.</Message></Error></Errors><RequestID>r</RequestID></Response>",
    )
}

fn error(code: &str, message: &str) -> Answer {
    Answer::refuse(
        400,
        format!(
            "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error><RequestId>fake</RequestId></ErrorResponse>"
        ),
    )
}
