//! The names of keys and signature algorithms, read from DER.
//!
//! The library reports them as object identifiers only.

pub(super) const SUPPORTED: &str = "supported: ECDSA P-256, P-384; Ed25519; RSA 2048 to 8192; SHA-256, SHA-384, with RSA also SHA-512";

/// The names of signature algorithms and kinds of keys, by object identifier.
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

/// The tag and content of the first value, and the bytes after it.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ ..0x80 => (usize::from(short), rest),
        0x80..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

pub(super) fn content(der: &[u8]) -> Option<&[u8]> {
    value(der).map(|(_, content, _)| content)
}

fn name(oid: &[u8], names: &[(&[u8], &str)]) -> String {
    match names.iter().find(|(known, _)| *known == oid) {
        Some((_, name)) => (*name).to_owned(),
        None => dotted(oid),
    }
}

/// `algorithm 1.2.840.10045.4.3.4`, for an algorithm without a name.
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

/// The name of an algorithm, from the content of its AlgorithmIdentifier.
pub(super) fn algorithm(identifier: &[u8]) -> String {
    match value(identifier) {
        Some((OBJECT_IDENTIFIER, EC, parameters)) => match value(parameters) {
            Some((OBJECT_IDENTIFIER, curve, _)) => format!("ECDSA on {}", name(curve, CURVES)),
            _ => "ECDSA on a curve of its own".to_owned(),
        },
        Some((OBJECT_IDENTIFIER, oid, _)) => name(oid, ALGORITHMS),
        _ => "an algorithm without a name".to_owned(),
    }
}

/// The name of an unsupported key, from the content of its SubjectPublicKeyInfo; `None` if the key
/// is supported.
pub(super) fn unsupported_key(key: &[u8]) -> Option<String> {
    let (_, identifier, rest) = value(key)?;
    let (_, oid, parameters) = value(identifier)?;
    let is_supported = match oid {
        RSA => {
            let bits = modulus_bits(rest)?;
            return (!(2048..=8192).contains(&bits)).then(|| format!("RSA of {bits} bits"));
        }
        // Parameters of such a key restrict its use.
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
