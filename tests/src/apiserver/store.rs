//! The objects, their resource versions and the history that watches read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::selector::Selector;

/// Changes kept for watches that start from an old resource version.
const HISTORY: usize = 20_000;

/// Resource, namespace, name.
pub(super) type Key = (String, String, String);

/// One change of one object.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) resource: String,
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
}

impl Change {
    /// What a watch with this selector sees of the change: an object that
    /// stops matching is deleted for it.
    pub(super) fn seen_through(&self, selector: &Selector) -> Option<(&'static str, Arc<Value>)> {
        let before = self
            .before
            .as_ref()
            .filter(|object| selector.matches(object));
        let after = self
            .after
            .as_ref()
            .filter(|object| selector.matches(object));
        match (before, after) {
            (None, Some(after)) => Some(("ADDED", after.clone())),
            (Some(_), Some(after)) => Some(("MODIFIED", after.clone())),
            (Some(before), None) => Some(("DELETED", Arc::new(at_version(before, self.version)))),
            (None, None) => None,
        }
    }
}

/// All objects of all resources.
#[derive(Debug, Clone)]
pub(super) struct Store {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// Changes at or below this version are forgotten.
    forgotten: u64,
    pages: BTreeMap<String, (u64, Vec<Arc<Value>>)>,
    /// Page tokens handed out, to make each unlike the others.
    tokens: u64,
}

impl Default for Store {
    fn default() -> Self {
        // Resource versions of a real server never start at 0, which means "any".
        Self {
            version: 1,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            forgotten: 1,
            pages: BTreeMap::new(),
            tokens: 0,
        }
    }
}

impl Store {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Adds or replaces an object, fills in uid, creation time and resource
    /// version, and returns the new resource version.
    pub(super) fn upsert(&mut self, resource: &str, mut object: Value) -> u64 {
        let key = key_of(resource, &object);
        self.version += 1;
        let version = self.version;
        let before = self.objects.get(&key).cloned();
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(version.to_string());
        for (field, fresh) in [
            (
                "uid",
                format!("{:08x}-0000-4000-8000-{version:012x}", fold(&key)),
            ),
            ("creationTimestamp", "2026-01-01T00:00:00Z".to_owned()),
        ] {
            if metadata[field].is_null() {
                let kept = before
                    .as_ref()
                    .map(|object| object["metadata"][field].clone());
                metadata[field] = kept
                    .filter(|value| !value.is_null())
                    .unwrap_or_else(|| json!(fresh));
            }
        }
        let after = Arc::new(object);
        self.objects.insert(key, after.clone());
        self.remember(Change {
            version,
            resource: resource.to_owned(),
            before,
            after: Some(after),
        });
        version
    }

    /// Removes an object and returns it as it was; none if there was none.
    pub(super) fn delete(
        &mut self,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let before = self.objects.remove(&key)?;
        self.version += 1;
        self.remember(Change {
            version: self.version,
            resource: resource.to_owned(),
            before: Some(before.clone()),
            after: None,
        });
        Some(before)
    }

    pub(super) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.objects
            .get(&(resource.to_owned(), namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// What a list returns now.
    pub(super) fn list(
        &self,
        resource: &str,
        namespace: &str,
        selector: &Selector,
    ) -> Vec<Arc<Value>> {
        self.objects
            .iter()
            .filter(|((at, within, _), _)| {
                at == resource && (namespace.is_empty() || within == namespace)
            })
            .filter(|(_, object)| selector.matches(object))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// What a list returned at an older version; `None` if that is forgotten.
    pub(super) fn list_at(
        &self,
        version: u64,
        resource: &str,
        selector: &Selector,
    ) -> Option<Vec<Arc<Value>>> {
        if version < self.forgotten {
            return None;
        }
        let mut objects: BTreeMap<Key, Arc<Value>> = self
            .objects
            .iter()
            .filter(|(key, _)| key.0 == resource)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for change in self
            .history
            .iter()
            .rev()
            .take_while(|change| change.version > version)
        {
            if change.resource != resource {
                continue;
            }
            let Some(object) = change.before.as_ref().or(change.after.as_ref()) else {
                continue;
            };
            let key = key_of(resource, object);
            match &change.before {
                Some(before) => objects.insert(key, before.clone()),
                None => objects.remove(&key),
            };
        }
        Some(
            objects
                .into_values()
                .filter(|object| selector.matches(object))
                .collect(),
        )
    }

    /// The changes after a version; `None` if some of them are forgotten.
    pub(super) fn changes_after(&self, version: u64, resource: &str) -> Option<Vec<Change>> {
        if version < self.forgotten {
            return None;
        }
        let start = self
            .history
            .partition_point(|change| change.version <= version);
        Some(
            self.history
                .range(start..)
                .filter(|change| change.resource == resource)
                .cloned()
                .collect(),
        )
    }

    /// Becomes what it was when a copy was taken: versions too. The history of
    /// that time is gone, as etcd's is after a restore.
    pub(super) fn restore(&mut self, copy: Self) {
        *self = copy;
        self.history.clear();
        self.pages.clear();
        self.forgotten = self.version;
    }

    /// Forgets all history: older resource versions and page tokens are gone.
    pub(super) fn forget(&mut self) {
        // A version of its own, so that even the newest one handed out is old.
        self.version += 1;
        self.forgotten = self.version;
        self.history.clear();
        self.pages.clear();
    }

    /// Keeps the rest of a paged list and returns the token for it.
    pub(super) fn keep_page(&mut self, version: u64, rest: Vec<Arc<Value>>) -> String {
        self.tokens += 1;
        let token = format!("page-{version}-{}", self.tokens);
        self.pages.insert(token.clone(), (version, rest));
        token
    }

    /// The rest of a paged list; `None` if the token has expired.
    pub(super) fn take_page(&mut self, token: &str) -> Option<(u64, Vec<Arc<Value>>)> {
        self.pages.remove(token)
    }

    fn remember(&mut self, change: Change) {
        self.history.push_back(change);
        while self.history.len() > HISTORY {
            if let Some(oldest) = self.history.pop_front() {
                self.forgotten = oldest.version;
            }
        }
    }
}

/// Where an object lives.
fn key_of(resource: &str, object: &Value) -> Key {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (resource.to_owned(), text("namespace"), text("name"))
}

/// A copy with another resource version, as deletions carry it.
fn at_version(object: &Value, version: u64) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    object
}

/// A number from a key, so that uids differ and repeat from run to run.
fn fold(key: &Key) -> u32 {
    let bytes = key.0.bytes().chain(key.1.bytes()).chain(key.2.bytes());
    bytes.fold(2_166_136_261, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(16_777_619)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(ip: &str) -> Value {
        json!({"metadata": {"namespace": "default", "name": "web"}, "spec": {"clusterIP": ip}})
    }

    #[test]
    fn object_that_stops_matching_is_deleted_for_the_watch() {
        let mut store = Store::default();
        let first = store.upsert("services", web("10.96.0.10"));
        store.upsert("services", web("None"));
        let selector = Selector::parse("", "spec.clusterIP!=None").expect("parses");

        let changes = store.changes_after(first, "services").expect("remembered");

        assert_eq!(
            changes[0].seen_through(&selector).map(|(kind, _)| kind),
            Some("DELETED")
        );
    }

    #[test]
    fn older_list_is_rebuilt_from_history() {
        let mut store = Store::default();
        let first = store.upsert("services", web("10.96.0.10"));
        store.delete("services", "default", "web");

        let then = store
            .list_at(first, "services", &Selector::default())
            .expect("remembered");

        assert_eq!(then.len(), 1);
        assert!(store.list("services", "", &Selector::default()).is_empty());
    }

    #[test]
    fn forgotten_history_is_gone() {
        let mut store = Store::default();
        let first = store.upsert("services", web("10.96.0.10"));

        store.forget();

        assert!(store.changes_after(first, "services").is_none());
        assert!(store.changes_after(store.version(), "services").is_some());
    }
}
