//! Lists of objects: filtered as a server filters them, or made while they are sent. Does not know
//! recordings or requests.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};

use super::recordings::{Query, value};
use super::resource::Resource;
use super::wire::Out;

/// The objects that a test has set for a path.
#[derive(Clone)]
pub(super) enum Source {
    Value(Arc<Value>),
    Big(Arc<BigList>),
}

/// Changes the item of this number.
pub(super) type Edit = Box<dyn Fn(usize, &mut Value) + Send + Sync>;

/// A list of copies of one item.
pub(super) struct BigList {
    pub(super) count: usize,
    pub(super) honour_limit: bool,
    /// A list whose kind it has, and of whose first item it has copies.
    pub(super) list: Value,
    pub(super) edit: Edit,
}

impl BigList {
    /// The items that a request with this query gets.
    pub(super) fn range(&self, query: &Query) -> Range<usize> {
        let token = value(query, "continue").and_then(|token| token.strip_prefix("item-"));
        let start = token.and_then(|number| number.parse().ok()).unwrap_or(0).min(self.count);
        let limit: usize = value(query, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(0);
        let is_whole = !self.honour_limit || value(query, "resourceVersion") == Some("0");
        match limit {
            0 => start..self.count,
            _ if is_whole => start..self.count,
            limit => start..self.count.min(start + limit),
        }
    }

    /// Sends these items, or the first half of them without the closing bracket.
    pub(super) fn send(
        &self,
        out: &mut Out<'_>,
        range: Range<usize>,
        half: bool,
    ) -> io::Result<()> {
        let mut metadata = json!({"resourceVersion": "316"});
        if range.end < self.count {
            metadata["continue"] = json!(format!("item-{}", range.end));
            metadata["remainingItemCount"] = json!(self.count - range.end);
        }
        let (kind, version) = (text(&self.list["kind"]), text(&self.list["apiVersion"]));
        let mut piece = format!(
            r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{metadata},"items":["#
        )
        .into_bytes();
        let last = if half { range.start + range.len() / 2 } else { range.end };
        for number in range.start..last {
            if number > range.start {
                piece.push(b',');
            }
            serde_json::to_writer(&mut piece, &self.item(number)).expect("JSON in memory");
            if piece.len() >= 64 * 1024 {
                out.piece(&piece)?;
                piece.clear();
            }
        }
        if !half {
            piece.extend_from_slice(b"]}\n");
        }
        out.piece(&piece)
    }

    fn item(&self, number: usize) -> Value {
        let mut item = self.list["items"][0].clone();
        let name = format!("{}-{number:06}", text(&item["metadata"]["name"]));
        item["metadata"]["name"] = json!(name);
        item["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
        (self.edit)(number, &mut item);
        item
    }
}

/// The text of a string; empty for any other value.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A list with the items that the request selects; any other value as it is.
pub(super) fn filtered(body: &Value, resource: &Resource, query: &Query) -> Value {
    let mut body = body.clone();
    let Some(items) = body.get_mut("items").and_then(Value::as_array_mut) else { return body };
    items.retain(|item| {
        let namespace = text(&item["metadata"]["namespace"]);
        let field = |path: &str| {
            let value = item.pointer(&format!("/{}", path.replace('.', "/")))?;
            Some(text(value).to_string())
        };
        let label = |key: &str| Some(text(item["metadata"]["labels"].get(key)?).to_string());
        resource.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && selects(value(query, "fieldSelector"), &field)
            && selects(value(query, "labelSelector"), &label)
    });
    body
}

/// Equality selectors: fields have no others, and tests need no others of labels.
fn selects(selector: Option<&str>, get: &dyn Fn(&str) -> Option<String>) -> bool {
    let terms = selector.unwrap_or_default().split(',').filter(|term| !term.is_empty());
    terms.into_iter().all(|term| {
        assert!(!term.contains(['(', ')']), "set-based selectors are not replayed: {term}");
        if let Some((key, value)) = term.split_once("!=") {
            get(key).as_deref() != Some(value)
        } else if let Some((key, value)) = term.split_once('=') {
            get(key).as_deref() == Some(value.trim_start_matches('='))
        } else if let Some(key) = term.strip_prefix('!') {
            get(key).is_none()
        } else {
            get(term).is_some()
        }
    })
}
