//! Accepts a server's certificate if a certificate of the CA file has issued it, or if the CA file
//! contains it.
//!
//! Pure: certificates, a name and the time in, a result or an error's text out.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use webpki::ring as algorithms;
use webpki::{EndEntityCert, KeyUsage};

use super::{errors, keys};

/// The certificates of a CA file, in full and as trust anchors.
#[derive(Debug)]
pub(super) struct Verifier {
    pub certificates: Vec<CertificateDer<'static>>,
    pub anchors: Vec<TrustAnchor<'static>>,
}

impl Verifier {
    /// A certificate that the CA file contains, byte for byte, needs no issuer: it may be
    /// self-signed, or come from an untrusted CA. Its validity and its names are checked as in Go
    /// and OpenSSL.
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|pinned| pinned.as_ref() == certificate.as_ref())
    }

    fn verify(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let certificate = EndEntityCert::try_from(der)?;
        let is_pinned = self.is_pinned(der);
        let (anchors, intermediates) =
            if is_pinned { (&[][..], &[][..]) } else { (&*self.anchors, intermediates) };
        let (usage, all) = (KeyUsage::server_auth(), SIGNATURES.all);
        // The library checks the certificate before it searches an issuer: first its validity, then
        // whether it belongs to a CA, then its purpose. A pinned certificate needs no issuer, and
        // may belong to a CA; the purpose of such a certificate is not checked.
        match certificate.verify_for_usage(all, anchors, intermediates, now, usage, None, None) {
            Err(webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity) if is_pinned => {}
            result => drop(result?),
        }
        certificate.verify_is_valid_for_subject_name(name)
    }

    /// The key that could not verify a signature, because its kind or its size is not supported.
    fn unsupported_key(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Option<String> {
        let mut issuers = Vec::new();
        for der in [der].into_iter().chain(intermediates) {
            let certificate = EndEntityCert::try_from(der).ok()?;
            issuers.push(certificate.issuer().to_vec());
        }
        let anchor_key = |anchor: &TrustAnchor<'_>| {
            let is_issuer = issuers.iter().any(|issuer| **issuer == *anchor.subject);
            is_issuer.then(|| anchor.subject_public_key_info.to_vec())
        };
        let mut keys = intermediates
            .iter()
            .filter_map(key_of)
            .chain(self.anchors.iter().filter_map(anchor_key));
        keys.find_map(|key| keys::unsupported_key(&key))
    }
}

/// The content of a certificate's SubjectPublicKeyInfo.
fn key_of(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let info = EndEntityCert::try_from(der).ok()?.subject_public_key_info();
    keys::content(info.as_ref()).map(<[u8]>::to_vec)
}

/// A bad signature may be due to an unsupported key; the error then names the key.
fn name_key(error: Error, certificate: &CertificateDer<'_>) -> Error {
    match key_of(certificate).and_then(|key| keys::unsupported_key(&key)) {
        Some(key) => errors::rejection(&errors::of_own_key(&key)),
        None => error,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Err(error) = self.verify(end_entity, intermediates, server_name, now) else {
            return Ok(ServerCertVerified::assertion());
        };
        let key = match error {
            webpki::Error::InvalidSignatureForPublicKey => {
                self.unsupported_key(end_entity, intermediates)
            }
            _ => None,
        };
        Err(errors::rejection(&match key {
            Some(key) => errors::of_issuer_key(&key),
            None => errors::of_certificate(&error),
        }))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &SIGNATURES)
            .map_err(|error| name_key(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &SIGNATURES)
            .map_err(|error| name_key(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

/// The signatures of CAs in clusters: ECDSA on P-256 and P-384, RSA, Ed25519. TLS 1.2 does not bind
/// the curve to the scheme, hence the pairs.
pub(super) static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithms::ECDSA_P256_SHA256,
        algorithms::ECDSA_P256_SHA384,
        algorithms::ECDSA_P384_SHA256,
        algorithms::ECDSA_P384_SHA384,
        algorithms::ED25519,
        algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        algorithms::RSA_PKCS1_2048_8192_SHA256,
        algorithms::RSA_PKCS1_2048_8192_SHA384,
        algorithms::RSA_PKCS1_2048_8192_SHA512,
    ],
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[algorithms::ECDSA_P384_SHA384, algorithms::ECDSA_P256_SHA384],
        ),
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256],
        ),
        (SignatureScheme::ED25519, &[algorithms::ED25519]),
        (SignatureScheme::RSA_PSS_SHA512, &[algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA256, &[algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[algorithms::RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[algorithms::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[algorithms::RSA_PKCS1_2048_8192_SHA256]),
    ],
};
