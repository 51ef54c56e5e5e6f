//! Over time: others' virtual servers survive syncs and restarts.

use kube_ipvs_tests::{Protocol, run_with_input};

use super::QUICK;
use crate::traffic::site::Site;
use crate::traffic::web::Web;

/// Inside and outside the network of Services; keepalived's look like this.
const FOREIGN: &str = "-A -t 10.96.0.200:80 -s sh\n-a -t 10.96.0.200:80 -r 192.0.2.1:80 -m -w 3\n\
                       -A -u 198.51.100.9:53 -s wlc -p 77\n-a -u 198.51.100.9:53 -r 192.0.2.2:53 -m -w 2\n\
                       -A -f 7 -s rr\n";
const SYNCS: u32 = 100;
const RESTARTS: u32 = 4;

#[test]
fn others_survive_a_hundred_syncs_and_restarts() {
    let mut site = Site::new();
    site.node()
        .run(|| run_with_input("ipvsadm", ["-R"], FOREIGN));
    let before = site.table();
    site.write(&Web::over(&site.small.pods));
    site.start(&QUICK);

    for number in 1..=SYNCS {
        let last = format!("10.244.1.{}", 10 + number % 2);
        let web = Web::new("web", &["10.96.0.10"]).port(Protocol::Tcp, 80, 8080);
        site.write(&web.endpoint(last.parse::<std::net::Ipv4Addr>().expect("an address")));
        site.wait_for_table("the change", |table| {
            table.contains(&format!("{last}:8080"))
        });
        if number % (SYNCS / RESTARTS) == 0 {
            site.daemon().kill();
            site.start(&QUICK);
        }
    }
    site.remove("web");
    site.wait_for_table("ours is gone", |table| !table.contains("10.96.0.10"));

    assert_eq!(site.table(), before);
}
