//! Certificates for the tests' TLS servers, made anew for each test. Does not know the servers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::scratch::Scratch;

/// A certificate authority. Each has its own key, so that a second one does not fit.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    file: PathBuf,
    _dir: Scratch,
}

/// A server's certificate and key.
#[derive(Clone)]
pub struct Identity {
    pub chain_pem: String,
    pub key_pem: String,
    pub config: Arc<ServerConfig>,
}

impl Authority {
    #[allow(
        clippy::new_without_default,
        reason = "it makes keys and a file: not a value one gets by default"
    )]
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let dir = Scratch::new();
        let file = dir.file("ca.crt", &pem);
        Authority { issuer: Issuer::new(params, key), pem, file, _dir: dir }
    }

    /// The authority's certificate as a PEM file, which exists as long as the authority.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these names and addresses that is valid now.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(params_for(names))
    }

    /// A certificate that was valid until 2020.
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        let mut params = params_for(names);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity::of(params.signed_by(&key, &self.issuer).unwrap(), &key)
    }
}

/// A self-signed certificate with CA:TRUE, as plain `openssl req -x509` makes it.
pub fn self_signed(names: &[&str]) -> Identity {
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>())
            .unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Identity::of(params.self_signed(&key).unwrap(), &key)
}

impl Identity {
    fn of(certificate: Certificate, key: &KeyPair) -> Identity {
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, der)
            .unwrap();
        Identity {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            config: Arc::new(config),
        }
    }
}

/// Names that parse as addresses become addresses, as clients expect of a certificate.
fn params_for(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "test server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Read, Write};
    use std::net::SocketAddr;

    use rustls::pki_types::ServerName;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use super::*;
    use crate::CEILING;
    use crate::scripted::{Behaviour, Server};

    /// Sends a request over TLS and reads to the end.
    pub(crate) fn ask(
        ca: &Authority,
        address: SocketAddr,
        name: &str,
        request: &[u8],
    ) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca.file()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_string()).unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = crate::http::connect_from(None, address, CEILING)?;
        stream.set_read_timeout(Some(CEILING))?;
        let mut stream = StreamOwned::new(client, stream);
        stream.write_all(request)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn only_valid_certificates_are_accepted() {
        let (ca, other) = (Authority::new(), Authority::new());
        let good = Server::start_tls(
            Behaviour::ok("hello"),
            &ca.issue(&["localhost", "127.0.0.1", "::1"]),
        );
        let old = Server::start_tls(Behaviour::ok("hello"), &ca.issue_expired(&["localhost"]));
        for (case, ca, server, name, error) in [
            ("name", &ca, &good, "localhost", None),
            ("address", &ca, &good, "127.0.0.1", None),
            ("other name", &ca, &good, "elsewhere", Some("NotValidForName")),
            ("other CA", &other, &good, "localhost", Some("certificate")),
            ("expired", &ca, &old, "localhost", Some("expired")),
        ] {
            let answer = ask(ca, server.addr(), name, b"GET / HTTP/1.1\r\n\r\n");
            match (answer, error) {
                (Ok(answer), None) => {
                    assert!(answer.ends_with("\r\n\r\nhello"), "{case}: {answer}");
                }
                (Err(got), Some(part)) => {
                    let got = format!("{got} {got:?}");
                    assert!(got.contains(part), "{case}: {got}");
                }
                (answer, _) => panic!("{case}: {answer:?}"),
            }
        }
    }
}
