//! The environment over the file: `LONGSHORE_CONTROLLER__SECTION__FIELD`, and `LONGSHORE_CONTROLLER__FIELD` for what
//! stands in no section. Lists are separated by commas.

use std::str::FromStr;

use super::Error;
use super::file::File;

/// What the names of our variables start with.
const PREFIX: &str = "LONGSHORE_CONTROLLER__";

pub(super) fn overlay(file: &mut File, variables: impl IntoIterator<Item = (String, String)>) -> Result<(), Error> {
    let mut ours: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    ours.sort();
    for (name, value) in ours {
        let key = name.strip_prefix(PREFIX).unwrap_or_default();
        set(file, key, &value).map_err(|message| Error::Variable { name: name.clone(), message })?;
    }
    Ok(())
}

fn set(file: &mut File, key: &str, value: &str) -> Result<(), String> {
    match key {
        "DATA_DIR" => file.data_dir = Some(value.into()),
        "LEASE" => file.lease = Some(value.parse()?),
        "HEARTBEAT" => file.heartbeat = Some(value.parse()?),
        "MAX_DISCONNECTED" => file.max_disconnected = Some(value.parse()?),
        "CANCEL_GRACE" => file.cancel_grace = Some(value.parse()?),
        "SHUTDOWN_GRACE" => file.shutdown_grace = Some(value.parse()?),
        "MAX_PACKAGE_BYTES" => file.max_package_bytes = Some(parse(value, "a number of bytes")?),
        "MAX_ARTIFACT_BYTES" => file.max_artifact_bytes = Some(parse(value, "a number of bytes")?),
        "MAX_STEP_ARTIFACT_BYTES" => file.max_step_artifact_bytes = Some(parse(value, "a number of bytes")?),
        "API__LISTEN" => file.api.listen = Some(parse(value, "an address with a port")?),
        "API__TLS_CERT" => file.api.tls_cert = Some(value.into()),
        "API__TLS_KEY" => file.api.tls_key = Some(value.into()),
        "API__PUBLIC_URL" => file.api.public_url = Some(value.to_owned()),
        "AGENTS__LISTEN" => file.agents.listen = Some(parse(value, "an address with a port")?),
        "AGENTS__NAMES" => file.agents.names = Some(list(value)),
        "AGENTS__CERTIFICATE_VALIDITY" => file.agents.certificate_validity = Some(value.parse()?),
        "CONNECTIONS__HANDSHAKE_TIMEOUT" => file.connections.handshake_timeout = Some(value.parse()?),
        "CONNECTIONS__HANDSHAKES_PER_ADDRESS" => {
            file.connections.handshakes_per_address = Some(parse(value, "a number")?);
        }
        "CONNECTIONS__PER_ADDRESS" => file.connections.per_address = Some(parse(value, "a number")?),
        "CONNECTIONS__IN_ALL" => file.connections.in_all = Some(parse(value, "a number")?),
        "CONNECTIONS__COUNT_LOOPBACK" => {
            file.connections.count_loopback = Some(parse(value, "`true` or `false`")?);
        }
        "AGENTS__EPHEMERAL_SILENCE" => file.agents.ephemeral_silence = Some(value.parse()?),
        "JOIN__AWS__CERTIFICATES" => {
            file.join.aws.certificates = list(value).iter().map(|pair| region(pair)).collect::<Result<_, _>>()?;
        }
        "JOIN__AWS__STS_ENDPOINT" => file.join.aws.sts_endpoint = Some(value.to_owned()),
        "JOIN__AWS__EC2_ENDPOINT" => file.join.aws.ec2_endpoint = Some(value.to_owned()),
        "JOIN__AWS__METADATA_ENDPOINT" => file.join.aws.metadata_endpoint = Some(value.to_owned()),
        "JOIN__AWS__DOCUMENT_AGE" => file.join.aws.document_age = Some(value.parse()?),
        "JOIN__GCP__JWKS_URL" => file.join.gcp.jwks_url = Some(value.to_owned()),
        "JOIN__GCP__ISSUER" => file.join.gcp.issuer = Some(value.to_owned()),
        "JOIN__AZURE__CERTIFICATES" => file.join.azure.certificates = list(value).into_iter().map(Into::into).collect(),
        "JOIN__AZURE__NAME" => file.join.azure.name = Some(value.to_owned()),
        "LOG__LEVEL" => file.log.level = Some(value.to_owned()),
        "LOG__FORMAT" => file.log.format = Some(value.parse()?),
        "SECRETS__KEK_FILE" => file.secrets.kek_file = Some(value.into()),
        "SECRETS__KEK_ENV" => file.secrets.kek_env = Some(value.to_owned()),
        "SECRETS__KEK_COMMAND" => file.secrets.kek_command = Some(list(value)),
        "SECRETS__PREVIOUS_KEK_FILE" => file.secrets.previous_kek_file = Some(value.into()),
        "SECRETS__PREVIOUS_KEK_ENV" => file.secrets.previous_kek_env = Some(value.to_owned()),
        "SECRETS__PREVIOUS_KEK_COMMAND" => file.secrets.previous_kek_command = Some(list(value)),
        "SOURCES__PROTOCOLS" => file.sources.protocols = Some(list(value)),
        "SOURCES__MAX_BYTES" => file.sources.max_bytes = Some(parse(value, "a number of bytes")?),
        "SOURCES__TIMEOUT" => file.sources.timeout = Some(value.parse()?),
        "SOURCES__AT_ONCE" => file.sources.at_once = Some(parse(value, "a number")?),
        "TRACING__ENDPOINT" => file.tracing.endpoint = Some(value.to_owned()),
        "TRACING__SAMPLE" => file.tracing.sample = Some(parse(value, "a number from 0 to 1")?),
        "TRACING__HEADERS_FILE" => file.tracing.headers_file = Some(value.into()),
        "TRACING__CA_FILE" => file.tracing.ca_file = Some(value.into()),
        "SCALING__INTERVAL" => file.scaling.interval = Some(value.parse()?),
        "SCALING__COMMAND_TIMEOUT" => file.scaling.command_timeout = Some(value.parse()?),
        "SCALING__AWS_ENDPOINT" => file.scaling.aws_endpoint = Some(value.to_owned()),
        "SCALING__GCP_ENDPOINT" => file.scaling.gcp_endpoint = Some(value.to_owned()),
        "SCALING__AZURE_ENDPOINT" => file.scaling.azure_endpoint = Some(value.to_owned()),
        "SCALING__METADATA_ENDPOINT" => file.scaling.metadata_endpoint = Some(value.to_owned()),
        _ => return Err("no such field; see docs/controller-config.md for what can be set".to_owned()),
    }
    Ok(())
}

fn region(pair: &str) -> Result<(String, std::path::PathBuf), String> {
    let parts = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not of the form `REGION=FILE`"))?;
    Ok((parts.0.to_owned(), parts.1.into()))
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn parse<T: FromStr>(value: &str, what: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{value}` is not {what}"))
}
