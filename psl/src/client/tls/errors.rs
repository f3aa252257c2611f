//! The errors of certificates and handshakes as text.
//!
//! The library's own texts are the names of its variants and the bytes of object identifiers.

use std::net::IpAddr;

use rustls::{AlertDescription, CertificateError, Error};

use super::keys::{SUPPORTED, algorithm};
use crate::text::one_line;

/// A longer list of names would hide the rest of the message.
const MOST_NAMES: usize = 5;

const UNKNOWN_ISSUER: &str = "unknown issuer: no certificate of the CA file has issued it";
const EXPIRED: &str = "certificate has expired";
const NOT_YET_VALID: &str = "certificate is not yet valid";
const BAD_SIGNATURE: &str = "bad signature";
const WRONG_PURPOSE: &str = "not for servers (extended key usage without serverAuth)";
const UNKNOWN_EXTENSION: &str = "critical extension that is not supported";
const MALFORMED: &str = "malformed";
const CA_AS_SERVER: &str = "the server shows a CA certificate (CA:TRUE, as openssl req -x509 makes them); \
     to accept it, add this certificate to the CA file";

/// The error with which the verifier rejects a certificate. The library shows it unchanged.
pub(super) fn rejection(reason: &str) -> Error {
    Error::General(format!("certificate verify failed: {reason}"))
}

pub(super) fn of_issuer_key(key: &str) -> String {
    format!("its issuer's key is {key}, which is not supported ({SUPPORTED})")
}

pub(super) fn of_own_key(key: &str) -> String {
    format!("its key is {key}, which is not supported ({SUPPORTED})")
}

fn of_signature(identifier: &[u8]) -> String {
    format!("signed with {}, which is not supported ({SUPPORTED})", algorithm(identifier))
}

pub(super) fn of_certificate(error: &webpki::Error) -> String {
    use webpki::Error as Cause;
    match error {
        Cause::CertNotValidForName(context) => {
            of_names(&context.expected.to_str(), &context.presented)
        }
        Cause::UnsupportedSignatureAlgorithmContext(context) => {
            of_signature(&context.signature_algorithm_id)
        }
        Cause::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            of_issuer_key(&algorithm(&context.public_key_algorithm_id))
        }
        error => plain(error).to_owned(),
    }
}

fn plain(error: &webpki::Error) -> &'static str {
    use webpki::Error as Cause;
    match error {
        // Without the time: it would make the same error look new each day.
        Cause::CertExpired { .. } => EXPIRED,
        Cause::CertNotValidYet { .. } => NOT_YET_VALID,
        Cause::InvalidCertValidity => "validity ends before it begins",
        Cause::UnknownIssuer => UNKNOWN_ISSUER,
        Cause::CaUsedAsEndEntity => CA_AS_SERVER,
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
            "more intermediates than its issuer allows (path length)"
        }
        Cause::UnsupportedCertVersion => "X.509 version 1 or 2; supported: version 3",
        Cause::UnsupportedCriticalExtension => UNKNOWN_EXTENSION,
        Cause::MaximumPathDepthExceeded
        | Cause::MaximumPathBuildCallsExceeded
        | Cause::MaximumSignatureChecksExceeded
        | Cause::MaximumNameConstraintComparisonsExceeded => "too many certificates to check",
        Cause::BadDer
        | Cause::BadDerTime
        | Cause::TrailingData(_)
        | Cause::ExtensionValueInvalid
        | Cause::InvalidSerialNumber
        | Cause::MalformedDnsIdentifier
        | Cause::MalformedExtensions
        | Cause::UnsupportedNameType => MALFORMED,
        _ => "not accepted",
    }
}

/// The library writes names as `DnsName("a.example")` and `IpAddress(127.0.0.1)`. Kinds that name
/// no server, such as an e-mail address, are `Unsupported(0x01)`.
fn of_names(expected: &str, presented: &[String]) -> String {
    let wrong = format!("certificate not valid for name {}", one_line(expected));
    if presented.is_empty() {
        return format!("{wrong}: no subjectAltName, and the common name is ignored");
    }
    let names: Vec<_> = presented.iter().filter(|name| !name.starts_with("Unsupported(")).collect();
    if names.is_empty() {
        return format!("{wrong}: its subjectAltName holds no DNS name and no IP address");
    }
    let listed: Vec<_> = names.iter().take(MOST_NAMES).map(|name| bare_name(name)).collect();
    let listed = listed.join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => format!("{wrong}; valid for {listed}"),
        more => format!("{wrong}; valid for {listed} and {more} more"),
    }
}

fn bare_name(name: &str) -> String {
    let (kind, rest) = name.split_once('(').unwrap_or(("", name));
    let inner = rest.strip_suffix(')').unwrap_or(rest).trim_matches('"');
    let shown = one_line(inner);
    match kind == "DnsName" && inner.parse::<IpAddr>().is_ok() {
        true => {
            format!("{shown} as a DNS name, which is not valid for an address (use IP:)")
        }
        false => shown,
    }
}

/// The error of a handshake, or of a message after it.
pub(crate) fn describe(error: &Error) -> String {
    let reason = match error {
        Error::General(reason) => return reason.clone(),
        Error::InvalidCertificate(cause) => {
            return format!("certificate verify failed: {}", of_cause(cause));
        }
        Error::AlertReceived(alert) => return of_alert(*alert),
        Error::PeerIncompatible(_) => {
            "the server has no TLS version, cipher suite or key exchange in common with this program (TLS 1.2 or 1.3, \
             AES-GCM, X25519 or P-256 or P-384)"
        }
        Error::InvalidMessage(_) => "the answer is not TLS: the port may speak plain http",
        Error::NoCertificatesPresented => "the server shows no certificate",
        Error::DecryptError => "a record cannot be decrypted",
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerSentOversizedRecord => "the server violates the TLS protocol",
        Error::UnsupportedNameType => "a certificate cannot hold the server's name",
        Error::FailedToGetCurrentTime => "the system clock cannot be read",
        Error::FailedToGetRandomBytes => "the system gives no random bytes",
        Error::EncryptError => "a record cannot be encrypted",
        _ => return "TLS handshake failed".to_owned(),
    };
    format!("TLS handshake failed: {reason}")
}

/// An error that the library itself finds, such as a bad signature of the handshake.
fn of_cause(cause: &CertificateError) -> String {
    use CertificateError as Cause;
    let reason = match cause {
        Cause::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            return of_signature(signature_algorithm_id);
        }
        Cause::UnsupportedSignatureAlgorithmForPublicKeyContext {
            public_key_algorithm_id, ..
        } => return of_own_key(&algorithm(public_key_algorithm_id)),
        Cause::NotValidForNameContext { expected, presented } => {
            return of_names(&expected.to_str(), presented);
        }
        Cause::NotValidForName => "certificate not valid for name",
        Cause::Expired | Cause::ExpiredContext { .. } => EXPIRED,
        Cause::NotValidYet | Cause::NotValidYetContext { .. } => NOT_YET_VALID,
        Cause::UnknownIssuer => UNKNOWN_ISSUER,
        Cause::BadSignature => BAD_SIGNATURE,
        Cause::BadEncoding => MALFORMED,
        Cause::InvalidPurpose | Cause::InvalidPurposeContext { .. } => WRONG_PURPOSE,
        Cause::UnhandledCriticalExtension => UNKNOWN_EXTENSION,
        Cause::Revoked => "revoked",
        _ => "not accepted",
    };
    reason.to_owned()
}

fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let reason = match alert {
        Alert::HandshakeFailure => &format!(
            "handshake failure, nothing in common; its key may be of a kind that is not supported ({SUPPORTED})"
        ),
        Alert::ProtocolVersion => "protocol version; supported: TLS 1.2 and 1.3",
        Alert::InsufficientSecurity => "insufficient security",
        Alert::UnrecognisedName => "unrecognized name: the server has no certificate for this host",
        Alert::CertificateRequired => {
            "certificate required: this program has no client certificate"
        }
        Alert::BadCertificate => {
            "bad certificate: the server may ask for a client certificate, and this program has none"
        }
        Alert::AccessDenied => "access denied",
        Alert::InternalError => "internal error",
        Alert::CloseNotify => "closed",
        other => &format!("alert {}", u8::from(other)),
    };
    format!("TLS handshake failed: the server ended it: {reason}")
}
