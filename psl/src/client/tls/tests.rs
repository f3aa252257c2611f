use std::time::Duration;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, PeerIncompatible, PeerMisbehaved};

use super::*;

/// The certificates of these blocks, `+` between them.
fn pem(names: &str) -> Vec<u8> {
    let certificates = include_str!("../../../tests/data/tls.pem");
    let blocks = names.split('+').map(|name| testkit::transcript::block(certificates, name));
    blocks.flat_map(|block| format!("{block}\n").into_bytes()).collect()
}

fn certificates(names: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(&pem(names)).map(Result::unwrap).collect()
}

/// A time at which all certificates are valid, in seconds since 1970.
const NOW: u64 = 1_830_000_000;

/// Verifies a server that shows these certificates against a CA file.
fn verdict(ca_file: &str, shown: &str, name: &'static str, at: u64) -> String {
    let shown = certificates(shown);
    let verifier = match verifier(&pem(ca_file)) {
        Ok(verifier) => verifier,
        Err(why) => return why,
    };
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
    match verifier.verify_server_cert(&shown[0], &shown[1..], &name, &[], now) {
        Ok(_) => "good".to_owned(),
        Err(error) => describe(&error),
    }
}

#[test]
fn verdicts_on_certificates() {
    let supported = keys::SUPPORTED;
    let unsupported = |what: &str| {
        format!("certificate verify failed: {what}, which is not supported ({supported})")
    };
    let no_key = |key: &str| {
        format!("no certificate in it has a supported key, the first is {key} ({supported})")
    };
    for (ca_file, shown, expected) in [
        ("ca", "of-ca", "good".to_owned()),
        ("ca-rsa2048", "of-ca-rsa2048", "good".to_owned()),
        ("ca-rsa2048", "rsa-sha512", "good".to_owned()),
        ("ca-rsa2048", "rsa-pss", "good".to_owned()),
        ("ca-ed25519", "of-ca-ed25519", "good".to_owned()),
        // An unsupported key beside a supported one.
        ("ca-p521+ca", "of-ca", "good".to_owned()),
        ("ca-p521", "of-ca-p521", no_key("ECDSA on P-521")),
        ("ca-k1", "of-ca-k1", no_key("ECDSA on secp256k1")),
        ("ca-brainpool", "of-ca-brainpool", no_key("ECDSA on brainpoolP256r1")),
        ("ca-rsa1024", "of-ca-rsa1024", no_key("RSA of 1024 bits")),
        ("ca-ed448", "of-ca-ed448", no_key("Ed448")),
        ("ca+ca-p521", "of-ca-p521", unsupported("its issuer's key is ECDSA on P-521")),
        (
            "ca+ca-brainpool",
            "of-ca-brainpool",
            unsupported("its issuer's key is ECDSA on brainpoolP256r1"),
        ),
        ("ca+ca-rsa1024", "of-ca-rsa1024", unsupported("its issuer's key is RSA of 1024 bits")),
        ("ca+ca-ed448", "of-ca-ed448", unsupported("signed with Ed448")),
        ("ca", "sha512", unsupported("signed with ECDSA with SHA-512")),
        ("ca", "sha1", unsupported("signed with ECDSA with SHA-1")),
        ("ca-rsa2048", "rsa-sha1", unsupported("signed with RSA with SHA-1")),
        (
            "ca",
            "of-ca-rsa2048",
            of_peer("unknown issuer: no certificate of the CA file has issued it"),
        ),
        ("ca", "client", of_peer("not for servers (extended key usage without serverAuth)")),
        ("ca", "critical", of_peer("critical extension that is not supported")),
        ("ca", "of-no-ca+no-ca", of_peer("its issuer is not a CA (CA:FALSE)")),
        ("ca", "v1", of_peer("X.509 version 1 or 2; supported: version 3")),
        (
            "ca",
            "nameless",
            of_peer(
                "certificate not valid for name localhost: no subjectAltName, and the common name is ignored",
            ),
        ),
        (
            "ca",
            "self",
            of_peer(
                "the server shows a CA certificate (CA:TRUE, as openssl req -x509 makes them); to accept it, add this \
                 certificate to the CA file",
            ),
        ),
        (
            "ca",
            "self-no-ca",
            of_peer("unknown issuer: no certificate of the CA file has issued it"),
        ),
    ] {
        assert_eq!(
            verdict(ca_file, shown, "localhost", NOW),
            expected,
            "{shown} against {ca_file}"
        );
    }
}

fn of_peer(why: &str) -> String {
    format!("certificate verify failed: {why}")
}

/// It needs no issuer, but its validity and its names are checked.
#[test]
fn a_certificate_in_the_ca_file_is_accepted() {
    let (past, future) = (1_000_000_000, 10_000_000_000);
    for pinned in ["self", "self-no-ca", "self-sha512", "of-ca", "of-ca-p521", "of-no-ca", "sha1"] {
        for ca_file in [pinned.to_owned(), format!("ca-ed25519+{pinned}")] {
            let verdict_at = |name, at| verdict(&ca_file, pinned, name, at);
            assert_eq!(verdict_at("localhost", NOW), "good", "{ca_file}");
            assert_eq!(
                verdict_at("localhost", past),
                of_peer("certificate is not yet valid"),
                "{ca_file}"
            );
            assert_eq!(
                verdict_at("localhost", future),
                of_peer("certificate has expired"),
                "{ca_file}"
            );
            let wrong = verdict_at("another.example", NOW);
            let expected = "certificate not valid for name another.example; valid for localhost";
            assert!(wrong.starts_with(&of_peer(expected)), "{ca_file}: {wrong}");
        }
    }
    let nameless = verdict("self-nameless", "self-nameless", "localhost", NOW);
    assert!(nameless.ends_with("no subjectAltName, and the common name is ignored"), "{nameless}");
    assert_eq!(
        verdict("client", "client", "localhost", NOW),
        of_peer("not for servers (extended key usage without serverAuth)")
    );
    // Another certificate of the same name and issuer is not accepted.
    assert!(
        verdict("self", "self-sha512", "localhost", NOW).starts_with("certificate verify failed: ")
    );
    assert_eq!(
        verdict("of-ca+ca", "of-ca-rsa2048", "localhost", NOW),
        of_peer("unknown issuer: no certificate of the CA file has issued it")
    );
}

#[test]
fn few_names_are_listed_on_one_line() {
    let long = (0..9).map(|number| format!("DnsName(\"{number}\\n.example\")")).collect::<Vec<_>>();
    let expected = ServerName::try_from("localhost").unwrap();
    let context = CertificateError::NotValidForNameContext { expected, presented: long };
    let text = describe(&Error::InvalidCertificate(context));
    assert!(text.ends_with("4\\n.example and 4 more"), "{text}");
    for (presented, expected) in [
        (
            &[r#"DnsName("127.0.0.1")"#][..],
            "; valid for 127.0.0.1 as a DNS name, which is not valid for an address (use IP:)",
        ),
        (&["Unsupported(0x01)"], ": its subjectAltName holds no DNS name and no IP address"),
        (&["Unsupported(0x01)", r#"DnsName("a(b).example")"#], "; valid for a(b).example"),
        (&["IpAddress(127.0.0.9)"], "; valid for 127.0.0.9"),
    ] {
        let presented = presented.iter().map(ToString::to_string).collect();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let context = CertificateError::NotValidForNameContext { expected: name, presented };
        let text = describe(&Error::InvalidCertificate(context));
        assert_eq!(text, of_peer(&format!("certificate not valid for name 127.0.0.1{expected}")));
    }
    let addresses = verdict("ca", "of-ca", "10.1.2.3", NOW);
    assert_eq!(
        addresses,
        of_peer("certificate not valid for name 10.1.2.3; valid for localhost, 127.0.0.1")
    );
}

#[test]
fn handshake_errors() {
    let algorithm = |oid: &[u8]| CertificateError::UnsupportedSignatureAlgorithmContext {
        signature_algorithm_id: oid.to_vec(),
        supported_algorithms: Vec::new(),
    };
    for (error, part) in [
        (
            Error::AlertReceived(AlertDescription::HandshakeFailure),
            "TLS handshake failed: the server ended it: handshake failure, nothing in common; its key may be of a kind",
        ),
        (
            Error::AlertReceived(AlertDescription::ProtocolVersion),
            "TLS handshake failed: the server ended it: protocol version; supported: TLS 1.2 and 1.3",
        ),
        (Error::AlertReceived(AlertDescription::CertificateRequired), "has no client certificate"),
        (
            Error::AlertReceived(AlertDescription::DecodeError),
            "TLS handshake failed: the server ended it: alert 50",
        ),
        (
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            "TLS handshake failed: the server has no TLS version",
        ),
        (
            Error::PeerMisbehaved(PeerMisbehaved::InvalidMaxEarlyDataSize),
            "the server violates the TLS protocol",
        ),
        (
            Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
            "TLS handshake failed: the answer is not TLS: the port may speak plain http",
        ),
        (Error::NoCertificatesPresented, "TLS handshake failed: the server shows no certificate"),
        (
            Error::InvalidCertificate(CertificateError::BadSignature),
            "certificate verify failed: bad signature",
        ),
        (
            Error::InvalidCertificate(CertificateError::Revoked),
            "certificate verify failed: revoked",
        ),
        (
            Error::InvalidCertificate(algorithm(b"\x06\x03\x2a\x03\x04")),
            "signed with algorithm 1.2.3.4, which is not supported",
        ),
        (
            Error::InvalidCertificate(algorithm(b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x0e")),
            "signed with RSA with SHA3-256, which",
        ),
        (
            Error::InvalidCertificate(algorithm(b"\x06\x04\x88\x37\x03\x01")),
            "signed with algorithm 2.999.3.1, which",
        ),
        (
            Error::InvalidCertificate(algorithm(b"\x06\x09\x01")),
            "signed with an algorithm without a name",
        ),
        (Error::InvalidCertificate(algorithm(b"")), "signed with an algorithm without a name"),
        (
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure),
            "not accepted",
        ),
    ] {
        let text = describe(&error);
        assert!(text.contains(part), "{error:?}: {text}");
        assert!(text.is_ascii() && text.len() < 400, "{text}");
    }
}

/// No error shows the name of a library variant, or the bytes of an identifier.
#[test]
fn no_error_has_the_text_of_the_library() {
    use webpki::Error as Cause;
    for cause in [
        Cause::BadDer,
        Cause::BadDerTime,
        Cause::CertDistrusted,
        Cause::CertRevoked,
        Cause::EmptyEkuExtension,
        Cause::EndEntityUsedAsCa,
        Cause::ExtensionValueInvalid,
        Cause::InvalidCertValidity,
        Cause::InvalidNetworkMaskConstraint,
        Cause::InvalidSerialNumber,
        Cause::InvalidSignatureForPublicKey,
        Cause::MalformedDnsIdentifier,
        Cause::MalformedExtensions,
        Cause::MalformedNameConstraint,
        Cause::MaximumNameConstraintComparisonsExceeded,
        Cause::MaximumPathBuildCallsExceeded,
        Cause::MaximumPathDepthExceeded,
        Cause::MaximumSignatureChecksExceeded,
        Cause::NameConstraintViolation,
        Cause::PathLenConstraintViolated,
        Cause::SignatureAlgorithmMismatch,
        Cause::UnknownRevocationStatus,
        Cause::UnsupportedCertVersion,
        Cause::UnsupportedCriticalExtension,
        Cause::UnsupportedNameType,
    ] {
        let text = errors::of_certificate(&cause);
        assert!(!text.contains(&format!("{cause:?}")) && !text.contains('['), "{cause:?}: {text}");
    }
}

#[test]
fn a_key_for_rsa_pss_alone_is_named() {
    // The identifier of rsassaPss without parameters, and an empty key.
    let key = b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x03\x01\x00";
    assert_eq!(keys::unsupported_key(key).as_deref(), Some("RSA for RSA-PSS alone"));
}

#[test]
fn truncated_or_changed_keys_do_not_panic() {
    for name in ["ca", "ca-rsa1024", "ca-p521", "ca-ed448"] {
        let store = verifier(&pem(&format!("ca+{name}"))).unwrap();
        let key = store.anchors.last().unwrap().subject_public_key_info.to_vec();
        let whole = keys::unsupported_key(&key);
        assert_eq!(whole.is_none(), name == "ca", "{name}: {whole:?}");
        for length in 0..key.len() {
            let _ = keys::unsupported_key(&key[..length]);
            for bit in 0..8 {
                let mut changed = key.clone();
                changed[length] ^= 1 << bit;
                let _ = keys::unsupported_key(&changed);
            }
        }
    }
}
