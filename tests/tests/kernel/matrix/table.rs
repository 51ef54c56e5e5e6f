//! The table: what is expected, for a reviewer to check by eye.

use kube_ipvs_tests::Protocol;

use super::city::Family;

/// A line is a kind of address, a policy and a place of the endpoints; the
/// places are seen from node 1. Then one word a client:
///
/// * `a<self`: the endpoint `a` answered and saw the client's own address;
/// * `a<gate1`, `b<node2`: it saw an address of that node: `node` is its address
///   on the network between nodes, `gate` the one its pods know;
/// * `refused`: at once, by RST or ICMP; `dropped`: no answer at all;
/// * `x/y`: `x` with VIPs bound as addresses, `y` with routes;
/// * `-`: there is no such client.
///
/// Node 1 has the pods `a` (the endpoint that is `here`, or `leaving`: the only
/// one, and terminating) and `c`; node 2 has `b` (the endpoint that is `there`)
/// and `d`. The clients are the endpoint itself (`own`), `c` (`pod`), `d` (`far`),
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
NodePort      Local   here,leaving | a<gate1 a<self  a<self  a<node1       a<node1 a<self
NodePort      Local   there        | dropped b<self  dropped b<node1       b<node1 dropped
NodePort      Local   none         | -       refused refused refused       refused refused
externalIP,LB Cluster here,leaving | a<gate1 a<gate1 a<node2 a<gate1       a<gate1 a<gate1
externalIP,LB Cluster there        | b<gate2 b<node1 b<gate2 b<node1       b<node1 b<node1
externalIP,LB Cluster none         | -       refused refused refused       refused refused
externalIP,LB Local   here,leaving | a<gate1 a<self  a<self  a<gate1/node1 a<node1 a<self
externalIP,LB Local   there        | b<gate2 b<self  b<self  b<node1       b<node1 dropped
externalIP,LB Local   none         | -       refused refused refused       refused refused
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
    pub(super) expected: String,
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
    /// Client and expectation.
    columns: Vec<(&'static str, &'static str)>,
}

impl Row {
    pub(super) fn cells(
        &self,
        binding: &'static str,
        protocol: Protocol,
        family: Family,
    ) -> impl Iterator<Item = Cell> {
        self.columns.iter().map(move |(client, word)| Cell {
            kind: self.kind,
            policy: self.policy,
            endpoints: self.endpoints,
            client,
            protocol,
            family,
            binding,
            expected: of_binding(word, binding),
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

/// The table, line by line, each place and kind on a line of its own.
pub(super) fn rows() -> Vec<Row> {
    let mut lines = TABLE.trim().lines();
    let clients: Vec<&str> = lines
        .next()
        .and_then(|line| line.split_once('|'))
        .map(|(_, clients)| clients.split_whitespace().collect())
        .expect("the table has a head");
    lines.flat_map(|line| rows_of(line, &clients)).collect()
}

fn rows_of(line: &'static str, clients: &[&'static str]) -> Vec<Row> {
    let (what, words) = line.split_once('|').expect("a line has a bar");
    let what: Vec<&str> = what.split_whitespace().collect();
    let [kinds, policy, places] = what[..] else {
        panic!("three words before the bar: {line}");
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    assert_eq!(words.len(), clients.len(), "one word a client: {line}");
    let columns = || {
        let all = clients.iter().copied().zip(words.iter().copied());
        all.filter(|(_, word)| *word != "-").collect()
    };
    let row = |kind, endpoints| Row {
        kind,
        policy,
        endpoints,
        columns: columns(),
    };
    kinds
        .split(',')
        .flat_map(|kind| places.split(',').map(move |place| (kind, place)))
        .map(|(kind, place)| row(kind, place))
        .collect()
}
