//! Errors of a certificate, a key or a handshake, in words.
//!
//! The library's own texts are names of its variants and bytes of object identifiers. This module decides nothing.

use std::net::IpAddr;

use rustls::{AlertDescription, CertificateError, Error};

use crate::text::one_line;

/// The supported keys and hashes.
pub(super) const SUPPORTED: &str = "supported: ECDSA P-256, P-384; Ed25519; RSA 2048 to 8192; SHA-256, SHA-384, with RSA also SHA-512";

/// A longer list of names would hide the rest of the message.
const MOST_NAMES: usize = 5;

/// Names of signature algorithms and of kinds of keys, by their object identifiers.
const ALGORITHMS: &[(&[u8], &str)] = &[
    (b"\x2a\x86\x48\xce\x3d\x04\x01", "ECDSA with SHA-1"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x01", "ECDSA with SHA-224"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", "ECDSA with SHA-256"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", "ECDSA with SHA-384"),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", "ECDSA with SHA-512"),
    (RSA, "RSA"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", "RSA with MD5"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", "RSA with SHA-1"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0e", "RSA with SHA-224"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", "RSA with SHA-256"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", "RSA with SHA-384"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", "RSA with SHA-512"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0f", "RSA with SHA-512/224"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x10", "RSA with SHA-512/256"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x0d", "RSA with SHA3-224"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x0e", "RSA with SHA3-256"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x0f", "RSA with SHA3-384"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x10", "RSA with SHA3-512"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x09", "ECDSA with SHA3-224"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x0a", "ECDSA with SHA3-256"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x0b", "ECDSA with SHA3-384"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x0c", "ECDSA with SHA3-512"),
    (RSA_PSS, "RSA-PSS with unusual parameters"),
    (ED25519, "Ed25519"),
    (b"\x2b\x65\x71", "Ed448"),
    (b"\x2a\x86\x48\xce\x38\x04\x01", "DSA"),
    (b"\x2a\x86\x48\xce\x38\x04\x03", "DSA with SHA-1"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x02", "DSA with SHA-256"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x11", "ML-DSA-44"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x12", "ML-DSA-65"),
    (b"\x60\x86\x48\x01\x65\x03\x04\x03\x13", "ML-DSA-87"),
    (b"\x2a\x81\x1c\xcf\x55\x01\x83\x75", "SM2 with SM3"),
    (EC, "ECDSA"),
];

const CURVES: &[(&[u8], &str)] = &[
    (P256, "P-256"),
    (P384, "P-384"),
    (b"\x2b\x81\x04\x00\x23", "P-521"),
    (b"\x2b\x81\x04\x00\x21", "P-224"),
    (b"\x2a\x86\x48\xce\x3d\x03\x01\x01", "P-192"),
    (b"\x2b\x81\x04\x00\x0a", "secp256k1"),
    (b"\x2a\x81\x1c\xcf\x55\x01\x82\x2d", "SM2"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x07", "brainpoolP256r1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0b", "brainpoolP384r1"),
    (b"\x2b\x24\x03\x03\x02\x08\x01\x01\x0d", "brainpoolP512r1"),
];

const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const RSA_PSS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
const EC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
const ED25519: &[u8] = b"\x2b\x65\x70";
const P256: &[u8] = b"\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x2b\x81\x04\x00\x22";

const OBJECT_IDENTIFIER: u8 = 0x06;
const BIT_STRING: u8 = 0x03;

/// The tag and content of one value of DER, and the bytes after it.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ ..0x80 => (usize::from(short), rest),
        long => {
            let (length, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|(l, _)| l.len() <= 3)?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The content of the first value.
pub(super) fn content(der: &[u8]) -> Option<&[u8]> {
    value(der).map(|(_, content, _)| content)
}

/// `algorithm 1.2.840.10045.4.3.4`, for an algorithm without a name here.
fn dotted(oid: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut part = 0u64;
    for byte in oid {
        part = part << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            parts.push(std::mem::take(&mut part));
        }
    }
    let Some((first, rest)) = parts.split_first() else { return "none".to_owned() };
    let arc = (*first / 40).min(2);
    let rest = rest.iter().map(|part| format!(".{part}")).collect::<String>();
    format!("algorithm {arc}.{}{rest}", first - 40 * arc)
}

fn name(oid: &[u8], names: &[(&[u8], &str)]) -> String {
    let known = names.iter().find(|(known, _)| *known == oid);
    known.map_or_else(|| dotted(oid), |(_, name)| (*name).to_owned())
}

/// The name of an algorithm from the content of its AlgorithmIdentifier.
fn algorithm(identifier: &[u8]) -> String {
    match value(identifier) {
        Some((OBJECT_IDENTIFIER, EC, parameters)) => {
            let curve = value(parameters).filter(|(tag, ..)| *tag == OBJECT_IDENTIFIER);
            let curve = curve
                .map_or_else(|| "a curve of its own".to_owned(), |(_, oid, _)| name(oid, CURVES));
            format!("ECDSA on {curve}")
        }
        Some((OBJECT_IDENTIFIER, oid, _)) => name(oid, ALGORITHMS),
        _ => "an algorithm without a name".to_owned(),
    }
}

/// The name of an unsupported key, from the content of its SubjectPublicKeyInfo; `None` if it is supported.
pub(super) fn unsupported_key(key: &[u8]) -> Option<String> {
    let (_, identifier, rest) = value(key)?;
    let (_, oid, parameters) = value(identifier)?;
    let is_supported = match oid {
        RSA => {
            let bits = modulus_bits(rest)?;
            return (!(2048..=8192).contains(&bits)).then(|| format!("RSA of {bits} bits"));
        }
        // The parameters of a key, if there are any, are those that it may be used with.
        RSA_PSS => return Some("RSA for RSA-PSS alone".to_owned()),
        EC => value(parameters).is_some_and(|(_, curve, _)| curve == P256 || curve == P384),
        oid => oid == ED25519,
    };
    (!is_supported).then(|| algorithm(identifier))
}

fn modulus_bits(key: &[u8]) -> Option<usize> {
    let (_, bits, _) = value(key).filter(|(tag, ..)| *tag == BIT_STRING)?;
    let (_, modulus, _) = value(content(bits.get(1..)?)?)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}

pub(super) fn of_issuer_key(key: String) -> String {
    format!("its issuer's key is {key}, which is not supported ({SUPPORTED})")
}

pub(super) fn of_own_key(key: &str) -> String {
    format!("its key is {key}, which is not supported ({SUPPORTED})")
}

/// The error of a certificate.
pub(super) fn of_certificate(error: &webpki::Error) -> String {
    use webpki::Error as Cause;
    let words = match error {
        Cause::CertNotValidForName(context) => {
            return names(&context.expected.to_str(), &context.presented);
        }
        Cause::UnsupportedSignatureAlgorithmContext(context) => {
            return signed_with(&context.signature_algorithm_id);
        }
        Cause::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            return of_issuer_key(algorithm(&context.public_key_algorithm_id));
        }
        // Without the time, which would make a new reason of the same error each day.
        Cause::CertExpired { .. } => "expired",
        Cause::CertNotValidYet { .. } => "not valid yet",
        Cause::InvalidCertValidity => "validity ends before it begins",
        Cause::UnknownIssuer => UNKNOWN_ISSUER,
        Cause::CaUsedAsEndEntity => {
            "the server shows a CA certificate (CA:TRUE, as openssl req -x509 makes them); to accept it, add that very \
             certificate to the CA file"
        }
        Cause::EndEntityUsedAsCa => "its issuer is not a CA (CA:FALSE)",
        Cause::InvalidSignatureForPublicKey => BAD_SIGNATURE,
        Cause::SignatureAlgorithmMismatch => "two different signature algorithms",
        Cause::RequiredEkuNotFoundContext(_) | Cause::EmptyEkuExtension => WRONG_PURPOSE,
        Cause::NameConstraintViolation
        | Cause::MalformedNameConstraint
        | Cause::InvalidNetworkMaskConstraint => {
            "its issuer may not issue for this name (name constraints)"
        }
        Cause::PathLenConstraintViolated => {
            "more intermediate certificates than its issuer allows (path length)"
        }
        Cause::UnsupportedCertVersion => "X.509 version 1 or 2; supported: version 3",
        Cause::UnsupportedCriticalExtension => UNKNOWN_EXTENSION,
        Cause::MaximumPathDepthExceeded
        | Cause::MaximumPathBuildCallsExceeded
        | Cause::MaximumSignatureChecksExceeded
        | Cause::MaximumNameConstraintComparisonsExceeded => {
            "too many certificates to look through"
        }
        Cause::BadDer
        | Cause::BadDerTime
        | Cause::TrailingData(_)
        | Cause::ExtensionValueInvalid
        | Cause::InvalidSerialNumber
        | Cause::MalformedDnsIdentifier
        | Cause::MalformedExtensions
        | Cause::UnsupportedNameType => MALFORMED,
        _ => "not accepted",
    };
    words.to_owned()
}

const UNKNOWN_ISSUER: &str = "unknown issuer: no certificate of the CA file has issued it";
const BAD_SIGNATURE: &str = "bad signature";
const WRONG_PURPOSE: &str = "not for servers (extended key usage without serverAuth)";
const UNKNOWN_EXTENSION: &str = "critical extension that is not supported";
const MALFORMED: &str = "malformed";

fn signed_with(identifier: &[u8]) -> String {
    format!("signed with {}, which is not supported ({SUPPORTED})", algorithm(identifier))
}

/// The library writes names as `DnsName("a.example")` and `IpAddress(127.0.0.1)`, and those of kinds that no server is
/// called by, such as an e-mail address, as `Unsupported(0x01)`.
fn names(expected: &str, presented: &[String]) -> String {
    let bare = |name: &&String| {
        let (kind, rest) = name.split_once('(').unwrap_or(("", name));
        let inner = rest.strip_suffix(')').unwrap_or(rest).trim_matches('"');
        let is_address_as_name = kind == "DnsName" && inner.parse::<IpAddr>().is_ok();
        let note = if is_address_as_name {
            " as a DNS name, which is not valid for an address (use IP:)"
        } else {
            ""
        };
        format!("{}{note}", one_line(inner))
    };
    let wrong = format!("certificate not valid for name {}", one_line(expected));
    if presented.is_empty() {
        return format!("{wrong}: no subjectAltName, and the common name is ignored");
    }
    let presented: Vec<_> =
        presented.iter().filter(|name| !name.starts_with("Unsupported(")).collect();
    if presented.is_empty() {
        return format!("{wrong}: its subjectAltName holds no DNS name and no IP address");
    }
    let listed = presented.iter().take(MOST_NAMES).map(bare).collect::<Vec<_>>().join(", ");
    let more = presented.len().saturating_sub(MOST_NAMES);
    if more > 0 {
        format!("{wrong}; valid for {listed} and {more} more")
    } else {
        format!("{wrong}; valid for {listed}")
    }
}

/// The error of a handshake, or of a message after it.
pub(crate) fn of_tls(error: &Error) -> String {
    let words = match error {
        Error::General(why) => return why.clone(),
        Error::InvalidCertificate(cause) => {
            return format!("invalid peer certificate: {}", of_cause(cause));
        }
        Error::AlertReceived(alert) => return of_alert(*alert),
        Error::PeerIncompatible(_) => {
            "the server has no TLS version, cipher suite or key exchange in common with this program (TLS 1.2 or 1.3, \
             AES-GCM, X25519 or P-256 or P-384)"
        }
        Error::InvalidMessage(_) => "the answer is not TLS: the port may speak plain http",
        Error::NoCertificatesPresented => "the server shows no certificate",
        Error::DecryptError => "a record does not decrypt",
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerSentOversizedRecord => "the server breaks the rules of TLS",
        Error::UnsupportedNameType => "a certificate cannot hold the server's name",
        Error::FailedToGetCurrentTime => "the system clock cannot be read",
        Error::FailedToGetRandomBytes => "the system gives no random bytes",
        Error::EncryptError => "a record cannot be encrypted",
        _ => "the handshake failed",
    };
    words.to_owned()
}

/// Errors of the library itself, such as a bad signature of the handshake.
fn of_cause(cause: &CertificateError) -> String {
    let words = match cause {
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id, ..
        } => {
            return signed_with(signature_algorithm_id);
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            public_key_algorithm_id,
            ..
        } => {
            return of_own_key(&algorithm(public_key_algorithm_id));
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            return names(&expected.to_str(), presented);
        }
        CertificateError::NotValidForName => "certificate not valid for name",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "not valid yet"
        }
        CertificateError::UnknownIssuer => UNKNOWN_ISSUER,
        CertificateError::BadSignature => BAD_SIGNATURE,
        CertificateError::BadEncoding => MALFORMED,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            WRONG_PURPOSE
        }
        CertificateError::UnhandledCriticalExtension => UNKNOWN_EXTENSION,
        CertificateError::Revoked => "revoked",
        _ => "not accepted",
    };
    words.to_owned()
}

fn of_alert(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::HandshakeFailure => {
            return format!(
                "the server ended the handshake: handshake failure, nothing in common; its key may be of a kind that is \
                 not supported ({SUPPORTED})"
            );
        }
        AlertDescription::ProtocolVersion => "protocol version; supported: TLS 1.2 and 1.3",
        AlertDescription::InsufficientSecurity => "insufficient security",
        AlertDescription::UnrecognisedName => {
            "unrecognized name: the server has no certificate for this host"
        }
        AlertDescription::CertificateRequired => {
            "certificate required: this program has no client certificate"
        }
        AlertDescription::BadCertificate => {
            "bad certificate: the server may ask for a client certificate, and this program has none"
        }
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::InternalError => "internal error",
        AlertDescription::CloseNotify => "closed",
        other => return format!("the server ended the handshake: alert {}", u8::from(other)),
    };
    format!("the server ended the handshake: {words}")
}
