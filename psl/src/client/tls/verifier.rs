//! Accepts a server's certificate if a certificate of the CA file has issued it, or if it is itself in the CA file.
//!
//! Pure: certificates, a name and the time in, a verdict in words out.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use super::{SIGNATURES, words};

/// The certificates of a CA file, as given and as trust anchors.
#[derive(Debug)]
pub(super) struct Verifier {
    pub certificates: Vec<CertificateDer<'static>>,
    pub anchors: Vec<TrustAnchor<'static>>,
}

impl Verifier {
    /// A certificate that is in the CA file, byte for byte, needs no issuer: it may be self-signed, or come from a CA
    /// that is not trusted. Its time and its names are checked all the same, as in Go and OpenSSL.
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|known| known.as_ref() == certificate.as_ref())
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
        // The library checks a certificate itself before it looks for an issuer: first its time, then whether it is one of
        // a CA, then its purpose. A pinned certificate needs no issuer, and may be one of a CA; the purpose of such a
        // certificate is not checked.
        let (anchors, intermediates) =
            if is_pinned { (&[][..], &[][..]) } else { (&*self.anchors, intermediates) };
        let usage = KeyUsage::server_auth();
        match certificate.verify_for_usage(
            SIGNATURES.all,
            anchors,
            intermediates,
            now,
            usage,
            None,
            None,
        ) {
            Err(webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity) if is_pinned => {}
            other => drop(other?),
        }
        certificate.verify_is_valid_for_subject_name(name)
    }

    /// A key of an unsupported kind or size verifies no signature; the error then names the key.
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
        let of_intermediates = intermediates.iter().filter_map(key_of);
        let signed =
            |anchor: &&TrustAnchor<'_>| issuers.iter().any(|issuer| **issuer == *anchor.subject);
        let of_anchors = self
            .anchors
            .iter()
            .filter(signed)
            .map(|anchor| anchor.subject_public_key_info.to_vec());
        of_intermediates.chain(of_anchors).find_map(|key| words::unsupported_key(&key))
    }

    fn refused(
        &self,
        error: &webpki::Error,
        der: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
    ) -> Error {
        let why = match error {
            webpki::Error::InvalidSignatureForPublicKey => {
                self.unsupported_key(der, more).map(words::of_issuer_key)
            }
            _ => None,
        };
        refusal(&why.unwrap_or_else(|| words::of_certificate(error)))
    }
}

/// The content of a certificate's SubjectPublicKeyInfo.
fn key_of(der: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let whole = EndEntityCert::try_from(der).ok()?.subject_public_key_info();
    words::content(whole.as_ref()).map(<[u8]>::to_vec)
}

fn refusal(why: &str) -> Error {
    Error::General(format!("invalid peer certificate: {why}"))
}

/// A bad signature may be of an algorithm that is not supported.
fn with_key_named<T>(
    result: Result<T, Error>,
    certificate: &CertificateDer<'_>,
) -> Result<T, Error> {
    result.map_err(|error| match key_of(certificate).and_then(|key| words::unsupported_key(&key)) {
        Some(key) => refusal(&words::of_own_key(&key)),
        None => error,
    })
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
        match self.verify(end_entity, intermediates, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => Err(self.refused(&error, end_entity, intermediates)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        with_key_named(
            verify_tls12_signature(message, certificate, signature, &SIGNATURES),
            certificate,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        with_key_named(
            verify_tls13_signature(message, certificate, signature, &SIGNATURES),
            certificate,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}
