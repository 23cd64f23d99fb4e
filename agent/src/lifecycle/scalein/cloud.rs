//! The clouds: what is looked at, and how they are told something.

use longshore_core::time::Timestamp;

use super::decide::{Call, Timeouts};
use super::notice::Look;
use crate::config;

/// The cloud of this machine.
#[derive(Debug)]
pub(super) enum Cloud {
    #[cfg(feature = "aws")]
    Aws(Box<aws::Aws>),
    #[cfg(feature = "gcp")]
    Gcp(longshore_cloud::gcp::Metadata),
    #[cfg(feature = "azure")]
    Azure(azure::Azure),
}

/// What came of a call.
pub(super) type Outcome = Result<Option<Timeouts>, String>;

impl Cloud {
    /// `None`: nothing is to be watched.
    pub(super) fn of(config: &config::Cloud) -> Option<Self> {
        match config.provider {
            config::Provider::None => None,
            #[cfg(feature = "aws")]
            config::Provider::Aws => Some(Self::Aws(Box::new(aws::Aws::new(config)))),
            #[cfg(feature = "gcp")]
            config::Provider::Gcp => {
                let endpoint = place(config, longshore_cloud::gcp::ENDPOINT)?;
                Some(Self::Gcp(longshore_cloud::gcp::Metadata::new(endpoint)))
            }
            #[cfg(feature = "azure")]
            config::Provider::Azure => Some(Self::Azure(azure::Azure::new(config)?)),
            // The configuration was checked: what is not built in is refused there.
            #[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure")))]
            _ => None,
        }
    }

    /// Looks at everything, each by itself.
    pub(super) async fn look(&self) -> Vec<Look> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(aws) => aws.look().await,
            #[cfg(feature = "gcp")]
            Self::Gcp(metadata) => {
                use super::notice::{Source, gcp};
                let preempted = metadata.preempted().await.map(gcp::preempted).map_err(|error| error.full());
                let maintenance = metadata.maintenance().await.map(gcp::maintenance).map_err(|error| error.full());
                vec![(Source::Preempted, preempted), (Source::Maintenance, maintenance)]
            }
            #[cfg(feature = "azure")]
            Self::Azure(azure) => vec![(super::notice::Source::Events, azure.look().await)],
        }
    }

    /// Tells the cloud something.
    pub(super) async fn call(&self, call: &Call, now: Timestamp) -> Outcome {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(aws) => aws.call(call, now).await.map_err(|error| error.full()),
            #[cfg(feature = "gcp")]
            Self::Gcp(_) => Ok(None),
            #[cfg(feature = "azure")]
            Self::Azure(azure) => azure.call(call).await.map(|()| None).map_err(|error| error.full()),
        }
    }
}

/// The configured metadata endpoint, or the usual one.
fn place(config: &config::Cloud, usual: &str) -> Option<longshore_cloud::Endpoint> {
    config.metadata_endpoint.clone().or_else(|| usual.parse().ok())
}

#[cfg(feature = "aws")]
pub(super) mod aws {
    use longshore_cloud::aws::AutoScaling;
    use longshore_cloud::imds::{self, Imds};
    use longshore_cloud::{Endpoint, Error};
    use longshore_core::time::Timestamp;
    use tokio::sync::OnceCell;

    use super::super::decide::{Call, Timeouts};
    use super::super::notice::{Look, Source, aws};
    use crate::config;

    /// Who this instance is, once that is known.
    #[derive(Debug)]
    struct Place {
        instance: String,
        api: AutoScaling,
    }

    #[derive(Debug)]
    pub(in super::super) struct Aws {
        imds: Imds,
        api_endpoint: Option<Endpoint>,
        hook: Option<String>,
        rebalance: bool,
        place: OnceCell<Place>,
        group: OnceCell<String>,
    }

    impl Aws {
        pub(super) fn new(config: &config::Cloud) -> Self {
            let endpoint = super::place(config, imds::ENDPOINT).unwrap_or_else(|| Endpoint::http("169.254.169.254"));
            Self {
                imds: Imds::new(endpoint),
                api_endpoint: config.api_endpoint.clone(),
                hook: config.lifecycle_hook.clone(),
                rebalance: config.drain_on_rebalance,
                place: OnceCell::new(),
                group: OnceCell::new(),
            }
        }

        pub(super) async fn look(&self) -> Vec<Look> {
            // Who cannot say which instance this is is no metadata service, and is not believed in anything else.
            if let Err(error) = self.place().await {
                return [Source::Spot, Source::Rebalance, Source::Group]
                    .map(|source| (source, Err(error.full())))
                    .into();
            }
            let full = |error: Error| error.full();
            let spot = self.imds.spot_action().await.map(aws::spot).map_err(full);
            let target = self.imds.target_state().await.map_err(full);
            let group = target.map(|target| aws::group(target.as_deref(), self.hook.is_some()));
            let mut looks = vec![(Source::Spot, spot), (Source::Group, group)];
            if self.rebalance {
                looks.push((Source::Rebalance, self.imds.rebalance().await.map(aws::rebalance).map_err(full)));
            }
            looks
        }

        pub(super) async fn call(&self, call: &Call, now: Timestamp) -> Result<Option<Timeouts>, Error> {
            let Place { instance, api } = self.place().await?;
            let who = self.imds.credentials().await?;
            let group = self.group.get_or_try_init(|| async {
                let member = api.member(&who, instance, now).await?;
                let none = || Error::Request {
                    place: "the scaling group's API".to_owned(),
                    what: format!("instance `{instance}` is in no group"),
                };
                member.map(|member| member.group).ok_or_else(none)
            });
            let group = group.await?;
            let hook = (group.as_str(), self.hook.as_deref().unwrap_or_default());
            match call {
                Call::AskHook => {
                    let hook = api.hook(&who, group, hook.1, now).await?;
                    let hook = hook.ok_or_else(|| Error::Request {
                        place: "the scaling group's API".to_owned(),
                        what: format!("group `{group}` has no such hook for instances that terminate"),
                    })?;
                    return Ok(Some(Timeouts { heartbeat: hook.heartbeat_timeout, global: hook.global_timeout }));
                }
                Call::Heartbeat => api.heartbeat(&who, hook, instance, now).await?,
                Call::Complete => api.complete(&who, hook, instance, now).await?,
                Call::Protect(protect) => api.protect(&who, group, instance, *protect, now).await?,
                Call::Acknowledge(_) => {}
            }
            Ok(None)
        }

        async fn place(&self) -> Result<&Place, Error> {
            self.place
                .get_or_try_init(|| async {
                    let (instance, region) = (self.imds.instance_id().await?, self.imds.region().await?);
                    Ok(Place { instance, api: AutoScaling::new(&region, self.api_endpoint.clone()) })
                })
                .await
        }
    }
}

#[cfg(feature = "azure")]
pub(super) mod azure {
    use longshore_cloud::azure::Metadata;
    use longshore_cloud::{Error, azure};
    use tokio::sync::OnceCell;

    use super::super::decide::Call;
    use super::super::notice;
    use crate::config;

    #[derive(Debug)]
    pub(in super::super) struct Azure {
        metadata: Metadata,
        acknowledge: bool,
        name: OnceCell<String>,
    }

    impl Azure {
        pub(super) fn new(config: &config::Cloud) -> Option<Self> {
            let metadata = Metadata::new(super::place(config, azure::ENDPOINT)?);
            Some(Self { metadata, acknowledge: config.acknowledge_events, name: OnceCell::new() })
        }

        pub(super) async fn look(&self) -> Result<Option<notice::Notice>, String> {
            self.found().await.map_err(|error| error.full())
        }

        async fn found(&self) -> Result<Option<notice::Notice>, Error> {
            let name = self.name.get_or_try_init(|| async { Ok(self.metadata.machine().await?.name) }).await?;
            let events = self.metadata.events().await?;
            Ok(notice::azure::first(&events, name, self.acknowledge))
        }

        pub(super) async fn call(&self, call: &Call) -> Result<(), Error> {
            match call {
                Call::Acknowledge(event) => self.metadata.acknowledge(event).await,
                _ => Ok(()),
            }
        }
    }
}
