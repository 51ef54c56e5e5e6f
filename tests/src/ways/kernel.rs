//! What somebody does to the kernel, and `explain` tells.

use super::{Ask, Way};

/// A script that breaks a node with pods, and what is then said of its Service
/// `default/web:http` at 10.96.0.10. Each undoes what has to be undone of the one
/// before; `$POD` is the address of its endpoint here.
pub const KERNEL: [(&str, Way); 11] = [
    (
        "sysctl -qw net.ipv4.ip_forward=0",
        Way {
            symptom: "forwarding is off",
            answer: "from outside  dropped: net.ipv4.ip_forward is 0: answers of endpoints are not forwarded",
            says: "answers of endpoints are not forwarded",
            never: &["from outside  served"],
            remedy: "a running daemon sets it; see who unsets it",
            ..WEB
        },
    ),
    (
        "sysctl -qw net.ipv4.ip_forward=1
         nft add table ip fw
         nft add chain ip fw out '{ type filter hook forward priority 0; policy drop; }'",
        Way {
            symptom: "a firewall drops what is forwarded",
            answer: "from outside  dropped: nft table ip fw, chain out (hook forward, priority 0): policy drop, and no rule of it lets answers of endpoints pass",
            says: "and no rule of it lets … pass",
            never: &["from outside  served"],
            remedy: "let answers of endpoints pass there, or `--accept-in-foreign-chains`",
            ..WEB
        },
    ),
    (
        "nft delete table ip fw
         nft add table ip fw
         nft add chain ip fw in '{ type filter hook input priority 0; policy drop; }'",
        Way {
            symptom: "a firewall drops all that comes in",
            answer: "from outside  dropped: nft table ip fw, chain in (hook input, priority 0): policy drop, and no rule of it lets Service traffic pass",
            says: "and no rule of it lets",
            never: &["served"],
            remedy: "let Service traffic pass there, or `--accept-in-foreign-chains`",
            ..WEB
        },
    ),
    (
        "nft add rule ip fw in tcp dport 22 accept",
        Way {
            symptom: "a firewall may drop it",
            answer: "from outside  perhaps lost: nft table ip fw, chain in (hook input, priority 0): policy drop, which cannot be judged: unless a rule of it lets Service traffic pass",
            says: "which cannot be judged: unless a rule of it lets",
            never: &["from outside  served", "from outside  dropped"],
            remedy: "look at the rules of that chain",
            ..WEB
        },
    ),
    (
        "nft delete table ip fw
         nft add table ip other
         nft add chain ip other in '{ type filter hook input priority 0; }'
         nft add rule ip other in ip daddr 10.96.0.0/12 tcp dport 80 drop",
        Way {
            symptom: "a single rule of a firewall drops it",
            answer: "note: not judged: whether Service traffic is among what it drops: nft table ip other, chain in (hook input) drops or refuses some packets, by 1 rule",
            says: "drops or refuses some packets",
            never: &[],
            remedy: "look whether Service traffic is among them",
            ..WEB
        },
    ),
    (
        "nft delete table ip other
         ipvsadm -e -t 10.96.0.10:80 -r $POD:8080 -m -w 0
         ipvsadm -e -t 10.96.0.10:80 -r 10.244.99.9:8080 -m -w 0",
        Way {
            symptom: "its endpoints only drain",
            answer: "from outside  refused: 10.96.0.10:80/TCP has 2 real servers, all at weight 0: they only drain",
            says: "they only drain",
            never: &["served"],
            remedy: "wait for a new endpoint",
            ..WEB
        },
    ),
    (
        "ipvsadm -d -t 10.96.0.10:80 -r $POD:8080
         ipvsadm -d -t 10.96.0.10:80 -r 10.244.99.9:8080",
        Way {
            symptom: "somebody removed its real servers",
            answer: "from outside  refused: virtual server 10.96.0.10:80/TCP has lost all its real servers",
            says: "has lost all its real servers",
            never: &["served", "no endpoints"],
            remedy: PUT_BACK,
            ..WEB
        },
    ),
    (
        "ipvsadm -C",
        Way {
            symptom: "somebody flushed IPVS",
            answer: "from outside  left to this host's own programs: virtual server 10.96.0.10:80/TCP should be in IPVS and is not",
            says: "should be in IPVS and is not",
            never: &["served", "no Service"],
            remedy: PUT_BACK,
            ..WEB
        },
    ),
    (
        "ipvsadm -A -t 10.96.0.10:80 -s rr
         ipvsadm -a -t 10.96.0.10:80 -r $POD:8080 -m
         nft delete table ip kube-ipvs",
        Way {
            symptom: "somebody deleted our table",
            answer: "from outside  perhaps lost: our nftables table should have a row for 10.96.0.10:80/TCP and has none",
            says: "our nftables table should have a row for",
            never: &["from outside  served"],
            remedy: PUT_BACK,
            ..WEB
        },
    ),
    (
        "ip address delete 10.96.0.10/32 dev kube-ipvs0",
        Way {
            symptom: "somebody took the address away",
            answer: "from outside  not taken by this node: 10.96.0.10 should be bound here and is not",
            says: "should be bound here and is not",
            never: &["from outside  served", "from pods     served"],
            remedy: PUT_BACK,
            ..WEB
        },
    ),
    (
        "ip link delete kube-ipvs0",
        Way {
            symptom: "somebody deleted the link of VIPs",
            answer: "from outside  not taken by this node: 10.96.0.10 should be bound here and is not",
            says: "not taken by this node: … should be bound here and is not",
            never: &["from outside  served", "from pods     served"],
            remedy: PUT_BACK,
            ..WEB
        },
    ),
];

const PUT_BACK: &str = "a running daemon puts it back within `--ipvs-sync-period`";

const WEB: Way = Way {
    symptom: "",
    ask: Ask::Service("default/web:http"),
    answer: "",
    says: "",
    never: &[],
    remedy: "",
};
