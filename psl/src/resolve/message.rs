//! One DNS query, and the verdict on a message that may be its answer (RFC 1035).
//!
//! Bytes in, bytes out, without a socket. The crate `domain` reads names and records; it follows at
//! most 255 pointers of a compressed name.

use std::fmt;
use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::name::NameBuilder;
use domain::base::{Message, MessageBuilder, Name, ToName};
use domain::dep::octseq::Array;
use domain::rdata::{A, Aaaa};

use super::MOST_ADDRESSES;
use super::search::is_name;

/// A header of 12 bytes, a name of 255, type and class.
const LONGEST_QUERY: usize = 12 + 255 + 4;

/// The address family of a query, which is for A or AAAA records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    fn rtype(self) -> Rtype {
        match self {
            Family::V4 => Rtype::A,
            Family::V6 => Rtype::AAAA,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Family::V4 { "A" } else { "AAAA" })
    }
}

#[derive(Debug)]
pub struct Query {
    name: Name<Array<255>>,
    pub family: Family,
    id: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageVerdict {
    /// Not an answer to this query: another identifier or question, or no answer at all.
    Foreign,
    /// Truncated: the whole answer comes over TCP.
    Truncated,
    /// The answer, which every server would give.
    Final(DnsAnswer),
    Failed(ServerError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// At least one address, in the server's order.
    Addresses(Vec<IpAddr>),
    /// The name exists and has records, such as an alias, but no address.
    NoAddress,
    /// The name exists without a record of this type.
    NoData,
    NoName,
}

/// The reason for which a server has not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerError {
    Code(u8),
    /// It refers to other servers, and does not query them itself.
    Referral,
    /// The answer violates the protocol.
    Malformed,
    /// No messages can be exchanged with it; the system's error.
    Unreachable(String),
}

impl Query {
    /// `None` if no query can hold the name.
    pub fn new(name: &str, family: Family, id: u16) -> Option<Query> {
        if !is_name(name) {
            return None;
        }
        let mut builder = NameBuilder::<Array<255>>::new();
        for label in name.strip_suffix('.').unwrap_or(name).split('.') {
            builder.append_label(label.as_bytes()).ok()?;
        }
        Some(Query { name: builder.into_name().ok()?, family, id })
    }

    /// The message to the server: recursion desired, no extension (EDNS), as glibc's default.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let mut builder = MessageBuilder::from_target(Array::<LONGEST_QUERY>::new()).ok()?;
        builder.header_mut().set_id(self.id);
        builder.header_mut().set_rd(true);
        let mut question = builder.question();
        question.push((&self.name, self.family.rtype(), Class::IN)).ok()?;
        Some(question.finish().as_ref().to_vec())
    }

    pub fn judge(&self, bytes: &[u8]) -> MessageVerdict {
        let Ok(message) = Message::from_octets(bytes) else { return MessageVerdict::Foreign };
        let (header, counts) = (message.header(), message.header_counts());
        if header.id() != self.id || !header.qr() || header.opcode() != Opcode::QUERY {
            return MessageVerdict::Foreign;
        }
        let rcode = header.rcode();
        let is_failure = !matches!(rcode, Rcode::NOERROR | Rcode::NXDOMAIN);
        // A server that could not read the question may leave it out.
        let may_omit_question = is_failure && counts.qdcount() == 0;
        if !may_omit_question && !self.is_question_of(&message) {
            return MessageVerdict::Foreign;
        }
        if is_failure {
            return MessageVerdict::Failed(ServerError::Code(rcode.to_int()));
        }
        if header.tc() {
            return MessageVerdict::Truncated;
        }
        if rcode == Rcode::NXDOMAIN {
            return MessageVerdict::Final(DnsAnswer::NoName);
        }
        if counts.ancount() == 0 {
            let is_referral = !header.aa() && !header.ra() && counts.arcount() == 0;
            return match is_referral {
                true => MessageVerdict::Failed(ServerError::Referral),
                false => MessageVerdict::Final(DnsAnswer::NoData),
            };
        }
        match self.addresses(&message) {
            None => MessageVerdict::Failed(ServerError::Malformed),
            Some(addresses) if addresses.is_empty() => MessageVerdict::Final(DnsAnswer::NoAddress),
            Some(addresses) => MessageVerdict::Final(DnsAnswer::Addresses(addresses)),
        }
    }

    fn is_question_of(&self, message: &Message<&[u8]>) -> bool {
        message.sole_question().is_ok_and(|question| {
            question.qname().name_eq(&self.name)
                && question.qtype() == self.family.rtype()
                && question.qclass() == Class::IN
        })
    }

    /// The addresses of the name, or of the end of its chain of aliases. `None` if the answer is
    /// malformed, or the chain is longer than 20.
    fn addresses(&self, message: &Message<&[u8]>) -> Option<Vec<IpAddr>> {
        let mut found: Vec<IpAddr> = Vec::new();
        let owner = message.canonical_name()?;
        for record in message.answer().ok()? {
            let record = record.ok()?;
            if record.class() != Class::IN || !record.owner().name_eq(&owner) {
                continue;
            }
            let ip: Option<IpAddr> = match self.family {
                Family::V4 => record.to_record::<A>().ok()?.map(|a| a.data().addr().into()),
                Family::V6 => record.to_record::<Aaaa>().ok()?.map(|a| a.data().addr().into()),
            };
            if let Some(ip) = ip.map(|ip| ip.to_canonical()).filter(|ip| !found.contains(ip)) {
                found.push(ip);
            }
            if found.len() == MOST_ADDRESSES {
                break;
            }
        }
        Some(found)
    }
}

impl ServerError {
    /// The server has tried, and failed.
    pub const SERVFAIL: ServerError = ServerError::Code(2);

    pub fn describe(&self, server: IpAddr) -> String {
        let text = match self {
            ServerError::Code(1) => "FORMERR",
            ServerError::Code(2) => "SERVFAIL",
            ServerError::Code(4) => "NOTIMP",
            ServerError::Code(5) => "REFUSED",
            ServerError::Code(code) => return format!("code {code} from {server}"),
            ServerError::Referral => "a referral to other servers",
            ServerError::Malformed => "a malformed answer",
            ServerError::Unreachable(error) => return format!("no answer from {server}: {error}"),
        };
        format!("{text} from {server}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(family: Family) -> Query {
        Query::new("lock.example", family, 0x1234).unwrap()
    }

    /// An answer with these flags and records; their owner is the question's name.
    fn answer(family: Family, flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = query(family).bytes().unwrap();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        let mut owner = 12;
        for (kind, data) in records {
            bytes.extend_from_slice(&[0xc0, owner]);
            // The records after an alias belong to its target.
            owner = if *kind == 5 { bytes.len() as u8 + 10 } else { owner };
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0, 0, 0, 5]);
            bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
            bytes.extend_from_slice(data);
        }
        bytes
    }

    const V4: &[u8] = &[10, 0, 0, 1];
    const V6: &[u8] = &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const ALIAS: &[u8] = &[1, b'a', 0xc0, 12];

    const OTHER: &[u8] = &[1, b'b', 0xc0, 12];

    fn addresses(texts: &[&str]) -> MessageVerdict {
        MessageVerdict::Final(DnsAnswer::Addresses(
            texts.iter().map(|text| text.parse().unwrap()).collect(),
        ))
    }

    #[test]
    fn queries_are_encoded() {
        let expected = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x04lock\x07example\0\0\x1c\0\x01";
        assert_eq!(query(Family::V6).bytes().as_deref(), Some(&expected[..]));
        assert_eq!(
            Query::new("lock.example.", Family::V6, 0x1234).unwrap().bytes().as_deref(),
            Some(&expected[..])
        );
        let (label, long) = ("a".repeat(64), "a.".repeat(128));
        for name in ["", ".", "a..b", &label, &long] {
            assert!(Query::new(name, Family::V4, 1).is_none(), "{name}");
        }
        assert_eq!(
            Query::new(&long[..253], Family::V4, 1).unwrap().bytes().unwrap().len(),
            LONGEST_QUERY
        );
    }

    #[test]
    fn verdicts() {
        use Family::{V4 as A, V6 as AAAA};
        let failed = |code| MessageVerdict::Failed(ServerError::Code(code));
        let malformed = || MessageVerdict::Failed(ServerError::Malformed);
        let mut of_another = answer(A, 0x8180, &[(1, V4)]);
        of_another[31] = 17;
        for (name, bytes, family, expected) in [
            ("an address", answer(A, 0x8180, &[(1, V4)]), A, addresses(&["10.0.0.1"])),
            ("of IPv6", answer(AAAA, 0x8180, &[(28, V6)]), AAAA, addresses(&["fd00::1"])),
            (
                "twice",
                answer(A, 0x8180, &[(1, V4), (1, V4), (1, &[9; 4])]),
                A,
                addresses(&["10.0.0.1", "9.9.9.9"]),
            ),
            (
                "behind an alias",
                answer(A, 0x8180, &[(5, ALIAS), (1, V4)]),
                A,
                addresses(&["10.0.0.1"]),
            ),
            (
                "behind two aliases",
                answer(A, 0x8180, &[(5, ALIAS), (5, OTHER), (1, V4)]),
                A,
                addresses(&["10.0.0.1"]),
            ),
            (
                "a cycle of aliases",
                answer(A, 0x8180, &[(5, ALIAS), (5, ALIAS), (1, V4)]),
                A,
                malformed(),
            ),
            ("of another name", of_another, A, MessageVerdict::Final(DnsAnswer::NoAddress)),
            (
                "the other family",
                answer(A, 0x8180, &[(28, V6)]),
                A,
                MessageVerdict::Final(DnsAnswer::NoAddress),
            ),
            (
                "an alias alone",
                answer(A, 0x8180, &[(5, ALIAS)]),
                A,
                MessageVerdict::Final(DnsAnswer::NoAddress),
            ),
            ("no record", answer(A, 0x8180, &[]), A, MessageVerdict::Final(DnsAnswer::NoData)),
            (
                "no record, authoritative",
                answer(A, 0x8400, &[]),
                A,
                MessageVerdict::Final(DnsAnswer::NoData),
            ),
            (
                "a referral",
                answer(A, 0x8000, &[]),
                A,
                MessageVerdict::Failed(ServerError::Referral),
            ),
            ("no such name", answer(A, 0x8183, &[]), A, MessageVerdict::Final(DnsAnswer::NoName)),
            (
                "an alias of no such name",
                answer(A, 0x8183, &[(5, ALIAS)]),
                A,
                MessageVerdict::Final(DnsAnswer::NoName),
            ),
            ("FORMERR", answer(A, 0x8181, &[]), A, failed(1)),
            ("SERVFAIL", answer(A, 0x8182, &[]), A, failed(2)),
            ("SERVFAIL with a record", answer(A, 0x8182, &[(1, V4)]), A, failed(2)),
            ("NOTIMP", answer(A, 0x8184, &[]), A, failed(4)),
            ("REFUSED", answer(A, 0x8185, &[]), A, failed(5)),
            ("an unheard-of code", answer(A, 0x818b, &[]), A, failed(11)),
            ("truncated", answer(A, 0x8380, &[(1, V4)]), A, MessageVerdict::Truncated),
            ("a query", answer(A, 0x0100, &[]), A, MessageVerdict::Foreign),
            ("a notification", answer(A, 0xa400, &[]), A, MessageVerdict::Foreign),
            (
                "the answer to the other query",
                answer(A, 0x8180, &[(1, V4)]),
                AAAA,
                MessageVerdict::Foreign,
            ),
            ("an address of three bytes", answer(A, 0x8180, &[(1, &[1; 3])]), A, malformed()),
        ] {
            assert_eq!(query(family).judge(&bytes), expected, "{name}");
        }
    }

    #[test]
    fn the_question_must_match() {
        let good = answer(Family::V4, 0x8180, &[(1, V4)]);
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            query(Family::V4).judge(&bytes)
        };
        assert_eq!(changed(13, b'L'), addresses(&["10.0.0.1"]), "letters of either case");
        for (name, at, to) in [
            ("identifier", 0, 0),
            ("name", 13, b'x'),
            ("type", 27, 2),
            ("class", 29, 3),
            ("no question", 5, 0),
        ] {
            assert_eq!(changed(at, to), MessageVerdict::Foreign, "{name}");
        }
        let mut refusal = answer(Family::V4, 0x8181, &[]);
        refusal.truncate(12);
        refusal[5] = 0;
        assert_eq!(
            query(Family::V4).judge(&refusal),
            MessageVerdict::Failed(ServerError::Code(1)),
            "without its question"
        );
        refusal[3] = 0x80;
        assert_eq!(query(Family::V4).judge(&refusal), MessageVerdict::Foreign);
    }

    #[test]
    fn malformed_messages_are_refused() {
        let good = answer(Family::V4, 0x8180, &[(5, ALIAS), (1, V4)]);
        for end in 0..good.len() {
            assert!(
                !matches!(query(Family::V4).judge(&good[..end]), MessageVerdict::Final(_)),
                "cut at {end}"
            );
        }
        let mut many = answer(Family::V4, 0x8180, &[]);
        many[6..8].copy_from_slice(&[255, 255]);
        assert_eq!(
            query(Family::V4).judge(&many),
            MessageVerdict::Failed(ServerError::Malformed),
            "missing records"
        );
        // Pointers to themselves and in a cycle.
        for pointers in
            [&[0xc0, 30][..], &[0xc0, 32, 0xc0, 30], &[1, b'a', 0xc0, 30], &[0xff, 0xff]]
        {
            let mut bytes = many.clone();
            bytes.extend_from_slice(pointers);
            bytes.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 1]);
            assert_eq!(
                query(Family::V4).judge(&bytes),
                MessageVerdict::Failed(ServerError::Malformed),
                "{pointers:?}"
            );
        }
        // As many records as a message can hold, each with the longest chain of pointers.
        let mut bytes = many;
        for at in 0..250u16 {
            let before = if at == 0 { 12 } else { 28 + 2 * at };
            bytes.extend_from_slice(&(0xc000 | before).to_be_bytes());
        }
        while bytes.len() < 65_535 - 12 {
            bytes.extend_from_slice(&[
                0xc0 | (528u16 >> 8) as u8,
                528u16 as u8,
                0,
                16,
                0,
                1,
                0,
                0,
                0,
                5,
                0,
                0,
            ]);
        }
        let _ = query(Family::V4).judge(&bytes);
        let records: Vec<(u16, [u8; 4])> =
            (0..4000u16).map(|n| (1, [10, 0, (n >> 8) as u8, n as u8])).collect();
        let records: Vec<(u16, &[u8])> =
            records.iter().map(|(kind, data)| (*kind, &data[..])).collect();
        let MessageVerdict::Final(DnsAnswer::Addresses(found)) =
            query(Family::V4).judge(&answer(Family::V4, 0x8180, &records))
        else {
            panic!("addresses");
        };
        assert_eq!(found.len(), MOST_ADDRESSES);
    }

    proptest::proptest! {
        #[test]
        fn no_message_panics(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600), has_header in proptest::prelude::any::<bool>()) {
            if has_header && bytes.len() >= 40 {
                let start = answer(Family::V4, 0x8180, &[]);
                bytes[..start.len()].copy_from_slice(&start);
                bytes[7] = 3;
            }
            if let MessageVerdict::Final(DnsAnswer::Addresses(found)) = query(Family::V4).judge(&bytes) {
                assert!(!found.is_empty() && found.len() <= MOST_ADDRESSES && found.iter().all(IpAddr::is_ipv4));
            }
        }
    }
}
