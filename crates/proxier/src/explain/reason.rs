//! What becomes of a connection, and why: in words that claim no more than is
//! known.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::state::{Front, VirtualServerKey};
use kube_ipvs_nft::Hook;
use serde::Serialize;

use super::answer::Answer;
use super::nobody::Nobody;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Asker {
    /// Another machine.
    Outside,
    /// A pod of this node.
    Pods,
    /// A program of this host.
    Host,
}

impl Asker {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Outside, Self::Pods, Self::Host];
}

/// What becomes of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// A real server, or this host's health check, answers.
    Served,
    /// Nothing known stands in the way, but something that cannot be judged.
    Uncertain,
    /// An error comes back at once.
    Refused,
    /// Nothing comes back.
    Dropped,
    /// The packet is no matter of kube-ipvs.
    NotTaken,
    /// A program of this host answers, or nobody: what should be in between is not there.
    Open,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Served => "served",
            Self::Uncertain => "perhaps lost",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::NotTaken => "not taken by this node",
            Self::Open => "left to this host's own programs",
        })
    }
}

/// What should be here and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Missing {
    /// In IPVS.
    VirtualServer(VirtualServerKey),
    /// All real servers of it.
    RealServers(VirtualServerKey),
    /// The address, on our link.
    Address(IpAddr),
    /// What our table says of the front.
    Row(VirtualServerKey),
    /// Our table refuses no port of the address.
    Guard(IpAddr),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VirtualServer(key) => {
                write!(f, "virtual server {key} should be in IPVS and is not")
            }
            Self::RealServers(key) => {
                write!(f, "virtual server {key} has lost all its real servers")
            }
            Self::Address(address) => {
                write!(f, "{address} should be bound here and is not")
            }
            Self::Row(key) => {
                write!(
                    f,
                    "our nftables table should have a row for {key} and has none"
                )
            }
            Self::Guard(address) => write!(
                f,
                "our nftables table should guard {address} and does not, or is gone"
            ),
        }
    }
}

/// Why: the first reason that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "of")]
pub(crate) enum Reason {
    /// Nothing is in the way.
    Answered(Answer),
    /// This host itself answers: a health-check port.
    HealthCheck,
    /// kube-ipvs itself answers: a NodePort on a loopback address.
    Forwarder,
    /// It is no address of this host.
    NotHere(IpAddr),
    /// It is to be an address of this host, and the kernel refuses that.
    NotBound {
        /// What is not bound.
        address: IpAddr,
        /// The whole story.
        error: String,
    },
    /// It is neither a VIP nor a Service's port: not ours to decide.
    NotAService,
    /// The same, at an address of a link that is not ours: who listens there has
    /// it, a cache of DNS answers too.
    OwnedByLink {
        /// Its name.
        link: String,
    },
    /// The Service has nobody who could answer.
    NobodyAnswers(Nobody),
    /// `externalTrafficPolicy: Local`.
    Elsewhere,
    /// The client is not among these.
    SourceRange {
        /// Who asks.
        client: IpAddr,
        /// Who may.
        only: Vec<IpNet>,
    },
    /// Source ranges that fit no client.
    OpenToNobody,
    /// The address is a VIP, and no Service has the port.
    NoSuchPort,
    /// Somebody took away what is ours.
    Missing(Missing),
    /// Of these, all get no new connections.
    AllDraining {
        /// The virtual server.
        of: VirtualServerKey,
        /// How many real servers it has.
        count: usize,
    },
    /// A virtual server of others, without real servers.
    Empty(VirtualServerKey),
    /// A chain of others.
    Chain {
        /// Where it stands, and why it drops.
        chain: String,
        /// Which packets it sees.
        #[serde(serialize_with = "hook_word")]
        hook: Hook,
        /// Whether our accept rule could be put in it.
        reachable: bool,
        /// What it is if the chain lets it pass; none when it cannot.
        else_: Option<Answer>,
    },
    /// A sysctl has another value than it must have.
    Sysctl {
        /// `net.ipv4.ip_forward`.
        name: String,
        /// What it is.
        is: String,
        /// What that does.
        effect: &'static str,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => answer.fmt(f),
            Self::HealthCheck => f.write_str("by this host itself: a port for health checks"),
            Self::Forwarder => f.write_str(
                "by kube-ipvs itself, which listens there and forwards to an endpoint, unless its \
                 log says that it could not",
            ),
            Self::NotHere(address) if address.is_loopback() => {
                write!(f, "{address} is everybody's own")
            }
            Self::NotHere(address) => write!(f, "{address} is no address of this node"),
            Self::NotBound { address, error } => {
                write!(f, "the kernel refuses to bind {address}: {error}")
            }
            Self::NotAService => f.write_str("no Service has this port here"),
            Self::OwnedByLink { link } => {
                write!(
                    f,
                    "no Service is served at this port here: the address is owned by link {link}"
                )
            }
            Self::NobodyAnswers(nobody) => nobody.fmt(f),
            Self::Elsewhere => {
                f.write_str("externalTrafficPolicy is Local, and no ready endpoint is on this node")
            }
            Self::SourceRange { client, only } => {
                write!(f, "{client} is not among {}", names(only))
            }
            Self::OpenToNobody => {
                f.write_str("no network of loadBalancerSourceRanges is one: it is open to nobody")
            }
            Self::NoSuchPort => f.write_str("the address is a VIP, and no Service has this port"),
            Self::Missing(missing) => missing.fmt(f),
            Self::AllDraining { of, count } => {
                let noun = plural(*count, "real server");
                write!(
                    f,
                    "{of} has {count} {noun}, all at weight 0: they only drain"
                )
            }
            Self::Empty(of) => write!(f, "{of} has no real server"),
            Self::Chain {
                chain, hook, else_, ..
            } => {
                let what = match hook {
                    Hook::Input => "Service traffic",
                    Hook::Forward => "answers of endpoints",
                };
                match else_ {
                    None => write!(f, "{chain}, and no rule of it lets {what} pass"),
                    Some(answer) => write!(
                        f,
                        "{chain}, which cannot be judged: unless a rule of it lets {what} pass; \
                         then served {answer}"
                    ),
                }
            }
            Self::Sysctl { name, is, effect } => write!(f, "{name} is {is}: {effect}"),
        }
    }
}

/// What becomes of a connection, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Said {
    /// In a word.
    pub outcome: Outcome,
    /// The first reason that holds.
    pub reason: Reason,
}

impl Said {
    pub(super) fn of(outcome: Outcome, reason: Reason) -> Self {
        Self { outcome, reason }
    }
}

impl fmt::Display for Said {
    /// `served by 2 real servers`, `refused: the port has no endpoints`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.outcome == Outcome::Served {
            ""
        } else {
            ":"
        };
        write!(f, "{}{between} {}", self.outcome, self.reason)
    }
}

/// A front as the key of its virtual server.
pub(super) fn key(front: &Front) -> VirtualServerKey {
    VirtualServerKey::Front(*front)
}

/// `192.0.2.0/24, 10.0.0.0/8`; `nobody`.
pub(super) fn names(nets: &[IpNet]) -> String {
    if nets.is_empty() {
        return "nobody".to_owned();
    }
    let names: Vec<_> = nets.iter().map(IpNet::to_string).collect();
    names.join(", ")
}

pub(crate) fn plural(n: usize, noun: &str) -> String {
    if n == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}

fn hook_word<S: serde::Serializer>(hook: &Hook, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match hook {
        Hook::Input => "input",
        Hook::Forward => "forward",
    })
}
