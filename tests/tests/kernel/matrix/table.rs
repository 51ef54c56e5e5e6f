//! The table: what is expected, for a reviewer to check by eye.

use kube_ipvs_tests::Protocol;

use super::city::Family;

/// A line is a kind of address, a policy and a place of the endpoints; the
/// places are seen from node 1. Then one word a client:
///
/// * `a<self`: the endpoint `a` answered and saw the client's own address;
/// * `a<gate1`, `b<node2`: it saw an address of that node: `node` is its address
///   on the network between nodes, `gate` the one its pods know;
/// * `n<vip`: it saw the address that was called;
/// * `refused`: at once, by RST or ICMP; `dropped`: no answer at all;
/// * `x/y`: `x` with VIPs bound as addresses and a virtual server for each address
///   of a NodePort, `y` with routes and marks;
/// * `x|y`: either, since there are two endpoints;
/// * `-`: there is no such client.
///
/// Node 1 has the pods `a` (the endpoint that is `here`, or `leaving`: the only
/// one, and terminating) and `c`; node 2 has `b` (the endpoint that is `there`)
/// and `d`; `both` are `a` and `b`; node 3 has `e` (the endpoint on the `third`
/// node); `n` is node 1 itself (an endpoint in its network, `hostnet`). The clients are the endpoint itself (`own`), `c` (`pod`), `d` (`far`),
/// node 1 (`host`), node 1 from its address (`hostnet`), and a machine that
/// routes the VIPs to node 1 (`outside`). VIPs are handled by the client's own
/// node; the node port is asked for at node 1 by all of them.
const TABLE: &str = "
kind          policy  endpoints    | own     pod     far     host          hostnet outside
ClusterIP     Cluster here,leaving | a<gate1 a<self  a<self  a<gate1/node1 a<node1 a<gate1
ClusterIP     Cluster there        | b<gate2 b<self  b<self  b<node1       b<node1 b<node1
ClusterIP     Cluster none         | -       refused refused refused       refused refused
ClusterIP     Local   here,leaving | a<gate1 a<self  refused a<gate1/node1 a<node1 a<gate1
ClusterIP     Local   there        | b<gate2 refused b<self  refused       refused refused
ClusterIP     Local   none         | -       refused refused refused       refused refused
NodePort      Cluster here,leaving | a<gate1 a<gate1 a<gate1 a<gate1       a<gate1 a<gate1
NodePort      Cluster there        | b<node1 b<node1 b<node1 b<node1       b<node1 b<node1
NodePort      Cluster none         | -       refused refused refused       refused refused
NodePort      Local   here,leaving | a<gate1 a<self  a<self  a<node1/gate1 a<node1/gate1 a<self
NodePort      Local   there        | dropped b<self  dropped b<node1       b<node1 dropped
NodePort      Local   none         | -       refused refused refused       refused refused
externalIP,LB Cluster here,leaving | a<gate1 a<gate1 a<node2 a<gate1       a<gate1 a<gate1
externalIP,LB Cluster there        | b<gate2 b<node1 b<gate2 b<node1       b<node1 b<node1
externalIP,LB Cluster none         | -       refused refused refused       refused refused
externalIP,LB Local   here,leaving | a<gate1 a<self  a<self  a<gate1/node1 a<node1 a<self
externalIP,LB Local   there        | b<gate2 b<self  b<self  b<node1       b<node1 dropped
externalIP,LB Local   none         | -       refused refused refused       refused refused
";

/// As [`TABLE`], but asked over TCP only.
const TCP_TABLE: &str = "
kind          policy  endpoints | own             pod             far             host                  hostnet         outside
ClusterIP     Cluster both      | a<gate1|b<self  a<self|b<self   a<self|b<self   a<gate1/node1|b<node1 a<node1|b<node1 a<gate1|b<node1
ClusterIP     Cluster third     | e<gate3         e<self          e<self          e<node1               e<node1         e<node1
ClusterIP     Cluster hostnet   | -               n<self          n<self          n<vip/node1           n<node1         n<self
ClusterIP     Local   both      | a<gate1         a<self          b<self          a<gate1/node1         a<node1         a<gate1
ClusterIP     Local   third     | e<gate3         refused         refused         refused               refused         refused
ClusterIP     Local   hostnet   | -               n<self          refused         n<vip/node1           n<node1         n<self
NodePort      Cluster both      | a<gate1|b<node1 a<gate1|b<node1 a<gate1|b<node1 a<gate1|b<node1       a<gate1|b<node1 a<gate1|b<node1
NodePort      Cluster third     | e<node1         e<node1         e<node1         e<node1               e<node1         e<node1
NodePort      Cluster hostnet   | -               n<self          n<self          n<node1               n<node1         n<self
NodePort      Local   both      | a<gate1|b<self  a<self|b<self   a<self          a<gate1|b<node1       a<gate1|b<node1 a<self
NodePort      Local   third     | dropped         e<self          dropped         e<node1               e<node1         dropped
NodePort      Local   hostnet   | -               n<self          n<self          n<node1               n<node1         n<self
externalIP,LB Cluster both      | a<gate1|b<node1 a<gate1|b<node1 a<node2|b<gate2 a<gate1|b<node1       a<gate1|b<node1 a<gate1|b<node1
externalIP,LB Cluster third     | e<gate3         e<node1         e<node2         e<node1               e<node1         e<node1
externalIP,LB Cluster hostnet   | -               n<self          n<node2         n<vip/node1           n<node1         n<self
externalIP,LB Local   both      | a<gate1|b<self  a<self|b<self   a<self|b<self   a<gate1/node1|b<node1 a<node1|b<node1 a<self
externalIP,LB Local   third     | e<gate3         e<self          e<self          e<node1               e<node1         dropped
externalIP,LB Local   hostnet   | -               n<self          n<self          n<vip/node1           n<node1         n<self
";

/// One call and what it should come to.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) kind: &'static str,
    pub(super) policy: &'static str,
    pub(super) endpoints: &'static str,
    pub(super) client: &'static str,
    pub(super) protocol: Protocol,
    pub(super) family: Family,
    pub(super) binding: &'static str,
    /// Alternatives.
    pub(super) expected: Vec<String>,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {} from {}, {}/{}, {} binding",
            self.kind,
            self.policy,
            self.endpoints,
            self.client,
            self.protocol,
            self.family,
            self.binding
        )
    }
}

/// A line of the table, for one kind and place.
pub(super) struct Row {
    kind: &'static str,
    policy: &'static str,
    endpoints: &'static str,
    protocols: &'static [Protocol],
    /// Client and expectation.
    columns: Vec<(&'static str, &'static str)>,
}

impl Row {
    /// No cells for a protocol that the row is not asked over.
    pub(super) fn cells(
        &self,
        binding: &'static str,
        protocol: Protocol,
        family: Family,
    ) -> impl Iterator<Item = Cell> {
        let asked = self.protocols.contains(&protocol);
        let columns = self.columns.iter().filter(move |_| asked);
        columns.map(move |(client, word)| Cell {
            kind: self.kind,
            policy: self.policy,
            endpoints: self.endpoints,
            client,
            protocol,
            family,
            binding,
            expected: word.split('|').map(|w| of_binding(w, binding)).collect(),
        })
    }
}

/// `a<gate1/node1` is `a<gate1` with addresses and `a<node1` with routes.
fn of_binding(word: &str, binding: &str) -> String {
    let Some((first, second)) = word.split_once('/') else {
        return word.to_owned();
    };
    match (binding, first.split_once('<')) {
        ("route", Some((who, _))) => format!("{who}<{second}"),
        _ => first.to_owned(),
    }
}

/// The tables, line by line, each place and kind on a line of its own.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = rows_of(TABLE, &Protocol::ALL);
    rows.extend(rows_of(TCP_TABLE, &[Protocol::Tcp]));
    rows
}

fn rows_of(table: &'static str, protocols: &'static [Protocol]) -> Vec<Row> {
    let mut lines = table.trim().lines().map(halves);
    let (_, clients) = lines.next().expect("the table has a head");
    lines
        .flat_map(|(what, words)| {
            let [kinds, policy, places] = what[..] else {
                panic!("three words before the bar: {what:?}");
            };
            assert_eq!(words.len(), clients.len(), "one word a client: {what:?}");
            let all = clients.iter().copied().zip(words);
            let columns: Vec<_> = all.filter(|(_, word)| *word != "-").collect();
            let row = move |kind, endpoints| Row {
                kind,
                policy,
                endpoints,
                protocols,
                columns: columns.clone(),
            };
            let pairs = kinds
                .split(',')
                .flat_map(move |kind| places.split(',').map(move |place| (kind, place)));
            pairs.map(move |(kind, place)| row(kind, place))
        })
        .collect()
}

/// The words before the bar that stands alone, and those after it.
fn halves(line: &str) -> (Vec<&str>, Vec<&str>) {
    let (what, words) = line.split_once(" | ").expect("a line has a bar");
    (
        what.split_whitespace().collect(),
        words.split_whitespace().collect(),
    )
}
