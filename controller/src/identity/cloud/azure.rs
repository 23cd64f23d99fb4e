//! Attested documents of Azure.
//!
//! The document says subscription and machine, and the nonce in ten digits. It says nothing of the resource group.

use jiff::fmt::strtime;
use longshore_core::join::{Machine, is_guid, short_binding};
use longshore_core::time::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use x509_parser::extensions::GeneralName;

use super::cms::Signed;
use super::settings::Azure;
use super::{Refused, base64};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    #[serde(default)]
    nonce: String,
    vm_id: String,
    subscription_id: String,
    time_stamp: Span,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    expires_on: String,
}

fn refused(why: impl Into<String>) -> Refused {
    Refused::Document(why.into())
}

/// Reads and verifies a document.
pub(super) fn read(document: &str, settings: &Azure, bound: &str, now: Timestamp) -> Result<Machine, Refused> {
    if settings.roots.is_empty() {
        return Err(Refused::NotConfigured("there is no root certificate in `join.azure.certificates`".to_owned()));
    }
    let der = base64(document)?;
    let signed = Signed::read(&der).map_err(refused)?;
    let leaf = leaf(&signed)?;
    check_chain(leaf, &signed.certificates, settings, now)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| refused("its certificate is none"))?;
    check_name(&parsed, settings)?;
    signed.verify(&parsed.public_key().subject_public_key.data).map_err(refused)?;
    let said: Said = serde_json::from_slice(&signed.content)
        .map_err(|_| refused("its content is no attested document of a machine"))?;
    if said.nonce != short_binding(bound) {
        return Err(refused("its nonce is not the one of this try"));
    }
    let expires = time(&said.time_stamp.expires_on).ok_or_else(|| refused("its `expiresOn` is no time"))?;
    if expires <= now {
        return Err(refused(format!("it expired at {expires}")));
    }
    let (subscription, instance) = (said.subscription_id.to_ascii_lowercase(), said.vm_id.to_ascii_lowercase());
    if !is_guid(&subscription) || !is_guid(&instance) {
        return Err(refused("it names no machine of a subscription"));
    }
    Ok(Machine::Azure { subscription, instance })
}

/// `11/20/26 22:07:39 -0000`, in UTC.
fn time(text: &str) -> Option<Timestamp> {
    let parsed = strtime::parse("%m/%d/%y %H:%M:%S %z", text).ok()?;
    Some(Timestamp::from_micros(parsed.to_timestamp().ok()?.as_microsecond()))
}

/// The certificate that the signer names, or the only one.
fn leaf<'a>(signed: &Signed<'a>) -> Result<&'a [u8], Refused> {
    let named = |der: &&&'a [u8]| {
        let Some((issuer, serial)) = signed.signer else { return false };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(der) else { return false };
        parsed.issuer().as_raw() == issuer && parsed.raw_serial() == serial
    };
    signed.certificates.iter().find(named).copied().ok_or_else(|| refused("the signer's certificate is not in it"))
}

fn check_chain(leaf: &[u8], others: &[&[u8]], settings: &Azure, now: Timestamp) -> Result<(), Refused> {
    let anchors: Vec<_> =
        settings.roots.iter().filter_map(|root| webpki::anchor_from_trusted_cert(root).ok()).collect();
    let mut between: Vec<CertificateDer<'_>> = settings.intermediates.clone();
    between.extend(others.iter().map(|der| CertificateDer::from(*der)));
    let seconds = u64::try_from(now.as_micros() / 1_000_000).unwrap_or(0);
    let leaf = CertificateDer::from(leaf);
    let checked = webpki::EndEntityCert::try_from(&leaf).and_then(|leaf| {
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let usage = webpki::KeyUsage::server_auth();
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &between, at, usage, None, None).map(drop)
    });
    checked.map_err(|error| {
        refused(format!(
            "its certificate does not lead to a root of `join.azure.certificates` ({error}); an intermediate one has to stand there too"
        ))
    })
}

/// Azure signs in the name of `metadata.azure.com` or of a name below it.
fn check_name(certificate: &x509_parser::certificate::X509Certificate<'_>, settings: &Azure) -> Result<(), Refused> {
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let others = certificate.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    let others = others.into_iter().flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let wanted = settings.name.as_str();
    let fits = |name: &str| name == wanted || name.strip_suffix(wanted).is_some_and(|rest| rest.ends_with('.'));
    if common.chain(others).any(fits) {
        return Ok(());
    }
    Err(refused(format!("its certificate is not for `{wanted}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_azure_writes_them() {
        let read = time("11/20/26 22:07:39 -0000").unwrap();
        assert_eq!(read.to_string(), "2026-11-20T22:07:39.000Z");
        assert!(time("2026-11-20T22:07:39Z").is_none() && time("").is_none());
    }
}
