//! Reads the steps that run no container: approvals, http checks, deployments of other projects.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::flow::{Approval, DeployRelease, Http};
use super::known;
use super::scope::{Place, Scope};
use super::tree::{At, Errors};

pub(super) const APPROVAL: [&str; 4] = ["teams", "needs", "plan", "expires"];
pub(super) const HTTP: [&str; 2] = ["url", "expect"];
pub(super) const EXPECT: [&str; 2] = ["status", "body"];
pub(super) const DEPLOY_RELEASE: [&str; 3] = ["project", "channel", "version"];
/// How many people may be needed.
pub(super) const PEOPLE: RangeInclusive<u32> = 1..=100;
/// Statuses that there are.
pub(super) const STATUSES: RangeInclusive<u32> = 100..=599;
/// Status of an answer that is good when the step does not say.
const DEFAULT_STATUS: u16 = 200;
/// Most teams of an approval.
const MAX_TEAMS: usize = 100;
/// Shortest and longest wait for people.
const EXPIRY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3_600);

/// `approval:`.
pub(super) fn approval(at: &At<'_>, scope: &Scope, errors: &mut Errors) -> Option<Approval> {
    let fields = at.fields(&APPROVAL, errors)?;
    let teams = match fields.get("teams") {
        Some(at) => {
            let teams = known::names(at, MAX_TEAMS, errors);
            if teams.as_ref().is_some_and(Vec::is_empty) {
                at.error("no team could decide: write `teams: [TEAM]`, or leave it out for everyone who may", errors);
            }
            teams
        }
        None => Some(Vec::new()),
    };
    let needs = fields.get("needs").map_or(Some(1), |at| at.number(PEOPLE, errors));
    let plan = match fields.get("plan") {
        Some(at) => at.name(errors).and_then(|name| match scope.check_plan(&name) {
            Ok(()) => Some(Some(name)),
            Err(message) => {
                at.error(message, errors);
                None
            }
        }),
        None => Some(None),
    };
    let expires = fields.get("expires").and_then(|at| at.duration(EXPIRY, errors));
    Some(Approval { teams: teams?, needs: needs?, plan: plan?, expires })
}

/// `http:`.
pub(super) fn http(at: &At<'_>, scope: &Scope, errors: &mut Errors) -> Option<Http> {
    let fields = at.fields(&HTTP, errors)?;
    let url = fields.require("url", "url: https://shop.example.com/health", errors);
    let url = url.and_then(|at| scope.template(at, Place::Url, errors));
    let (mut status, mut body) = (DEFAULT_STATUS, None);
    if let Some(expect) = fields.get("expect").and_then(|at| at.fields(&EXPECT, errors)) {
        let number = expect.get("status").and_then(|at| at.number(STATUSES, errors));
        status = number.and_then(|number| u16::try_from(number).ok()).unwrap_or(DEFAULT_STATUS);
        if let Some(at) = expect.get("body") {
            body = at.text(errors).map(str::to_owned);
            if body.as_ref().is_some_and(String::is_empty) {
                at.error("every answer holds an empty text: leave `body` out, or write what it has to hold", errors);
            }
        }
    }
    Some(Http { url: url?, status, body })
}

/// `deploy-release:`.
pub(super) fn deploy_release(at: &At<'_>, scope: &Scope, errors: &mut Errors) -> Option<DeployRelease> {
    let fields = at.fields(&DEPLOY_RELEASE, errors)?;
    let project = fields.require("project", "project: NAME", errors);
    let name = project.and_then(|at| at.name(errors));
    if let (Some(at), Some(name)) = (project, &name)
        && scope.project.as_ref() == Some(name)
    {
        at.error("a project cannot deploy itself, which would never end: name another one", errors);
    }
    let version = fields.get("version").map(|at| scope.template(at, Place::Version, errors));
    let version = version.map_or(Some(None), |version| version.map(Some));
    let channel = fields.get("channel");
    if let (Some(at), true) = (channel, fields.has("version")) {
        at.error("a release of this version is in one channel only: leave `channel` or `version` out", errors);
    }
    let channel = channel.map_or(Some(None), |at| at.name(errors).map(Some));
    Some(DeployRelease { project: name?, channel: channel?, version: version? })
}
