//! What EC2 says of an instance of AWS: the network it is in, which no signed document says, and whether it is no more. It is asked with
//! the controller's own credentials.

use longshore_cloud::Endpoint;
use longshore_cloud::aws::{Credentials, Ec2};
use longshore_cloud::imds::{self, Imds};
use longshore_core::time::Timestamp;

use super::settings::Aws;
use super::{Fate, Refused};

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

/// What became of an instance of an account, as far as EC2 of a region says it.
pub(super) async fn fate_of(
    settings: &Aws,
    (region, account, instance): (&str, &str, &str),
    now: Timestamp,
) -> Result<Fate, longshore_cloud::Error> {
    let who = credentials(settings).await?;
    let found = Ec2::new(region, settings.ec2_endpoint.clone()).instance(&who, instance, now).await?;
    Ok(match found {
        // Whoever asks with the credentials of another account, or in another region, hears the same of an instance that runs.
        None => Fate::NotKnown,
        Some(found) if found.owner.as_deref() != Some(account) => Fate::NotKnown,
        Some(found) if found.state == "terminated" => Fate::Terminated,
        Some(_) => Fate::There,
    })
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
