//! Firewall marks: for traffic from inside, and for that of NodePorts.
//!
//! A mark is a hash of its port's name, so that it is the same on every node and
//! after every restart without being written down. Where an older Service has
//! the mark already, the name is hashed again with a counter until one is free.
//! Which Service has which mark then follows from the set of Services alone, in
//! whatever order they came. The price: when an older one that was in the way
//! goes, the younger one takes its mark, and its connections of that moment end.
//! With 10,000 marks in use that concerns one Service in 27,000 deletions.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use super::Surroundings;
use super::policy::{Outside, Treatment};
use crate::names::ServiceName;
use crate::options::Options;
use crate::row::Masquerade;
use crate::services::{FrontKind, Port};
use crate::state::Family;

/// Bits that stay zero: 12 says "we serve this" to a foreign chain (the
/// table's accept bit), 14 and 15 are kube-proxy's, 30 and 31 are left to others.
const FREE: u32 = 0x3fff_ffff & !(1 << 12) & !(1 << 14) & !(1 << 15);

/// A mark, and those that the name was hashed to before.
#[derive(Debug)]
struct Drawn {
    mark: u32,
    /// Older Services have them.
    taken: Vec<u32>,
}

/// Draws marks for one Service.
pub(super) struct Urn<'a> {
    /// Whether a Service that goes before has a mark.
    taken: &'a dyn Fn(u32, Family) -> bool,
    /// Those of this Service.
    own: BTreeSet<(Family, u32)>,
    /// Which hash is the next for who has this one first: ports of one number
    /// need not try again what the others of them got.
    next: BTreeMap<(Family, u32), u32>,
}

impl<'a> Urn<'a> {
    pub(super) fn new(taken: &'a dyn Fn(u32, Family) -> bool) -> Self {
        Self {
            taken,
            own: BTreeSet::new(),
            next: BTreeMap::new(),
        }
    }

    fn draw(&mut self, family: Family, hash: impl Fn(u32) -> u32) -> Drawn {
        let mut taken = Vec::new();
        let next = self.next.entry((family, hash(0))).or_default();
        let mut marks = (*next..).map(|again| (again, hash(again)));
        let free = |(_, mark): &(u32, u32)| {
            if self.own.contains(&(family, *mark)) {
                return false;
            }
            if (self.taken)(*mark, family) {
                taken.push(*mark);
                return false;
            }
            true
        };
        let drawn = marks.find(free);
        let (again, mark) =
            drawn.expect("2^27 marks outlast the memory for Services that take them");
        *next = again.saturating_add(1);
        self.own.insert((family, mark));
        Drawn { mark, taken }
    }
}

/// The marks of a Service port in one family.
#[derive(Debug)]
pub(super) struct Marks {
    /// Leads to the endpoints of the whole cluster.
    cluster: Drawn,
    /// Leads to those on this node.
    local: Drawn,
    /// Leads to those of the whole cluster too, for NodePorts whose clients are
    /// not masqueraded: not the mark of traffic from inside, which may be that of
    /// fronts that other endpoints answer meanwhile.
    plain: Option<Drawn>,
    /// Whether NodePorts have marks.
    node_ports: bool,
    /// What the mark of a NodePort that is masqueraded has besides.
    masquerade: u32,
}

impl Marks {
    /// None where no traffic of the port can get one: that takes a `Local`
    /// policy for traffic from outside, or a NodePort that goes by mark.
    pub(super) fn of(
        name: &ServiceName,
        port: &Port,
        family: Family,
        external_local: bool,
        asked: Option<Masquerade>,
        around: &Surroundings<'_>,
        urn: &mut Urn<'_>,
    ) -> Option<Self> {
        let addresses = around.node_ports.iter();
        let addresses = addresses.filter(|address| Family::of(**address) == family);
        let options = around.options;
        let by_mark = || options.node_port_servers.by_mark(addresses.count());
        let node_ports = port.node_port.is_some() && by_mark();
        if !external_local && !node_ports {
            return None;
        }
        let mut draw = |which| {
            urn.draw(family, |again| {
                mark(name, port, family, which, again, options)
            })
        };
        Some(Self {
            cluster: draw(""),
            local: draw(" local"),
            plain: (asked == Some(Masquerade::Never)).then(|| draw(" never")),
            node_ports,
            masquerade: masquerade_bit(options),
        })
    }

    /// Whether a mark leads to the endpoints on this node.
    pub(super) fn is_local(&self, mark: u32) -> bool {
        mark & !self.masquerade == self.local.mark
    }

    /// What a mark that is used is to be claimed by: itself without the bit for
    /// masquerading, and those that would go before it if they were free.
    pub(super) fn claims(&self, mark: u32) -> impl Iterator<Item = u32> {
        let plain = self.plain.as_ref().filter(|plain| plain.mark == mark);
        let drawn = if self.is_local(mark) {
            &self.local
        } else {
            plain.unwrap_or(&self.cluster)
        };
        drawn.taken.iter().copied().chain([drawn.mark])
    }

    /// The mark that traffic of a front from inside gets.
    pub(super) fn inside(&self, treatment: &Treatment) -> Option<u32> {
        treatment.inside.then_some(self.cluster.mark)
    }

    /// The mark that all traffic of a front gets.
    pub(super) fn of_all(&self, kind: FrontKind, treatment: &Treatment) -> Option<u32> {
        if !self.node_ports || kind != FrontKind::NodePort {
            return None;
        }
        let plain = self.plain.as_ref();
        let mark = match treatment.outside {
            Outside::Cluster => plain.unwrap_or(&self.cluster).mark,
            Outside::Local => self.local.mark,
            Outside::Dropped | Outside::Refused => return None,
        };
        let masquerade = match treatment.masquerade {
            Masquerade::Never => 0,
            Masquerade::Always | Masquerade::OffCluster => self.masquerade,
        };
        Some(mark | masquerade)
    }
}

/// One of a Service port, hashed for the first time or again. Never 0.
fn mark(
    name: &ServiceName,
    port: &Port,
    family: Family,
    which: &str,
    again: u32,
    options: &Options,
) -> u32 {
    let family = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let mut text = format!("{name}:{}/{} {family}{which}", port.number, port.protocol);
    if again > 0 {
        text += &format!(" #{again}");
    }
    let hash = crate::seed(&text);
    let bits = FREE & !masquerade_bit(options);
    let folded = (hash ^ (hash >> 32)) as u32 & bits;
    match folded {
        // The lowest bit that may be set.
        0 => bits & bits.wrapping_neg(),
        mark => mark,
    }
}

fn masquerade_bit(options: &Options) -> u32 {
    1u32.wrapping_shl(options.masquerade_bit.into())
}

#[cfg(test)]
mod tests {
    use alloc::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::cluster::Cluster;
    use crate::fixtures::*;
    use crate::k8s::Service;
    use crate::model::Model;
    use crate::options::NodePortServers;
    use crate::row::Verdict;
    use crate::state::{Protocol, VirtualServerKey};

    /// The second has the first's mark, and hashed again the third's.
    const CHAIN: [&str; 3] = ["s328946", "s54578", "s167455"];

    fn mark_of(name: &str, again: u32) -> u32 {
        let port = Port {
            name: "".into(),
            protocol: Protocol::Tcp,
            number: 80,
            node_port: None,
        };
        let name = ServiceName::new("default", name);
        mark(&name, &port, Family::V4, "", again, &options())
    }

    #[test]
    fn the_names_of_these_tests_collide() {
        let [first, second, third] = CHAIN;
        assert_eq!(mark_of(first, 0), mark_of(second, 0));
        assert_eq!(mark_of(second, 1), mark_of(third, 0));
    }

    /// Of the chain, the oldest first; each with its number in its addresses.
    fn chain(kind: impl Fn(Service, usize) -> Service) -> Vec<Service> {
        let all = CHAIN.iter().enumerate().map(|(n, name)| {
            let service = service(name, &format!("10.96.0.{}", n + 1));
            let created = format!("2026-0{}-01T00:00:00Z", n + 1);
            kind(service.created(&created), n)
        });
        all.collect()
    }

    fn local(service: Service, n: usize) -> Service {
        let vip = format!("203.0.113.{}", n + 1);
        service.load_balancer(&vip).external_local()
    }

    fn put(cluster: &mut Cluster, service: &Service) {
        cluster
            .add(service.clone())
            .endpoints(service, [ep("10.244.2.9")]);
        cluster.compile();
    }

    /// The inside marks by the last number of their fronts' addresses.
    fn marks(cluster: &mut Cluster) -> BTreeMap<u8, u32> {
        let state = cluster.state();
        let model = Model::new(state.clone());
        assert!(model.dangers(&BTreeSet::new()).is_empty());
        assert!(cluster.warnings().is_empty(), "{:?}", cluster.warnings());
        let rows = state.table.rows.iter();
        let marks = rows.filter_map(|(front, row)| match front.address {
            core::net::IpAddr::V4(at) => Some((at.octets()[3], row.inside?)),
            other => panic!("{other}"),
        });
        let marks: BTreeMap<u8, u32> = marks.collect();
        for mark in marks.values() {
            let family = Family::V4;
            let key = VirtualServerKey::Mark {
                mark: *mark,
                family,
            };
            assert!(state.virtual_servers.contains_key(&key), "{mark:#x}");
        }
        marks
    }

    #[test]
    fn who_collides_is_hashed_again_and_the_same_in_every_order_of_arrival() {
        let [first, second, third] = CHAIN;
        let whole = BTreeMap::from([
            (1, mark_of(first, 0)),
            (2, mark_of(second, 1)),
            (3, mark_of(third, 1)),
        ]);
        let services = chain(local);
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut cluster = cluster();
            for n in order {
                put(&mut cluster, &services[n]);
            }
            assert_eq!(marks(&mut cluster), whole, "{order:?}");
        }
    }

    #[test]
    fn when_the_oldest_goes_all_stand_as_if_it_had_never_been() {
        let [_, second, third] = CHAIN;
        let services = chain(local);
        let mut cluster = cluster();
        services.iter().for_each(|s| put(&mut cluster, s));

        cluster.remove(services[0].clone());

        let left = BTreeMap::from([(2, mark_of(second, 0)), (3, mark_of(third, 0))]);
        assert_eq!(marks(&mut cluster), left);
    }

    #[test]
    fn a_mark_moves_in_one_transaction_and_its_server_is_there_before() {
        let services = chain(local);
        let mut cluster = cluster();
        put(&mut cluster, &services[1]);
        let before = cluster.state();
        put(&mut cluster, &services[0]);

        let mut model = Model::new(before.clone());
        for op in &plan(&before, &cluster.state()).ops {
            model.step(op).unwrap();
            assert!(model.dangers(&BTreeSet::new()).is_empty(), "{op:?}");
        }
    }

    #[test]
    fn node_ports_by_mark_are_all_served() {
        let mut cluster = cluster_with(Options {
            node_port_servers: NodePortServers::Mark,
            ..options()
        });
        let services = chain(|service, n| service.node_port(30_001 + n as i64));
        services.iter().rev().for_each(|s| put(&mut cluster, s));

        let state = cluster.state();

        assert!(cluster.warnings().is_empty(), "{:?}", cluster.warnings());
        let bit = masquerade_bit(&options());
        let [first, second, third] = CHAIN;
        let wanted = [mark_of(first, 0), mark_of(second, 1), mark_of(third, 1)];
        let rows = state.table.rows.values();
        let marks: Vec<u32> = rows.clone().filter_map(|row| row.mark).collect();
        assert_eq!(marks, wanted.map(|mark| mark | bit));
        assert!(rows.clone().all(|row| row.verdict != Verdict::Refuse));
    }

    #[test]
    fn ports_of_one_service_do_not_share_a_mark_either() {
        let nobody = |_, _| false;
        let mut urn = Urn::new(&nobody);
        let one = urn.draw(Family::V4, |again| 7 + again);
        let two = urn.draw(Family::V4, |again| 7 + again);
        let other = urn.draw(Family::V6, |again| 7 + again);
        assert_eq!((one.mark, two.mark, other.mark), (7, 8, 7));
        assert!(two.taken.is_empty(), "it waits for nobody");
    }

    #[test]
    fn ports_of_one_number_do_not_try_what_the_others_got() {
        let nobody = |_, _| false;
        let mut urn = Urn::new(&nobody);
        let hashes = core::cell::Cell::new(0);
        for port in 0..1000 {
            let drawn = urn.draw(Family::V4, |again| {
                hashes.set(hashes.get() + 1);
                7 + again
            });
            assert_eq!(drawn.mark, 7 + port);
        }
        assert!(hashes.get() <= 2000, "{} hashes", hashes.get());
    }

    #[test]
    fn marks_keep_clear_of_the_bits_of_others() {
        let all = (0..1000).fold(0, |bits, n| bits | mark_of(&format!("s{n}"), n % 3));
        assert_eq!(all, FREE);
    }

    #[test]
    fn marks_are_stable() {
        // What was in kernels before somebody collided stays as it was.
        assert_eq!(mark_of("web", 0), 0x30202839);
        assert_ne!(mark_of("web", 0), mark_of("dns", 0));
    }
}
