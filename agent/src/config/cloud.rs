//! The cloud that this host is in, as it is written and checked.

use std::time::Duration;

use longshore_cloud::Endpoint;
use serde::Deserialize;

use super::span::Span;

/// What is watched and done because this host is a cloud's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloud {
    /// Whose it is.
    pub provider: Provider,
    /// AWS: the group's hook for instances that terminate, which is kept alive until no job is left.
    pub lifecycle_hook: Option<String>,
    /// AWS: that hook's heartbeat timeout, for when the group does not tell.
    pub hook_timeout: Duration,
    /// AWS: protect the instance from scale-in while it has jobs.
    pub scale_in_protection: bool,
    /// AWS: drain when a spot instance is more likely than others to be interrupted.
    pub drain_on_rebalance: bool,
    /// Azure: say that an event may begin when no job is left.
    pub acknowledge_events: bool,
    /// Between two looks.
    pub poll_interval: Duration,
    /// What a tool has at least between the interrupt and its end, when the machine leaves that much.
    pub save_time: Duration,
    /// What log and result have after that.
    pub ship_time: Duration,
    /// Where the metadata service is, other than usual.
    pub metadata_endpoint: Option<Endpoint>,
    /// Where the scaling group's API is, other than usual.
    pub api_endpoint: Option<Endpoint>,
}

/// A cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// None: nothing is watched.
    #[default]
    None,
    /// Amazon Web Services.
    Aws,
    /// Google Cloud.
    Gcp,
    /// Microsoft Azure.
    Azure,
}

impl Provider {
    /// Whether this program was built with what that cloud needs.
    const fn is_built(self) -> bool {
        match self {
            Self::None => true,
            Self::Aws => cfg!(feature = "aws"),
            Self::Gcp => cfg!(feature = "gcp"),
            Self::Azure => cfg!(feature = "azure"),
        }
    }
}

impl Default for Cloud {
    fn default() -> Self {
        Self {
            provider: Provider::None,
            lifecycle_hook: None,
            hook_timeout: Duration::from_secs(300),
            scale_in_protection: false,
            drain_on_rebalance: true,
            acknowledge_events: true,
            poll_interval: Duration::from_secs(5),
            save_time: Duration::from_secs(60),
            ship_time: Duration::from_secs(10),
            metadata_endpoint: None,
            api_endpoint: None,
        }
    }
}

/// [`Cloud`] with every field optional, so that sources can be laid over each other.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PartCloud {
    provider: Option<Provider>,
    lifecycle_hook: Option<String>,
    hook_timeout: Option<Span>,
    scale_in_protection: Option<bool>,
    drain_on_rebalance: Option<bool>,
    acknowledge_events: Option<bool>,
    poll_interval: Option<Span>,
    save_time: Option<Span>,
    ship_time: Option<Span>,
    metadata_endpoint: Option<String>,
    api_endpoint: Option<String>,
}

impl PartCloud {
    /// This source laid over a weaker one.
    pub(super) fn over(self, weaker: Self) -> Self {
        Self {
            provider: self.provider.or(weaker.provider),
            lifecycle_hook: self.lifecycle_hook.or(weaker.lifecycle_hook),
            hook_timeout: self.hook_timeout.or(weaker.hook_timeout),
            scale_in_protection: self.scale_in_protection.or(weaker.scale_in_protection),
            drain_on_rebalance: self.drain_on_rebalance.or(weaker.drain_on_rebalance),
            acknowledge_events: self.acknowledge_events.or(weaker.acknowledge_events),
            poll_interval: self.poll_interval.or(weaker.poll_interval),
            save_time: self.save_time.or(weaker.save_time),
            ship_time: self.ship_time.or(weaker.ship_time),
            metadata_endpoint: self.metadata_endpoint.or(weaker.metadata_endpoint),
            api_endpoint: self.api_endpoint.or(weaker.api_endpoint),
        }
    }

    pub(super) fn check(self) -> Result<Cloud, (&'static str, String)> {
        let default = Cloud::default();
        let endpoint = |field, text: Option<String>| {
            text.map(|text| text.parse::<Endpoint>().map_err(|error| (field, error.to_string()))).transpose()
        };
        let span = |span: Option<Span>, default: Duration| span.map_or(default, |span| span.0);
        let provider = self.provider.unwrap_or_default();
        if !provider.is_built() {
            return Err(("cloud.provider", "this program was built without what that cloud needs".to_owned()));
        }
        if provider != Provider::Aws && (self.lifecycle_hook.is_some() || self.scale_in_protection == Some(true)) {
            let field =
                if self.lifecycle_hook.is_some() { "cloud.lifecycle_hook" } else { "cloud.scale_in_protection" };
            return Err((field, "is of use with `provider = \"aws\"` alone".to_owned()));
        }
        if self.lifecycle_hook.as_ref().is_some_and(|name| name.is_empty() || name.len() > 255) {
            return Err(("cloud.lifecycle_hook", "has to be the name of a hook".to_owned()));
        }
        let cloud = Cloud {
            provider,
            lifecycle_hook: self.lifecycle_hook,
            hook_timeout: span(self.hook_timeout, default.hook_timeout),
            scale_in_protection: self.scale_in_protection.unwrap_or(default.scale_in_protection),
            drain_on_rebalance: self.drain_on_rebalance.unwrap_or(default.drain_on_rebalance),
            acknowledge_events: self.acknowledge_events.unwrap_or(default.acknowledge_events),
            poll_interval: span(self.poll_interval, default.poll_interval),
            save_time: span(self.save_time, default.save_time),
            ship_time: span(self.ship_time, default.ship_time),
            metadata_endpoint: endpoint("cloud.metadata_endpoint", self.metadata_endpoint)?,
            api_endpoint: endpoint("cloud.api_endpoint", self.api_endpoint)?,
        };
        let within = |field, is: Duration, least: u64, most: u64| {
            let fits = (Duration::from_millis(least)..=Duration::from_millis(most)).contains(&is);
            if fits { Ok(()) } else { Err((field, format!("{is:?} is not in {least} to {most} ms"))) }
        };
        within("cloud.poll_interval", cloud.poll_interval, 50, 60_000)?;
        within("cloud.hook_timeout", cloud.hook_timeout, 1_000, 7_200_000)?;
        within("cloud.save_time", cloud.save_time, 0, 3_600_000)?;
        within("cloud.ship_time", cloud.ship_time, 0, 600_000)?;
        Ok(cloud)
    }
}
