//! What machines of clouds are verified against.

use std::time::Duration;

use longshore_core::join::is_region;

use super::{Error, check_range, field, file};
use crate::identity::cloud::Settings;

pub(super) fn check(file: file::Join) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for (region, path) in &file.aws.certificates {
        if !is_region(region) {
            return Err(field("join.aws.certificates", format!("`{region}` is no region of AWS as in `eu-central-1`")));
        }
        settings.aws.add_region(region, path).map_err(|error| field("join.aws.certificates", error.to_string()))?;
    }
    for path in &file.azure.certificates {
        settings.azure.add(path).map_err(|error| field("join.azure.certificates", error.to_string()))?;
    }
    if !file.azure.certificates.is_empty() && settings.azure.roots.is_empty() {
        return Err(field("join.azure.certificates", "none of them is a root, that is one that signed itself"));
    }
    if let Some(name) = file.azure.name {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if !name.contains('.') || name.starts_with('.') || !name.chars().all(good) {
            return Err(field("join.azure.name", format!("`{name}` is no host name as in `metadata.azure.com`")));
        }
        settings.azure.name = name;
    }
    if let Some(age) = file.aws.document_age {
        check_range("join.aws.document_age", age.0, Duration::from_secs(60), Duration::from_secs(24 * 3_600))?;
        settings.aws.document_age = age.0;
    }
    settings.aws.sts_endpoint = file.aws.sts_endpoint.map(|url| address("join.aws.sts_endpoint", url)).transpose()?;
    let endpoint = |name, url: Option<String>| url.map(|url| to_endpoint(name, &url)).transpose();
    settings.aws.ec2_endpoint = endpoint("join.aws.ec2_endpoint", file.aws.ec2_endpoint)?;
    settings.aws.metadata_endpoint = endpoint("join.aws.metadata_endpoint", file.aws.metadata_endpoint)?;
    if let Some(url) = file.gcp.jwks_url {
        settings.gcp.jwks_url = address("join.gcp.jwks_url", url)?;
    }
    settings.gcp.issuer = file.gcp.issuer.unwrap_or(settings.gcp.issuer);
    Ok(settings)
}

fn to_endpoint(name: &'static str, url: &str) -> Result<longshore_cloud::Endpoint, Error> {
    url.parse().map_err(|error: longshore_cloud::InvalidEndpoint| field(name, error.to_string()))
}

fn address(name: &'static str, url: String) -> Result<String, Error> {
    let good = url.parse::<axum::http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if good { Ok(url) } else { Err(field(name, format!("`{url}` is no address as in `https://example.com/keys`"))) }
}
