//! The paths of the API, and the words in which the server refuses them.

/// The parts of a path.
pub(super) struct Resource {
    pub(super) group: String,
    pub(super) namespace: Option<String>,
    pub(super) resource: String,
    pub(super) name: Option<String>,
}

impl Resource {
    pub(super) fn of(path: &str) -> Resource {
        let path = path.split('?').next().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').split('/').map(str::to_string);
        let group = if parts.next().as_deref() == Some("apis") { parts.next() } else { None };
        let _version = parts.next();
        let rest: Vec<String> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            [word, namespace, rest @ ..] if word == "namespaces" && !rest.is_empty() => {
                (Some(namespace.clone()), rest)
            }
            rest => (None, rest),
        };
        Resource {
            group: group.unwrap_or_default(),
            namespace,
            resource: rest.first().cloned().unwrap_or_default(),
            name: rest.get(1).cloned(),
        }
    }

    /// The path of the same resource in all namespaces.
    pub(super) fn everywhere(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/v1/{}", self.resource),
            group => format!("/apis/{group}/v1/{}", self.resource),
        }
    }

    /// The message with which the server refuses to show it to this user.
    pub(super) fn forbidden(&self, user: &str, verb: Option<&str>) -> String {
        let (resource, group) = (&self.resource, &self.group);
        let subject = match &self.name {
            Some(name) => format!("{resource} {name:?}"),
            None if group.is_empty() => resource.clone(),
            None => format!("{resource}.{group}"),
        };
        let verb = verb.unwrap_or(if self.name.is_some() { "get" } else { "list" });
        let place = match &self.namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_string(),
        };
        format!(
            "{subject} is forbidden: User {user:?} cannot {verb} resource {resource:?} \
             in API group {group:?} {place}"
        )
    }
}
