//! The certificates that a client trusts, and its cryptography.
//!
//! Verification cannot be switched off. The provider lists the parts that the clients need:
//! rustls's own provider also links signing with private keys and three more suites, which is 100
//! kB. `verifier` decides, `errors` and `keys` describe errors, `transport` connects TLS to the
//! client library.

mod errors;
mod keys;
mod transport;
mod verifier;

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::client::Resumption;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use rustls::{ALL_VERSIONS, ClientConfig, Error, RootCertStore};

pub(crate) use errors::describe;
pub(crate) use transport::TlsConnector;
use verifier::{SIGNATURES, Verifier};

use crate::file;

/// The bundles of the distributions; the first that exists is read.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A larger file is no CA bundle: Mozilla's complete one has 230 kB.
const LARGEST_BUNDLE: u64 = 4 * 1024 * 1024;

/// The certificates of one CA file, in the form that connections need.
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
    /// Reads a PEM file with at least one supported certificate. `Err` names the file.
    pub fn read(file: &Path) -> Result<Trust, String> {
        let trust = read_bundle(file).and_then(|pem| {
            let config = config(verifier(&pem)?)?;
            Ok(Trust { config: Arc::new(config) })
        });
        trust.map_err(|error| format!("CA file {}: {error}", file.display()))
    }
}

fn read_bundle(file: &Path) -> Result<Vec<u8>, String> {
    let mut pem = Vec::new();
    let opened = file::open(file).map(|file| file.take(LARGEST_BUNDLE + 1));
    let read = opened.and_then(|mut file| file.read_to_end(&mut pem));
    read.map_err(|e| e.to_string())?;
    match pem.len() as u64 {
        ..=LARGEST_BUNDLE => Ok(pem),
        _ => Err(format!("accepted up to {LARGEST_BUNDLE} bytes")),
    }
}

/// Trusts these certificates, of which at least one must have a supported key.
fn verifier(pem: &[u8]) -> Result<Verifier, String> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = parsed.map_err(|e| format!("not PEM: {e}"))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.iter().cloned());
    let anchors = store.roots;
    let mut unsupported =
        anchors.iter().map(|anchor| keys::unsupported_key(&anchor.subject_public_key_info));
    match unsupported.next() {
        None => Err("no certificate in it (PEM, BEGIN CERTIFICATE)".to_owned()),
        Some(Some(key)) if unsupported.all(|key| key.is_some()) => Err(format!(
            "no certificate in it has a supported key, the first is {key} ({})",
            keys::SUPPORTED
        )),
        Some(_) => Ok(Verifier { certificates, anchors }),
    }
}

fn config(verifier: Verifier) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_protocol_versions(ALL_VERSIONS).map_err(|e| describe(&e))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = builder.with_no_client_auth();
    // Connections are rare, and each remembered session needs memory.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The CA file if no setting names one: `SSL_CERT_FILE`, else a system bundle that exists.
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
        secure_random: &ClientCrypto,
        key_provider: &ClientCrypto,
    }
}

/// Random bytes, and no private keys: the clients authenticate by token, never by certificate.
#[derive(Debug)]
struct ClientCrypto;

impl KeyProvider for ClientCrypto {
    fn load_private_key(&self, _key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("client certificates are not supported".to_owned()))
    }
}

impl SecureRandom for ClientCrypto {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        SystemRandom::new().fill(buffer).map_err(|_| GetRandomFailed)
    }
}

#[cfg(test)]
mod tests;
