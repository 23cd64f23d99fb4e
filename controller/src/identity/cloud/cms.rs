//! Signed data of CMS (RFC 5652, PKCS #7), as clouds sign documents about machines.
//!
//! Read as BER: AWS sends indefinite lengths and a content in pieces. Invariants: one signer, RSA of at least 2048 bits, SHA-2; signed
//! attributes have to name the content's type and digest; a key is never taken from the message without the caller asking for it.

use aws_lc_rs::{digest, signature};
use x509_parser::asn1_rs::{Any, Class, FromBer as _, Oid};

/// Deepest nesting of a content in pieces.
const DEPTH: usize = 4;

const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const RSA: &str = "1.2.840.113549.1.1.1";

type Result<T> = std::result::Result<T, String>;

/// One element.
#[derive(Debug, Clone, Copy)]
struct Element<'a> {
    /// All of it.
    raw: &'a [u8],
    /// What is in it.
    data: &'a [u8],
    class: Class,
    tag: u32,
    constructed: bool,
    definite: bool,
}

/// Elements one after another.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    fn next(&mut self) -> Result<Option<Element<'a>>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (rest, any) = Any::from_ber(self.0).map_err(|_| "it is no BER".to_owned())?;
        let length = self.0.len() - rest.len();
        let raw = self.0.get(..length).unwrap_or_default();
        self.0 = rest;
        let element = Element {
            raw,
            data: any.data,
            class: any.header.class(),
            tag: any.header.tag().0,
            constructed: any.header.is_constructed(),
            definite: any.header.length().is_definite(),
        };
        // The end of a content of indefinite length.
        let end = element.class == Class::Universal && element.tag == 0;
        if end {
            self.0 = &[];
            return Ok(None);
        }
        Ok(Some(element))
    }

    fn want(&mut self, what: &str, tag: u32) -> Result<Element<'a>> {
        let found = self.next()?.filter(|found| found.class == Class::Universal && found.tag == tag);
        found.ok_or_else(|| format!("it has no {what}"))
    }

    /// The next one, if it is that of a number of the context.
    fn tagged(&mut self, tag: u32) -> Result<Option<Element<'a>>> {
        let before = self.0;
        let found = self.next()?.filter(|found| found.class == Class::ContextSpecific && found.tag == tag);
        if found.is_none() {
            self.0 = before;
        }
        Ok(found)
    }
}

impl<'a> Element<'a> {
    fn inside(self) -> Elements<'a> {
        Elements(self.data)
    }

    fn oid(self) -> Result<String> {
        if self.class != Class::Universal || self.tag != 6 {
            return Err("it has no object identifier where one has to be".to_owned());
        }
        Ok(Oid::new(self.data.into()).to_id_string())
    }

    /// An octet string, in one piece or several.
    fn octets(self, depth: usize, into: &mut Vec<u8>) -> Result<()> {
        if !self.constructed {
            into.extend_from_slice(self.data);
            return Ok(());
        }
        if depth == 0 {
            return Err("its content is nested too deeply".to_owned());
        }
        let mut pieces = self.inside();
        while let Some(piece) = pieces.next()? {
            if piece.class != Class::Universal || piece.tag != 4 {
                return Err("its content is no octet string".to_owned());
            }
            piece.octets(depth - 1, into)?;
        }
        Ok(())
    }
}

/// Signed data with its one signer. Nothing in it counts before [`Signed::verify`] has passed.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    /// What is signed.
    pub(super) content: Vec<u8>,
    content_type: String,
    /// Certificates that came along, in DER.
    pub(super) certificates: Vec<&'a [u8]>,
    /// Issuer (DER of its name) and serial number of the signer's certificate, as it says.
    pub(super) signer: Option<(&'a [u8], &'a [u8])>,
    digest: &'static digest::Algorithm,
    attributes: Option<Element<'a>>,
    signature: Vec<u8>,
}

impl<'a> Signed<'a> {
    /// Reads it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut outer = Elements(bytes).want("content info", 16)?.inside();
        if outer.want("content type", 6)?.oid()? != SIGNED_DATA {
            return Err("it is no signed data".to_owned());
        }
        let wrapped = outer.tagged(0)?.ok_or("it has no content")?;
        let mut data = wrapped.inside().want("signed data", 16)?.inside();
        data.want("version", 2)?;
        data.want("digest algorithms", 17)?;
        let mut inner = data.want("content", 16)?.inside();
        let content_type = inner.want("type of the content", 6)?.oid()?;
        let mut content = Vec::new();
        let piece = inner.tagged(0)?.ok_or("the document is not in it")?;
        piece.inside().want("content", 4)?.octets(DEPTH, &mut content)?;
        let mut certificates = Vec::new();
        if let Some(set) = data.tagged(0)? {
            let mut set = set.inside();
            while let Some(certificate) = set.next()? {
                certificates.push(certificate.raw);
            }
        }
        // Revocation lists are passed over.
        data.tagged(1)?;
        let mut signers = data.want("signers", 17)?.inside();
        let signer = signers.next()?.ok_or("nobody has signed it")?;
        if signers.next()?.is_some() {
            return Err("it has more than one signer".to_owned());
        }
        Self {
            content,
            content_type,
            certificates,
            signer: None,
            digest: &digest::SHA256,
            attributes: None,
            signature: Vec::new(),
        }
        .with_signer(signer)
    }

    fn with_signer(mut self, signer: Element<'a>) -> Result<Self> {
        let mut signer = signer.inside();
        signer.want("version of the signer", 2)?;
        if signer.tagged(0)?.is_none() {
            let mut who = signer.want("signer's certificate", 16)?.inside();
            let (issuer, serial) = (who.want("issuer", 16)?, who.want("serial number", 2)?);
            self.signer = Some((issuer.raw, serial.data));
        }
        let algorithm = signer.want("digest algorithm", 16)?.inside().want("digest algorithm", 6)?.oid()?;
        let (digest, with_rsa) = match algorithm.as_str() {
            "2.16.840.1.101.3.4.2.1" => (&digest::SHA256, "1.2.840.113549.1.1.11"),
            "2.16.840.1.101.3.4.2.2" => (&digest::SHA384, "1.2.840.113549.1.1.12"),
            "2.16.840.1.101.3.4.2.3" => (&digest::SHA512, "1.2.840.113549.1.1.13"),
            _ => return Err(format!("its digest is not of SHA-2 (`{algorithm}`): take the RSA-2048 signature")),
        };
        self.digest = digest;
        self.attributes = signer.tagged(0)?;
        let algorithm = signer.want("signature algorithm", 16)?.inside().want("signature algorithm", 6)?.oid()?;
        if algorithm != RSA && algorithm != with_rsa {
            return Err(format!("it is not signed with RSA (`{algorithm}`)"));
        }
        signer.want("signature", 4)?.octets(1, &mut self.signature)?;
        Ok(self)
    }

    /// Whether the owner of a key (an `RSAPublicKey` in DER) has signed the content.
    pub(super) fn verify(&self, key: &[u8]) -> Result<()> {
        let algorithm = if *self.digest == digest::SHA256 {
            &signature::RSA_PKCS1_2048_8192_SHA256
        } else if *self.digest == digest::SHA384 {
            &signature::RSA_PKCS1_2048_8192_SHA384
        } else {
            &signature::RSA_PKCS1_2048_8192_SHA512
        };
        let said = match self.attributes {
            Some(attributes) => self.attributes(attributes)?,
            None => self.content.clone(),
        };
        let key = signature::UnparsedPublicKey::new(algorithm, key);
        key.verify(&said, &self.signature)
            .map_err(|_| "its signature is not by the key that has to have signed it".to_owned())
    }

    /// What is signed in place of the content, once it is known to speak of the content.
    fn attributes(&self, attributes: Element<'a>) -> Result<Vec<u8>> {
        if !attributes.definite {
            return Err("its signed attributes are not in DER".to_owned());
        }
        let (mut types, mut digests) = (Vec::new(), Vec::new());
        let mut all = attributes.inside();
        while let Some(attribute) = all.next()? {
            let mut parts = attribute.inside();
            let name = parts.want("name of an attribute", 6)?.oid()?;
            let mut values = parts.want("values of an attribute", 17)?.inside();
            while let Some(value) = values.next()? {
                match name.as_str() {
                    CONTENT_TYPE => types.push(value.oid()?),
                    MESSAGE_DIGEST => digests.push(value.data),
                    _ => {}
                }
            }
        }
        let digest = digest::digest(self.digest, &self.content);
        if types.len() != 1 || types.first() != Some(&self.content_type) {
            return Err("its signed attributes are for another type of content".to_owned());
        }
        if digests.len() != 1 || digests.first().copied() != Some(digest.as_ref()) {
            return Err("its content is not the one that was signed".to_owned());
        }
        // As a SET OF, whatever its tag in the message (RFC 5652, section 5.4).
        let mut said = attributes.raw.to_vec();
        if let Some(tag) = said.first_mut() {
            *tag = 0x31;
        }
        Ok(said)
    }
}
