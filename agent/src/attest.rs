//! What this machine can prove of itself by the cloud that it runs in.
//!
//! Documents come from the metadata service, which is the machine's own; what they are good for stands in core's `join`. Credentials
//! of the machine's role sign one request for one nonce and leave this process in no other form.

use longshore_cloud::aws::{SignedRequest, caller_identity};
use longshore_cloud::imds::Imds;
use longshore_cloud::{Endpoint, Error, azure, gcp, imds};
use longshore_core::join::{audience, short_binding};
use longshore_core::secret::Secret;
use longshore_core::time::Timestamp;

/// The header of a signed request that holds what the proof is bound to.
const NONCE: &str = "x-longshore-nonce";

/// A cloud whose word the controller takes for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Cloud {
    /// Amazon EC2
    Aws,
    /// Google Compute Engine
    Gcp,
    /// Azure virtual machines
    Azure,
}

impl Cloud {
    /// As it is typed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }
}

/// What a machine brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Of AWS.
    Aws {
        /// The instance identity document, signed.
        document: String,
        /// A request that the instance profile's role signed; `None`: the instance has no profile.
        request: Option<SignedRequest>,
    },
    /// Of Google: an identity token.
    Gcp(Secret),
    /// Of Azure: an attested document.
    Azure(String),
}

/// Collects what a machine brings, bound to `binding`; `endpoint` goes over the metadata service's own address.
///
/// # Errors
/// When the metadata service does not answer as it should.
pub async fn prove(
    cloud: Cloud,
    endpoint: Option<&Endpoint>,
    controller: &str,
    binding: &str,
    now: Timestamp,
) -> Result<Proof, Error> {
    let at = |usual: &str| match endpoint {
        Some(endpoint) => Ok(endpoint.clone()),
        None => usual
            .parse::<Endpoint>()
            .map_err(|error| Error::Request { place: usual.to_owned(), what: error.to_string() }),
    };
    match cloud {
        Cloud::Aws => {
            let imds = Imds::new(at(imds::ENDPOINT)?);
            let document = imds.identity_document().await?.rsa2048;
            let request = match imds.role().await? {
                Some(_) => {
                    let (credentials, region) = (imds.credentials().await?, imds.region().await?);
                    Some(caller_identity(&credentials, &region, (NONCE, binding), now)?)
                }
                None => None,
            };
            Ok(Proof::Aws { document, request })
        }
        Cloud::Gcp => {
            let metadata = gcp::Metadata::new(at(gcp::ENDPOINT)?);
            metadata.identity_token(&audience(controller, binding)).await.map(Proof::Gcp)
        }
        Cloud::Azure => {
            let metadata = azure::Metadata::new(at(azure::ENDPOINT)?);
            metadata.attested_document(&short_binding(binding)).await.map(Proof::Azure)
        }
    }
}
