//! The network that an instance of AWS is in. No signed document says it, so EC2 is asked with the controller's own credentials.

use longshore_cloud::Endpoint;
use longshore_cloud::aws::{Credentials, Ec2};
use longshore_cloud::imds::{self, Imds};
use longshore_core::time::Timestamp;

use super::Refused;
use super::settings::Aws;

/// What EC2 says of the instance's network; `None`: it is in none, or there is no such instance in the account that is asked.
pub(super) async fn vpc_of(
    settings: &Aws,
    region: &str,
    instance: &str,
    now: Timestamp,
) -> Result<Option<String>, Refused> {
    let failed = |error: longshore_cloud::Error| Refused::Unreachable(format!("AWS EC2 of `{region}`: {error}"));
    let who = credentials(settings).await.map_err(failed)?;
    let found = Ec2::new(region, settings.ec2_endpoint.clone()).instance(&who, instance, now).await.map_err(failed)?;
    Ok(found.filter(|found| matches!(found.state.as_str(), "pending" | "running")).and_then(|found| found.vpc))
}

/// Those of the environment, else those of the controller's own instance.
async fn credentials(settings: &Aws) -> Result<Credentials, longshore_cloud::Error> {
    if let Some(who) = crate::scaler::aws_environment() {
        return Ok(who);
    }
    let usual = || imds::ENDPOINT.parse::<Endpoint>();
    let endpoint = match settings.metadata_endpoint.clone().map_or_else(usual, Ok) {
        Ok(endpoint) => endpoint,
        Err(what) => {
            return Err(longshore_cloud::Error::Request { place: imds::ENDPOINT.to_owned(), what: what.to_string() });
        }
    };
    Imds::new(endpoint).credentials().await
}
