//! What a rollout that is broken makes of a Service, or of a node.

use super::{Ask, Way};

const WEB: Ask = Ask::Service("default/web");
/// The node port of `default/web`.
const PORT: Ask = Ask::Front("192.168.50.1:30080");

/// The old pod ends, and the new one does not get ready.
pub const BROKEN: Way = Way {
    symptom: "a rollout is stuck: no new pod gets ready, and the old ones leave",
    ask: WEB,
    answer: "from outside  served by 1 real server; it is leaving: none of the port's 2 endpoints is ready",
    says: "it is leaving: … none of the port's … is ready",
    never: &["refused", "dropped", "no endpoints"],
    remedy: "see why the new ones are not ready, before the old ones have ended",
};
/// The old pod has ended.
pub const OVER: Way = Way {
    symptom: "the same, and the old ones have ended",
    ask: WEB,
    answer: "from outside  refused: none of the port's 2 endpoints is ready",
    says: "none of the port's … is ready",
    never: &["served by", "no endpoints", "it is leaving", "only drain"],
    remedy: "the same, at once: nobody answers",
};
/// Nothing comes after the old ones.
pub const ALL_LEAVE: Way = Way {
    symptom: "all pods leave, and none comes",
    ask: WEB,
    answer: "from outside  served by 2 real servers; they are leaving: none of the port's 2 endpoints is ready",
    says: "they are leaving: … none of the port's … is ready",
    never: &["refused", "dropped", "no endpoints"],
    remedy: "see why there are no new ones",
};
/// A DaemonSet's pod on this node ends, those of other nodes are ready.
pub const HERE_LEAVES: Way = Way {
    symptom: "the policy of traffic from outside is Local, and the pod here leaves",
    ask: PORT,
    answer: "; it is leaving: the policy is Local, and of the port's 1 ready endpoint none is on this node",
    says: "it is leaving: … the policy is Local, and of the port's … none is on this node",
    never: &[
        "dropped",
        "refused",
        "from pods     served by 1 real server; it is leaving",
    ],
    remedy: "see why the new pod of this node is not ready, before the old one has ended",
};
/// It has ended.
pub const HERE_OVER: Way = Way {
    symptom: "the same, and it has ended",
    ask: PORT,
    answer: "from outside  dropped: externalTrafficPolicy is Local, and no ready endpoint is on this node",
    says: "externalTrafficPolicy is Local, and no ready endpoint is on this node",
    never: &[
        "from outside  served",
        "it is leaving",
        "from pods     refused",
    ],
    remedy: "the same; other nodes answer",
};
/// The same DaemonSet by its `ClusterIP`.
pub const AGENT_LEAVES: Way = Way {
    symptom: "the policy of traffic from inside is Local, and the pod here leaves",
    ask: WEB,
    answer: "from pods     served by 1 real server; it is leaving: the policy is Local, and of the port's 1 ready endpoint none is on this node",
    says: "it is leaving: … the policy is Local, and of the port's … none is on this node",
    never: &["refused", "dropped"],
    remedy: "see why the new pod of this node is not ready, before the old one has ended",
};
/// The new pod is there and not ready.
pub const AGENT_OVER: Way = Way {
    symptom: "the same, and the new pod is not ready",
    ask: WEB,
    answer: "from pods     refused: the policy is Local, and of the port's 1 ready endpoint none is on this node",
    says: "the policy is Local, and of the port's … none is on this node",
    never: &["served by", "it is leaving", "no endpoints"],
    remedy: "the same, at once: nobody answers on this node",
};
/// kube-ipvs itself: the old pod ended, the new one does not get up.
pub const SELF: Way = Way {
    symptom: "a rollout of kube-ipvs: the old pod has ended, the new one ends at once",
    ask: Ask::Status,
    answer: "no kube-ipvs runs here: what it left serves on, and follows no change of the cluster",
    says: "no kube-ipvs runs here: what it left serves on",
    never: &["  state         well\n", "up to date", "  running for "],
    remedy: "`kubectl -n kube-system logs --previous POD`; `kube-ipvs check` on the node",
};
/// The new pod runs, and may not list what it needs.
pub const SELF_UNREADY: Way = Way {
    symptom: "the same, and the new one runs and does not get ready",
    ask: Ask::Status,
    answer: "not ready: ",
    says: "not ready: …",
    never: &["  state         well\n", "no kube-ipvs runs"],
    remedy: "what it says behind `to do`; what the old one left serves on",
};

/// Each by its name.
pub const ROLLOUT: [(&str, Way); 9] = [
    ("rollout::BROKEN", BROKEN),
    ("rollout::OVER", OVER),
    ("rollout::ALL_LEAVE", ALL_LEAVE),
    ("rollout::HERE_LEAVES", HERE_LEAVES),
    ("rollout::HERE_OVER", HERE_OVER),
    ("rollout::AGENT_LEAVES", AGENT_LEAVES),
    ("rollout::AGENT_OVER", AGENT_OVER),
    ("rollout::SELF", SELF),
    ("rollout::SELF_UNREADY", SELF_UNREADY),
];
