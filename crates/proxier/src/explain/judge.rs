//! One verdict for each asker, in the order in which a packet meets the layers:
//! its address, our table at `input` (fronts refused, source ranges, traffic
//! from outside, the guard), chains of others there, IPVS, and the way back of
//! the answer.

use std::net::IpAddr;

use kube_ipvs_core::row::{Masquerade, Row, Verdict};
use kube_ipvs_core::state::{Family, Front, VirtualServer, VirtualServerKey};
use kube_ipvs_nft::{ForeignChain, Hook};

use super::account::Known;
use super::answer::Answer;
use super::nobody::Nobody;
use super::reason::{Asker, Missing, Outcome, Reason, Said, key};
use super::seen::Seen;

const CONNTRACK: &str = "net/ipv4/vs/conntrack";

/// A question: who asks at which front.
pub(super) struct Question<'a> {
    pub(super) front: &'a Front,
    pub(super) asker: Asker,
    /// The client's own address, if it is asked for one.
    pub(super) client: Option<IpAddr>,
    pub(super) seen: &'a Seen,
    /// What is known besides.
    pub(super) known: &'a Known,
}

impl Question<'_> {
    /// The verdict.
    pub(super) fn judge(&self) -> Said {
        if self.known.service.is_some() && self.front.address.is_loopback() {
            return self.at_forwarder();
        }
        let row = self.seen.state.row(self.front);
        let none = Row::default();
        let said = self
            .at_address()
            .or_else(|| self.at_table(row.unwrap_or(&none)))
            .or_else(|| self.surely_dropped(Hook::Input));
        said.unwrap_or_else(|| self.at_ipvs(row.unwrap_or(&none), row.is_some()))
    }

    /// No packet of a loopback address gets to our table or IPVS.
    fn at_forwarder(&self) -> Said {
        match (self.asker, &self.known.nobody) {
            (Asker::Outside | Asker::Pods, _) => {
                Said::of(Outcome::NotTaken, Reason::NotHere(self.front.address))
            }
            (Asker::Host, Nobody::Unknown) => Said::of(Outcome::Served, Reason::Forwarder),
            (Asker::Host, nobody) => {
                Said::of(Outcome::Refused, Reason::NobodyAnswers(nobody.clone()))
            }
        }
    }

    /// The virtual server that this asker's packets meet.
    fn server(&self, row: &Row) -> VirtualServerKey {
        let inside = row
            .inside_server(self.front)
            .filter(|_| self.asker != Asker::Outside);
        inside
            .or_else(|| row.marked_server(self.front))
            .unwrap_or_else(|| key(self.front))
    }

    /// Whether the front is known to be ours.
    fn is_expected(&self) -> bool {
        let key = key(self.front);
        self.seen.recorded.contains_key(&key) || self.seen.state.row(self.front).is_some()
    }

    /// Where the packet does not get to `input` here. What this host sends, IPVS
    /// takes on its way out, wherever it goes.
    fn at_address(&self) -> Option<Said> {
        let address = self.front.address;
        if address.is_loopback() {
            // Of nobody else a packet gets there.
            let elsewhere = self.asker != Asker::Host;
            return elsewhere.then(|| Said::of(Outcome::NotTaken, Reason::NotHere(address)));
        }
        if self.seen.is_vip(address) || self.seen.host.contains(&address) {
            return None;
        }
        let key = key(self.front);
        if self.asker == Asker::Host && self.seen.state.virtual_servers.contains_key(&key) {
            return None;
        }
        let reason = if let Some(error) = self.known.unbound.clone() {
            Reason::NotBound { address, error }
        } else if self.is_expected() {
            Reason::Missing(Missing::Address(address))
        } else {
            Reason::NotHere(address)
        };
        Some(Said::of(Outcome::NotTaken, reason))
    }

    fn at_table(&self, row: &Row) -> Option<Said> {
        if row.verdict == Verdict::Refuse {
            let reason = Reason::NobodyAnswers(self.known.nobody.clone());
            return Some(Said::of(Outcome::Refused, reason));
        }
        if let Some(only) = row.sources.as_deref() {
            let fits = |client: &IpAddr| only.iter().any(|net| net.contains(client));
            if only.is_empty() {
                return Some(Said::of(Outcome::Dropped, Reason::OpenToNobody));
            }
            if let Some(client) = self.client.filter(|client| !fits(client)) {
                let only = only.to_vec();
                let reason = Reason::SourceRange { client, only };
                return Some(Said::of(Outcome::Dropped, reason));
            }
        }
        if self.asker == Asker::Outside && row.verdict == Verdict::DropOutside {
            return Some(Said::of(Outcome::Dropped, Reason::Elsewhere));
        }
        // What this host sends is not guarded where IPVS takes it.
        let key = key(self.front);
        let taken = self.asker == Asker::Host && self.seen.state.virtual_servers.contains_key(&key);
        let guarded = self.seen.state.table.guarded.contains(&self.front.address);
        if guarded && !row.verdict.is_open() && !taken {
            let reason = if self.seen.recorded.contains_key(&key) {
                Reason::Missing(Missing::Row(key))
            } else {
                Reason::NoSuchPort
            };
            return Some(Said::of(Outcome::Refused, reason));
        }
        None
    }

    /// A chain of others that lets nothing pass.
    fn surely_dropped(&self, hook: Hook) -> Option<Said> {
        let family = Family::of(self.front.address);
        let mut chains = self.seen.dropping(family, hook);
        let chain = chains.find(|chain| chain.drops_all)?;
        Some(Said::of(Outcome::Dropped, reason_of(chain, None)))
    }

    fn at_ipvs(&self, row: &Row, has_row: bool) -> Said {
        let of = self.server(row);
        let Some(server) = self.seen.state.virtual_servers.get(&of) else {
            return self.without_server(row, has_row, of);
        };
        let recorded = self.seen.recorded.contains_key(&of);
        let all = server.real_servers.len();
        let open = server
            .real_servers
            .values()
            .filter(|real| real.weight > 0)
            .count();
        if open == 0 {
            let reason = match (all, recorded) {
                (0, true) => Reason::Missing(Missing::RealServers(of)),
                (0, false) => Reason::Empty(of),
                (count, _) => Reason::AllDraining { of, count },
            };
            return Said::of(Outcome::Refused, reason);
        }
        if recorded && !has_row {
            let reason = Reason::Missing(Missing::Row(key(self.front)));
            return Said::of(Outcome::Uncertain, reason);
        }
        let answer = Answer {
            open,
            draining: all - open,
            leaving: self.known.leaving,
            leaving_here: self
                .known
                .leaving_here
                .filter(|_| row.inside_server(self.front) != Some(of)),
            by: matches!(of, VirtualServerKey::Mark { .. }).then_some(of),
            masquerade: self.masquerade(row, &of),
            only: row
                .sources
                .as_deref()
                .map(<[_]>::to_vec)
                .filter(|_| self.client.is_none()),
        };
        self.way_back(server, answer)
    }

    fn without_server(&self, row: &Row, has_row: bool, of: VirtualServerKey) -> Said {
        let recorded =
            self.seen.recorded.contains_key(&of) || row.mark.is_some() || row.inside.is_some();
        if recorded {
            let reason = Reason::Missing(Missing::VirtualServer(of));
            return Said::of(Outcome::Open, reason);
        }
        if has_row && row.verdict == Verdict::Serve {
            return Said::of(Outcome::Served, Reason::HealthCheck);
        }
        if self.seen.is_vip(self.front.address) {
            let reason = Reason::Missing(Missing::Guard(self.front.address));
            return Said::of(Outcome::Open, reason);
        }
        let link = self.seen.links.get(&self.front.address).cloned();
        let reason = link.map_or(Reason::NotAService, |link| Reason::OwnedByLink { link });
        Said::of(Outcome::Open, reason)
    }

    /// Whether the real servers see this node's address. What is led by the mark
    /// of traffic from inside keeps its own.
    fn masquerade(&self, row: &Row, of: &VirtualServerKey) -> Masquerade {
        let by_inside = row.inside_server(self.front) == Some(*of);
        match (row.masquerade, self.asker) {
            (Masquerade::Always, _) => Masquerade::Always,
            _ if by_inside => Masquerade::Never,
            (Masquerade::OffCluster, Asker::Outside) => Masquerade::Always,
            (Masquerade::OffCluster, _) => Masquerade::Never,
            (Masquerade::Never, _) => Masquerade::Never,
        }
    }

    /// What stands in the way of a connection that IPVS takes, and of its answers.
    fn way_back(&self, server: &VirtualServer, answer: Answer) -> Said {
        let family = Family::of(self.front.address);
        let is_remote = |address: &IpAddr| !self.seen.host.contains(address);
        let mut reals = server
            .real_servers
            .iter()
            .filter(|(_, real)| real.weight > 0);
        let remote = reals.any(|(real, _)| is_remote(&real.address));
        let forwarded = remote && self.asker != Asker::Host;
        if let Some(off) = self.sysctl(family, forwarded, answer.masquerade) {
            return Said::of(Outcome::Dropped, off);
        }
        let drops = forwarded
            .then(|| self.surely_dropped(Hook::Forward))
            .flatten();
        if let Some(said) = drops {
            return said;
        }
        let input = self.seen.dropping(family, Hook::Input);
        let forward = self
            .seen
            .dropping(family, Hook::Forward)
            .filter(|_| forwarded);
        match input.chain(forward).next() {
            Some(chain) => Said::of(Outcome::Uncertain, reason_of(chain, Some(answer))),
            None => Said::of(Outcome::Served, Reason::Answered(answer)),
        }
    }

    fn sysctl(&self, family: Family, forwarded: bool, masquerade: Masquerade) -> Option<Reason> {
        let forward = match family {
            Family::V4 => "net/ipv4/ip_forward",
            Family::V6 => "net/ipv6/conf/all/forwarding",
        };
        let reason = |path: &str, is: &str, effect| Reason::Sysctl {
            name: path.replace('/', "."),
            is: is.to_owned(),
            effect,
        };
        if let Some(is) = self.seen.is_off(forward).filter(|_| forwarded) {
            return Some(reason(
                forward,
                is,
                "answers of endpoints are not forwarded",
            ));
        }
        let off = self.seen.is_off(CONNTRACK)?;
        (masquerade != Masquerade::Never).then(|| {
            reason(
                CONNTRACK,
                off,
                "nothing is masqueraded, so answers do not come back here",
            )
        })
    }
}

fn reason_of(chain: &ForeignChain, else_: Option<Answer>) -> Reason {
    Reason::Chain {
        chain: chain.to_string(),
        hook: chain.hook,
        reachable: chain.is_reachable(),
        else_,
    }
}
