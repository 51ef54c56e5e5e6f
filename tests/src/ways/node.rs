//! What keeps a node, or its daemon, from serving.

use super::{Ask, Way};

/// A script that breaks a node, and what its `status` says then. As `KERNEL`.
pub const NODE: [(&str, Way); 5] = [
    (
        "nft add table ip fw
         nft add chain ip fw in '{ type filter hook input priority 0; policy drop; }'",
        Way {
            symptom: "a firewall drops what comes in",
            answer: "nft table ip fw, chain in (hook input, priority 0): policy drop: Service traffic may not pass\n",
            says: "Service traffic … may not pass",
            ..STATUS
        },
    ),
    (
        "nft delete table ip fw
         sysctl -qw net.ipv4.ip_forward=0",
        Way {
            symptom: "forwarding was switched off",
            answer: "net.ipv4.ip_forward is 0: answers of endpoints are not forwarded\n",
            says: "answers of endpoints are not forwarded",
            ..STATUS
        },
    ),
    (
        "sysctl -qw net.ipv4.ip_forward=1
         sysctl -qw net.ipv4.vs.conntrack=0",
        Way {
            symptom: "connection tracking of IPVS was switched off",
            answer: "net.ipv4.vs.conntrack is 0: what IPVS sends is not masqueraded\n",
            says: "what IPVS sends is not masqueraded",
            ..STATUS
        },
    ),
    (
        "sysctl -qw net.ipv4.vs.conntrack=1
         nft delete table ip kube-ipvs",
        Way {
            symptom: "rows of our table are gone",
            answer: "rows in our nftables table of Services, and kube-ipvs left ",
            says: "rows in our nftables table … of Services, and kube-ipvs left",
            ..STATUS
        },
    ),
    (
        "ipvsadm -C",
        Way {
            symptom: "virtual servers are gone",
            answer: "the kernel holds 0 virtual servers of Services, and kube-ipvs left ",
            says: "of Services, and kube-ipvs left …",
            ..STATUS
        },
    ),
];

const STATUS: Way = Way {
    symptom: "",
    ask: Ask::Status,
    answer: "",
    says: "",
    never: &["no kube-ipvs runs", "  state         well\n"],
    remedy: "what it says behind `to do`",
};

/// Those that a test makes by hand, each by its name.
pub const OTHERS: [(&str, Way); 22] = [
    ("NO_DAEMON", NO_DAEMON),
    ("NOTHING_LEFT", NOTHING_LEFT),
    ("NO_DAEMON_SERVICE", NO_DAEMON_SERVICE),
    ("NO_DAEMON_REFUSED", NO_DAEMON_REFUSED),
    ("NO_DAEMON_UNKNOWN", NO_DAEMON_UNKNOWN),
    ("HUNG", HUNG),
    ("HUNG_SERVICE", HUNG_SERVICE),
    ("MANIFEST", MANIFEST),
    ("UNDONE", UNDONE),
    ("HOST_PORT", HOST_PORT),
    ("HOST_PORT_OF_VIP", HOST_PORT_OF_VIP),
    ("LOCALHOST", LOCALHOST),
    ("ELSEWHERE", ELSEWHERE),
    ("NODE_NAME", NODE_NAME),
    ("API_SHUT", API_SHUT),
    ("FIRST_LIST", FIRST_LIST),
    ("API_AWAY", API_AWAY),
    ("API_AWAY_SERVICE", API_AWAY_SERVICE),
    ("PROTECTED", PROTECTED),
    ("OTHER_PROXY", OTHER_PROXY),
    ("NO_MODULE", NO_MODULE),
    ("NODE_DNS", NODE_DNS),
];

/// The program was killed.
pub const NO_DAEMON: Way = Way {
    symptom: "the daemon does not run",
    answer: "no kube-ipvs runs here: what it left serves on, and follows no change of the cluster",
    says: "no kube-ipvs runs here",
    never: &["  state         well\n"],
    remedy: "start it; `kube-ipvs check` says what may keep it from running",
    ..STATUS
};
/// Nobody started it yet, or a cleanup took all of it away.
pub const NOTHING_LEFT: Way = Way {
    symptom: "the daemon does not run, and nothing of one is left",
    answer: "no kube-ipvs runs here, and nothing of one is left: it serves no Service",
    says: "no kube-ipvs runs here, and nothing of one is left",
    never: &["  state         well\n", "what it left serves on"],
    remedy: "as above",
    ..STATUS
};
/// The same, by a Service that is served.
pub const NO_DAEMON_SERVICE: Way = Way {
    symptom: "the daemon does not run, and the Service is served",
    ask: Ask::Service("default/hinted"),
    answer: "note: no kube-ipvs runs here: what it left serves on, and follows no change",
    says: "what it left serves on",
    never: &["not judged: what the kube-ipvs"],
    remedy: "start it: what it left serves on, and changes no more",
};
/// The same, by one that is not.
pub const NO_DAEMON_REFUSED: Way = Way {
    symptom: "the daemon does not run, and nobody answers",
    ask: Ask::Front("10.96.1.3:80"),
    answer: "from outside  refused: no endpoint that this node may use is ready, or the kernel refused its virtual server",
    says: "no endpoint that this node may use is ready, or the kernel refused its virtual server",
    never: &["the port has no endpoints", "served by"],
    remedy: "start it; `kubectl get endpointslices`",
};
/// The same, by one that it knew and nobody else here does.
pub const NO_DAEMON_UNKNOWN: Way = Way {
    symptom: "the daemon does not run, and the Service has no virtual server",
    ask: Ask::Service("default/headless"),
    answer: "whether there is such a Service, only a running kube-ipvs could tell",
    says: "a running kube-ipvs could tell",
    never: &["there is no Service"],
    remedy: "start it",
};
/// The program was stopped in the middle of what it does.
pub const HUNG: Way = Way {
    symptom: "the daemon hangs",
    answer: "the kube-ipvs that runs here cannot be asked: ask the kube-ipvs at /run/kube-ipvs/answers.sock: no answer within 10 s",
    says: "the kube-ipvs that runs here cannot be asked",
    never: &["no kube-ipvs runs", "  state         well\n"],
    remedy: "ask again; if it stays so, its log",
    ..STATUS
};
/// The same, by a Service without endpoints.
pub const HUNG_SERVICE: Way = Way {
    symptom: "the daemon hangs, and the Service has no virtual server",
    ask: Ask::Service("default/empty"),
    answer: "only the kube-ipvs that runs here could tell, and it does not answer",
    says: "the kube-ipvs that runs here could tell, and it does not answer",
    never: &["no endpoints", "there is no Service"],
    remedy: "the same",
};
/// A file that is no YAML.
pub const MANIFEST: Way = Way {
    symptom: "a manifest is broken",
    answer: "not ready: manifests: ",
    says: "not ready: …",
    remedy: "mend the file that it names; meanwhile nothing is removed",
    ..STATUS
};
/// Somebody flushed IPVS, and the daemon put it back.
pub const UNDONE: Way = Way {
    symptom: "somebody undoes what is ours",
    answer: "  drift         put back in the last hour: ",
    says: "put back in the last hour: …",
    never: &["no kube-ipvs runs", "none in the last hour"],
    remedy: "`kube-ipvs check` names other proxies",
    ..STATUS
};
/// A pod with a `hostPort` that is a node port too.
pub const HOST_PORT: Way = Way {
    symptom: "a pod's `hostPort` is a node port too",
    ask: Ask::Front("192.168.50.1:30081"),
    answer: "note: not judged: whether a port of this host's own addresses is among it: nft table ip host-ports, chain prerouting gives some packets another destination, by 2 rules",
    says: "gives some packets another destination",
    never: &[],
    remedy: "another `hostPort`: at the node's own addresses it goes first",
};
/// The same pod, and a Service with the port at its own address.
pub const HOST_PORT_OF_VIP: Way = Way {
    symptom: "a pod's `hostPort` is the Service's port",
    ask: Ask::Front("10.96.1.11:80"),
    answer: "from outside  served by 1 real server",
    says: "served …",
    never: &["another destination"],
    remedy: "nothing: VIPs are kept from it",
};
/// A node port on a loopback address.
pub const LOCALHOST: Way = Way {
    symptom: "`localhost:NODEPORT`",
    ask: Ask::Front("127.0.0.1:30081"),
    answer: "from host     left to this host's own programs: no Service is served at this port here",
    says: "left to this host's own programs",
    never: &["served by", "from outside  left", "from pods     left"],
    remedy: "add `localhost` to `--nodeport-addresses`, or use the node's address: [limitations.md](limitations.md#of-ipvs-itself)",
};
/// An address that nobody gave to this node.
pub const ELSEWHERE: Way = Way {
    symptom: "the address is not this node's",
    ask: Ask::Front("203.0.113.200:80"),
    answer: "from outside  not taken by this node: 203.0.113.200 is no address of this node",
    says: "is no address of this node",
    never: &["served", "host's own"],
    remedy: "the Service's addresses; DNS",
};
/// The daemon was told of another node.
pub const NODE_NAME: Way = Way {
    symptom: "the node's name is wrong",
    answer: "Node node-9 is not known to the API server",
    says: "is not known to the API server",
    remedy: "`--hostname-override`",
    ..STATUS
};
/// The API server gives it nothing.
pub const API_SHUT: Way = Way {
    symptom: "Services may not be listed",
    answer: "Service: not listed yet: ",
    says: "not listed yet: …",
    remedy: "give the rights of `deploy/base/rbac.yaml`",
    ..STATUS
};
/// The same, by a Service that the one before served.
pub const FIRST_LIST: Way = Way {
    symptom: "the first lists are not complete",
    ask: Ask::Service("default/web"),
    answer: "note: not judged: the cluster: kube-ipvs still waits for its first full list of Service",
    says: "still waits for its first full list of",
    never: &["there is no Service", "no endpoints"],
    remedy: "see above: it runs and is not ready",
};
/// It can be reached no more.
pub const API_AWAY: Way = Way {
    symptom: "the API server is away",
    answer: " cannot be followed: ",
    says: "cannot be followed: …",
    never: &["no kube-ipvs runs", "up to date", "not listed yet"],
    remedy: "what is known is served; see why it cannot be reached. From five minutes on it is wrong",
    ..STATUS
};
/// The same, by a Service that is served.
pub const API_AWAY_SERVICE: Way = Way {
    symptom: "the API server is away, and the Service is served",
    ask: Ask::Service("default/web"),
    answer: "note: not known whole: the cluster, whose last known state stays in force: ",
    says: "whose last known state stays in force: …",
    never: &["there is no Service", "no kube-ipvs runs"],
    remedy: "the same: what is said is of before",
};
/// A Service that claims the other node's address.
pub const PROTECTED: Way = Way {
    symptom: "its external address is another node's",
    ask: Ask::Service("default/claims"),
    answer: "192.168.50.2 belongs to another node, the API server or a gateway; it is served there only",
    says: "belongs to another node, the API server or a gateway; it is served there only",
    never: &["192.168.50.2:80/TCP  default/claims"],
    remedy: "another address",
};
/// A kube-proxy begins.
pub const OTHER_PROXY: Way = Way {
    symptom: "Services come and go: another proxy began",
    answer: "another Service proxy works on this node: nft table ip kube-proxy",
    says: "another Service proxy works on this node",
    remedy: "stop that one on this node; an Event of the Node says the same",
    ..STATUS
};
/// A kernel without `ip_vs`.
pub const NO_MODULE: Way = Way {
    symptom: "no IPVS in the kernel",
    ask: Ask::Service("default/web"),
    answer: "load it with `modprobe ip_vs`, or use a kernel with CONFIG_IP_VS",
    says: "or use a kernel with CONFIG_IP_VS",
    never: &["there is no Service", "no kube-ipvs", "no virtual server"],
    remedy: "`modprobe ip_vs`; `/etc/modules-load.d` keeps it",
};
/// A cache of DNS answers on the node has the address on a link of its own.
pub const NODE_DNS: Way = Way {
    symptom: "its address is on a link of this node, as NodeLocal DNS puts it",
    ask: Ask::Front("10.96.0.10:53/UDP"),
    answer: "from pods     left to this host's own programs: no Service is served at this port here: the address is owned by link nodelocaldns",
    says: "the address is owned by link …",
    never: &["served by", "no Service has", "should be"],
    remedy: "nothing: who listens there answers; without the link the Service is served",
};
