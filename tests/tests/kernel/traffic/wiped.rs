//! What a kube-proxy does when it starts in another mode, or with `--cleanup`:
//! it flushes IPVS and deletes the link, whoever made them.

use kube_ipvs_tests::{Protocol, wait_until};

use super::WEB;
use super::site::{PATIENCE, Site};
use super::web::Web;

/// An audit that would find it comes in an hour: the link that goes is what tells.
#[test]
fn what_a_kube_proxy_wipes_is_back_without_an_audit() {
    let mut site = Site::new();
    let _server = site.small.pods[0].serve(Protocol::Tcp, 8080);
    site.write(&Web::over(&site.small.pods[..1]));
    site.start(&["--ipvs-sync-period=1h", "--ipvs-min-sync-period=100ms"]);
    let before = site.table();
    for _ in 0..2 {
        assert_eq!(site.outside().callees(Protocol::Tcp, WEB, 1), ["p1"]);

        site.node().sh("ipvsadm -C && ip link delete kube-ipvs0");

        site.wait_for_vip("10.96.0.10");
        site.wait_for_table("it is as before", |table| table == before);
        wait_until("the Service answers", PATIENCE, || {
            site.outside().connect(Protocol::Tcp, WEB).is_ok()
        });
    }
}
