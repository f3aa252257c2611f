//! A placement in one allocation, because a cluster may have thousands. Unpacked, each text is an
//! allocation of its own and takes several times its length. A placement is unpacked only while it
//! is compared with a node.

use std::sync::Arc;

use crate::core::eligibility::{
    Operator, Placement, Requirement, TaintEffect, Term, ToleratedEffect, Toleration,
    TolerationOperator,
};

/// Equal placements have equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackedPlacement(Arc<[u8]>);

const OPERATORS: [Operator; 7] = [
    Operator::In,
    Operator::NotIn,
    Operator::Exists,
    Operator::DoesNotExist,
    Operator::Gt,
    Operator::Lt,
    Operator::Unknown,
];

const TOLERATION_OPERATORS: [TolerationOperator; 5] = [
    TolerationOperator::Equal,
    TolerationOperator::Exists,
    TolerationOperator::Gt,
    TolerationOperator::Lt,
    TolerationOperator::Unknown,
];

const EFFECTS: [Option<ToleratedEffect>; 4] = [
    None,
    Some(ToleratedEffect::Of(TaintEffect::NoSchedule)),
    Some(ToleratedEffect::Of(TaintEffect::NoExecute)),
    Some(ToleratedEffect::Other),
];

impl PackedPlacement {
    pub fn of(placement: &Placement) -> PackedPlacement {
        let mut out = Writer::default();
        out.count(usize::from(placement.has_host_network));
        out.text(&placement.node_name);
        out.count(placement.selector.len());
        for (key, value) in &placement.selector {
            out.text(key);
            out.text(value);
        }
        // No affinity differs from an affinity without terms.
        out.count(placement.affinity.as_ref().map_or(0, |terms| terms.len() + 1));
        for term in placement.affinity.iter().flatten() {
            out.requirements(&term.labels);
            out.requirements(&term.fields);
        }
        out.count(placement.tolerations.len());
        for toleration in &placement.tolerations {
            out.text(&toleration.key);
            out.one_of(&toleration.operator, &TOLERATION_OPERATORS);
            out.text(&toleration.value);
            out.one_of(&toleration.effect, &EFFECTS);
        }
        PackedPlacement(out.0.into())
    }

    pub fn unpack(&self) -> Placement {
        let mut from = Reader(&self.0);
        Placement {
            has_host_network: from.count() == 1,
            node_name: from.text().into(),
            selector: (0..from.count())
                .map(|_| (from.text().to_owned(), from.text().to_owned()))
                .collect(),
            affinity: from.count().checked_sub(1).map(|terms| {
                let term = |_| Term { labels: from.requirements(), fields: from.requirements() };
                (0..terms).map(term).collect()
            }),
            tolerations: (0..from.count())
                .map(|_| Toleration {
                    key: from.text().into(),
                    operator: from
                        .one_of(&TOLERATION_OPERATORS)
                        .unwrap_or(TolerationOperator::Unknown),
                    value: from.text().into(),
                    effect: from.one_of(&EFFECTS).unwrap_or(Some(ToleratedEffect::Other)),
                })
                .collect(),
        }
    }

    pub fn byte_len(&self) -> usize {
        self.0.len()
    }

    pub fn reference_count(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    /// LEB128: seven bits in each byte, the lowest first.
    fn count(&mut self, mut count: usize) {
        while count >= 0x80 {
            self.0.push(count as u8 | 0x80);
            count >>= 7;
        }
        self.0.push(count as u8);
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn one_of<T: PartialEq>(&mut self, one: &T, all: &[T]) {
        self.count(all.iter().position(|other| other == one).unwrap_or_default());
    }

    fn requirements(&mut self, all: &[Requirement]) {
        self.count(all.len());
        for Requirement { key, operator, values } in all {
            self.text(key);
            self.one_of(operator, &OPERATORS);
            self.count(values.len());
            values.iter().for_each(|value| self.text(value));
        }
    }
}

/// Reads bytes of the writer above. A missing part reads as empty.
struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    fn count(&mut self) -> usize {
        let (mut count, mut shift) = (0, 0);
        while let Some((byte, rest)) = self.0.split_first() {
            self.0 = rest;
            count |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        count
    }

    fn text(&mut self) -> &'p str {
        let length = self.count();
        let (text, rest) = self.0.split_at_checked(length).unwrap_or_default();
        self.0 = rest;
        std::str::from_utf8(text).unwrap_or_default()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.count()).copied()
    }

    fn requirements(&mut self) -> Box<[Requirement]> {
        (0..self.count())
            .map(|_| Requirement {
                key: self.text().into(),
                operator: self.one_of(&OPERATORS).unwrap_or(Operator::Unknown),
                values: (0..self.count()).map(|_| self.text().into()).collect(),
            })
            .collect()
    }
}
