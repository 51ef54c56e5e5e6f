//! Hosts whose own chains, input and forward, drop what they do not know.

use std::time::Duration;

use kube_ipvs::sync::Trigger;
use kube_ipvs_nft::{DEFAULT_ACCEPT_BIT, Nft};
use kube_ipvs_tests::{Client, Protocol, Topology, Verdict};
use kube_ipvs_vip::Binding;

use crate::guard::{host, web};
use crate::matrix::proxy::{Proxy, sync};

const FIREWALL: &str = "nft 'table inet fw {
    chain input { type filter hook input priority 0; policy drop; iif lo accept; }
    chain forward { type filter hook forward priority 0; policy drop; }
}'";

#[test]
fn traffic_passes_a_host_that_drops_when_the_operator_opens_it() {
    let small = Topology::small();
    let (node, pod) = (&small.node, &small.pods[0]);
    let _server = pod.serve(Protocol::Tcp, 8080);
    let _host = host(node, 22);
    node.namespace.sh(FIREWALL);
    let objects = web(Some(&pod.v4.to_string()));
    let client = Client::within(&small.outside.namespace).timeout(Duration::from_secs(1));
    let service = || client.call(Protocol::Tcp, "10.96.0.10:80");
    let mut proxy = Proxy::new(node, "node-1", Binding::Address);

    node.namespace.run(|| sync(&mut proxy.syncer(&objects)));
    let closed = service();
    for table in &mut proxy.setup.tables {
        table.accept_bit = Some(DEFAULT_ACCEPT_BIT);
    }
    let [open, taken, again] = node.namespace.run(|| {
        let mut syncer = proxy.syncer(&objects);
        sync(&mut syncer);
        let open = service();
        let mut nft = Nft::open().expect("open nftables");
        assert_eq!(nft.remove_accepts().expect("remove our rules"), 2);
        let taken = service();
        syncer.audit(0, Trigger::Audit).expect("audit");
        [open, taken, service()]
    });

    assert_eq!(closed, Verdict::TimedOut);
    assert_eq!(open.who(), "p1");
    assert_eq!(taken, Verdict::TimedOut);
    assert_eq!(again.who(), "p1");
    let host = format!("{}:22", node.v4());
    assert_eq!(client.call(Protocol::Tcp, &host), Verdict::TimedOut);
}
