//! One Event: its name and its body.

use jiff::Timestamp;
use kube_ipvs_core::event::{Kind, ObjectRef};
use kube_ipvs_core::names::Warning;
use kube_ipvs_core::regarding::{Reference, Uid};
use serde_json::{Value, json};

/// The API takes no more bytes in a note.
const LONGEST_NOTE: usize = 1024;
/// Nor more in a name.
const LONGEST_NAME: usize = 253;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// For information.
    Normal,
    /// Something is not served as asked for.
    Warning,
}

/// Something worth an Event.
///
/// The note must be the same on every node that finds the same fact: name no
/// node in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fact {
    /// Whom it is about; `kubectl describe` shows no Event without its uid.
    pub about: Reference,
    /// How bad it is.
    pub severity: Severity,
    /// Why, in one CamelCase word: `AddressClash`.
    pub reason: String,
    /// What was being done, in one CamelCase word: `Compile`.
    pub action: String,
    /// What a person should read.
    pub note: String,
}

impl Fact {
    /// A compile-time warning, for the owner of its object; none if the object
    /// is of a kind that has no owner to tell.
    pub fn of_warning(warning: &Warning) -> Option<Self> {
        let about = warning.object.reference()?;
        if !matches!(about.object.kind, Kind::Service | Kind::EndpointSlice) {
            return None;
        }
        Some(Self {
            about: about.clone(),
            severity: Severity::Warning,
            reason: "ProxyWarning".to_owned(),
            action: "Compile".to_owned(),
            note: warning.message.clone(),
        })
    }

    /// What whoever is in charge of a Node should know.
    pub fn of_node(name: &str, uid: Option<Uid>, note: &str) -> Self {
        let object = ObjectRef {
            kind: Kind::Node,
            namespace: String::new(),
            name: name.to_owned(),
        };
        Self {
            about: Reference { object, uid },
            severity: Severity::Warning,
            reason: "OtherProxy".to_owned(),
            action: "Sync".to_owned(),
            note: note.to_owned(),
        }
    }

    /// The Event's name: the object's, and a hash over all that is said. The
    /// hash is fixed: every node and every version must find the same one.
    pub fn event_name(&self) -> String {
        let ObjectRef {
            kind,
            namespace,
            name,
        } = &self.about.object;
        let uid = self.about.uid.map(|uid| uid.to_string());
        let said = [
            kind.name(),
            namespace,
            name,
            uid.as_deref().unwrap_or_default(),
            &self.reason,
            &self.note,
        ]
        .join("\0");
        let suffix = format!(".{:016x}", fnv1a(said.as_bytes()));
        let room = LONGEST_NAME - suffix.len();
        format!("{}{suffix}", &name[..floor(name, room)])
    }

    /// Where the Event lives: beside its object, those of the cluster in
    /// `default`.
    pub fn event_namespace(&self) -> &str {
        match self.about.object.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        }
    }

    /// The body of an `events.k8s.io/v1` Event.
    pub(super) fn event(&self, node_name: &str, now: Timestamp) -> Value {
        let ObjectRef {
            kind,
            namespace,
            name,
        } = &self.about.object;
        let mut regarding =
            json!({"kind": kind.to_string(), "apiVersion": api_version(*kind), "name": name});
        if !namespace.is_empty() {
            regarding["namespace"] = json!(namespace);
        }
        if let Some(uid) = self.about.uid {
            regarding["uid"] = json!(uid);
        }
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": self.event_name(), "namespace": self.event_namespace()},
            "eventTime": format!("{now:.6}"),
            "reportingController": "kube-ipvs",
            "reportingInstance": limited(&format!("kube-ipvs-{node_name}"), 128),
            "reason": limited(&self.reason, 128), "action": limited(&self.action, 128),
            "regarding": regarding,
            "note": limited(&self.note, LONGEST_NOTE),
            "type": match self.severity { Severity::Normal => "Normal", Severity::Warning => "Warning" },
        })
    }
}

fn api_version(kind: Kind) -> &'static str {
    match kind {
        Kind::Service | Kind::Node => "v1",
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::ServiceCidr => "networking.k8s.io/v1",
    }
}

/// At most so many bytes, cut between characters.
fn limited(text: &str, bytes: usize) -> &str {
    &text[..floor(text, bytes)]
}

fn floor(text: &str, bytes: usize) -> usize {
    (0..=bytes.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::regarding::Regarding;

    use super::*;

    const UID: &str = "5d1c2d9a-0000-4000-8000-000000004711";

    fn fact() -> Fact {
        Fact {
            about: Reference {
                object: ObjectRef {
                    kind: Kind::Service,
                    namespace: "default".into(),
                    name: "web".into(),
                },
                uid: Uid::read(UID),
            },
            severity: Severity::Warning,
            reason: "AddressClash".into(),
            action: "Compile".into(),
            note: "203.0.113.80:80/TCP belongs to default/older".into(),
        }
    }

    #[test]
    fn name_is_the_same_on_every_node_and_in_every_version() {
        assert_eq!(fact().event_name(), "web.68e62efdf31c64c5");
    }

    #[test]
    fn what_is_said_otherwise_has_another_name() {
        let base = fact();
        let other_note = Fact {
            note: "another".into(),
            ..base.clone()
        };
        let other_reason = Fact {
            reason: "Other".into(),
            ..base.clone()
        };
        let mut other_uid = base.clone();
        other_uid.about.uid = None;

        for other in [other_note, other_reason, other_uid] {
            assert_ne!(other.event_name(), base.event_name(), "{other:?}");
        }
    }

    #[test]
    fn body_is_what_the_api_asks_for() {
        let now: Timestamp = "2026-11-21T04:00:00.123456789Z".parse().expect("a time");

        let event = fact().event("node-1", now);

        assert_eq!(
            event,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event",
                "metadata": {"name": fact().event_name(), "namespace": "default"},
                "eventTime": "2026-11-21T04:00:00.123456Z",
                "reportingController": "kube-ipvs", "reportingInstance": "kube-ipvs-node-1",
                "reason": "AddressClash", "action": "Compile",
                "regarding": {
                    "kind": "Service", "apiVersion": "v1", "namespace": "default", "name": "web", "uid": UID,
                },
                "note": "203.0.113.80:80/TCP belongs to default/older", "type": "Warning",
            })
        );
    }

    #[test]
    fn warning_about_a_service_is_a_fact_for_its_owner() {
        let warning = |object: Regarding| Warning {
            object,
            message: "clusterIPs: 10.96.0.300 is no address".into(),
        };

        // A name that would not be one apart: nobody takes it apart.
        let web = Regarding::named(Kind::Service, "de/fault", "web x/y", Uid::read(UID));
        let fact = Fact::of_warning(&warning(web.clone())).expect("a Service has an owner");

        assert_eq!(Some(&fact.about), web.reference());
        assert_eq!(fact.event_namespace(), "de/fault");
        assert_eq!(fact.note, "clusterIPs: 10.96.0.300 is no address");
        let node = Regarding::named(Kind::Node, "", "node-1", None);
        assert_eq!(Fact::of_warning(&warning(node)), None);
        assert_eq!(
            Fact::of_warning(&warning(Regarding::ClusterAddresses)),
            None
        );
    }

    #[test]
    fn what_concerns_a_node_is_about_it() {
        let fact = Fact::of_node("node-1", Uid::read(UID), "another Service proxy works here");

        assert_eq!(fact.about.object.to_string(), "Node node-1");
        assert_eq!(fact.severity, Severity::Warning);
        assert_eq!(fact.event_namespace(), "default");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = Fact {
            note: "ü".repeat(600),
            ..fact()
        };

        let event = long.event("node-1", Timestamp::UNIX_EPOCH);

        assert_eq!(event["note"].as_str().map(str::len), Some(1024));
    }

    #[test]
    fn event_of_a_node_lives_in_default() {
        let mut fact = fact();
        fact.about.object = ObjectRef {
            kind: Kind::Node,
            namespace: String::new(),
            name: "n".repeat(253),
        };

        assert_eq!(fact.event_namespace(), "default");
        assert_eq!(fact.event_name().len(), 253);
    }
}
