//! Which servers a client believes, and with which cryptography.
//!
//! There is no way to switch verification off. The provider lists by hand what the clients need:
//! rustls's own also links what signs with private keys and three more suites, which is 100 kB.
//! `verifier` decides, `words` says why not, `wire` puts it under the client library.

mod verifier;
mod wire;
mod words;

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::client::Resumption;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use rustls::{ALL_VERSIONS, ClientConfig, Error, RootCertStore, SignatureScheme};
use webpki::ring as algorithms;

use verifier::Verifier;
pub(crate) use wire::Tls;
pub(crate) use words::of_tls;

/// Where distributions keep their bundle; the first that exists is taken.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A larger file is no CA bundle: Mozilla's whole one has 230 kB.
const LARGEST_BUNDLE: u64 = 4 * 1024 * 1024;

/// The certificates of one CA file, and what a connection needs to verify a server against them.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// Reads a PEM file; `Err` names it. At least one certificate in it must be of use.
    pub fn read(file: &Path) -> Result<Trust, String> {
        let failed = |why: &dyn fmt::Display| format!("CA file {}: {why}", file.display());
        // Opening a pipe could block, and a device may have no end.
        if !fs::metadata(file).map_err(|e| failed(&e))?.is_file() {
            return Err(failed(&"not a regular file"));
        }
        let mut pem = Vec::new();
        let bounded = fs::File::open(file).map(|file| file.take(LARGEST_BUNDLE + 1));
        bounded.and_then(|mut file| file.read_to_end(&mut pem)).map_err(|e| failed(&e))?;
        if pem.len() as u64 > LARGEST_BUNDLE {
            return Err(failed(&format!("accepted up to {LARGEST_BUNDLE} bytes")));
        }
        let verifier = verifier(&pem).map_err(|why| failed(&why))?;
        Ok(Trust { config: Arc::new(config(verifier).map_err(|why| failed(&why))?) })
    }

    /// For one connection.
    fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

/// Trusts these certificates. At least one of their keys has to be supported.
fn verifier(pem: &[u8]) -> Result<Verifier, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = found.map_err(|e| format!("not PEM: {e}"))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    let anchors = store.roots;
    let keys: Vec<_> = anchors
        .iter()
        .map(|anchor| words::unsupported_key(&anchor.subject_public_key_info))
        .collect();
    match keys.first() {
        None => Err("no certificate in it (PEM, BEGIN CERTIFICATE)".to_owned()),
        Some(Some(key)) if keys.iter().all(Option::is_some) => Err(format!(
            "no certificate in it has a supported key, the first is {key} ({})",
            words::SUPPORTED
        )),
        Some(_) => Ok(Verifier { certificates, anchors }),
    }
}

fn config(verifier: Verifier) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_protocol_versions(ALL_VERSIONS).map_err(|e| of_tls(&e))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = builder.with_no_client_auth();
    // Connections are rare, and each remembered session takes memory.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The file to trust where none is set: `SSL_CERT_FILE`, else a system bundle that exists.
pub fn default_file(ssl_cert_file: Option<PathBuf>) -> Option<PathBuf> {
    ssl_cert_file.or_else(|| SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()))
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Client,
        key_provider: &Client,
    }
}

/// The clients authenticate by token, never by certificate, so no private key is ever loaded.
#[derive(Debug)]
struct Client;

impl KeyProvider for Client {
    fn load_private_key(&self, _key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("client certificates are not supported".to_owned()))
    }
}

impl SecureRandom for Client {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        SystemRandom::new().fill(buffer).map_err(|_| GetRandomFailed)
    }
}

/// What CAs in clusters sign with: ECDSA on P-256 and P-384, RSA, Ed25519. TLS 1.2 does not tie
/// the curve to the scheme, hence the pairs.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
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

#[cfg(test)]
mod tests;
