//! What a target means, and what is one block.

use kube_ipvs_core::row::{Masquerade, Row, Verdict};
use kube_ipvs_core::state::Front;

use super::super::account::Known;
use super::super::target::Target;
use super::super::verdict::{endpoint, joined};
use super::super::{ExplainArgs, Seen, answer, explain};
use super::service::args;
use super::{MARK, front, server, serving};

/// A NodePort at three addresses, by one mark.
fn node_port() -> Seen {
    let mut seen = Seen::default();
    let by_mark = server(&[("10.244.2.9:8080", 1)]);
    seen.state.virtual_servers.insert(MARK, by_mark.into());
    seen.recorded.insert(MARK, "shop/web:http".into());
    for address in ["192.168.1.1", "192.168.1.2", "192.168.1.3"] {
        let address = address.parse().expect("an address");
        seen.host.insert(address);
        let row = Row {
            masquerade: Masquerade::Always,
            mark: Some(291),
            ..Row::of(Verdict::Serve)
        };
        let front = Front {
            address,
            port: 30080,
            protocol: kube_ipvs_core::state::Protocol::Tcp,
        };
        seen.state.table.rows.insert(front, row);
    }
    seen
}

fn blocks(target: &str, seen: &Seen) -> Vec<String> {
    let target: Target = target.parse().expect("a target");
    let fronts = target.fronts(seen).into_iter();
    let all = fronts.map(|front| explain(&front, None, &Known::default(), seen));
    let joined = joined(all.collect()).into_iter();
    joined
        .map(|each| {
            each.to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

#[test]
fn a_node_port_at_many_addresses_is_one_block() {
    let seen = node_port();
    let block = "192.168.1.1:30080/TCP and at 2 more addresses of this host  shop/web:http";

    for target in [
        "nodeport:30080",
        "nodeport:30080/tcp",
        "shop/web",
        "web",
        "web.shop.svc",
    ] {
        assert_eq!(blocks(target, &seen), [block], "{target}");
    }
    assert_eq!(
        blocks("192.168.1.2:30080", &seen),
        ["192.168.1.2:30080/TCP  shop/web:http"]
    );
    assert_eq!(
        blocks("192.168.1.2", &seen),
        ["192.168.1.2:30080/TCP  shop/web:http"]
    );
    for target in [
        "nodeport:30081",
        "nodeport:30080/udp",
        "default/web",
        "192.168.9.9",
    ] {
        assert_eq!(blocks(target, &seen), Vec::<String>::new(), "{target}");
    }
}

#[test]
fn a_port_of_a_service_is_meant_by_name_and_by_number() {
    let mut seen = serving();
    let metrics = "203.0.113.5:9090/TCP".parse().expect("a front");
    seen.recorded.insert(metrics, "default/web:metrics".into());

    let http = ["203.0.113.5:80/TCP  default/web:http"];
    assert_eq!(blocks("web:80", &seen), http);
    assert_eq!(blocks("default/web:http", &seen), http);
    assert_eq!(blocks("web.default.svc.cluster.local:80", &seen), http);
    assert_eq!(blocks("web", &seen).len(), 2);
    assert_eq!(blocks("web:81", &seen), Vec::<String>::new());
}

#[test]
fn targets_are_told_apart() {
    let parsed = |text: &str| text.parse::<Target>().map(|target| target.to_string());

    for (text, is) in [
        ("10.96.0.10:80", "10.96.0.10:80"),
        ("10.96.0.10", "10.96.0.10"),
        ("fd00::a", "fd00::a"),
        ("[fd00::a]", "fd00::a"),
        ("::ffff:10.96.0.10", "10.96.0.10"),
        ("[::ffff:10.96.0.10]:80", "10.96.0.10:80"),
        ("[fd00::a]:53/udp", "[fd00::a]:53/UDP"),
        ("nodeport:30080/udp", "nodeport:30080/UDP"),
        ("web", "default/web"),
        ("web:http", "default/web:http"),
        ("web.shop.svc.cluster.local:80", "shop/web:80"),
        ("kube-system/kube-dns", "kube-system/kube-dns"),
    ] {
        assert_eq!(parsed(text).as_deref(), Ok(is));
    }
    for text in [
        "",
        "10.96.0.10:80/icmp",
        "nodeport:x",
        "a/b/c",
        "a b",
        "web.shop",
        "a/b.c",
    ] {
        assert!(parsed(text).is_err(), "{text}: {:?}", parsed(text));
    }
}

#[test]
fn what_is_wrong_with_a_target_is_told_with_what_is_near() {
    let said = |text: &str| text.parse::<Target>().expect_err(text);
    let allowed = "allowed: [NAMESPACE/]NAME[:PORT], ";

    for (text, wrong) in [
        ("10.96.0.10:99999", "\"99999\" is no port of 1 to 65535; "),
        ("10.96.0.10:http/udp", "\"http\" is no port of 1 to 65535; "),
        ("10.96.0.10:", "\"\" is no port of 1 to 65535; "),
        ("[fd00::a]:0", "\"0\" is no port of 1 to 65535; "),
        ("nodeport:0", "\"0\" is no port of 1 to 65535; "),
        ("nodeport:", "\"\" is no port of 1 to 65535; "),
        ("web.shop", "perhaps shop/web; "),
        ("web.shop:http", "perhaps shop/web:http; "),
        ("web.shop.pod", ""),
        ("[fd00::a", ""),
        ("]fd00::a[", ""),
    ] {
        let said = said(text);
        let rest = said.strip_prefix(wrong);
        assert!(
            rest.is_some_and(|rest| rest.starts_with(allowed)),
            "{text}: {said}"
        );
    }
    let protocol = said("nodeport:80/icmp");
    assert_eq!(protocol, "\"icmp\" is not TCP, UDP or SCTP");
}

#[test]
fn a_pod_is_told_whom_it_serves_and_where_it_drains() {
    let address = "10.244.1.3".parse().expect("an address");
    let text = endpoint(address, None, &serving())
        .expect("an endpoint")
        .to_string();

    assert_eq!(
        text,
        "10.244.1.3  endpoint behind 1 virtual server
  203.0.113.5:80/TCP  default/web:http  -> 10.244.1.3:8080 weight 0, 0 active, 0 inactive: drains
"
    );
    assert_eq!(endpoint(front().address, None, &serving()), None);
    let at = |port| endpoint(address, Some(port), &serving()).expect("an endpoint");
    assert_eq!(at(8080).to_string(), text);
    let other = at(9);
    assert_eq!(other.behind.len(), 1);
    let head = "10.244.1.3  endpoint behind 1 virtual server, none of which leads to port 9\n";
    assert!(other.to_string().starts_with(head), "{other}");
    // Two ports of one pod: the one that is meant.
    let mut both = serving();
    let metrics = "203.0.113.5:9090/TCP".parse().expect("a front");
    let reals = server(&[("10.244.1.3:9091", 1)]);
    both.state.virtual_servers.insert(metrics, reals.into());
    let meant = endpoint(address, Some(9091), &both).expect("an endpoint");
    assert_eq!((meant.behind.len(), meant.behind[0].key), (1, metrics));
}

/// Nobody calls an address of the other family.
#[test]
fn a_client_is_judged_at_the_fronts_of_its_family() {
    let asked = |target: &str, from: &str, seen: &Seen| {
        let args = ExplainArgs {
            from: Some(from.parse().expect("an address")),
            ..args(target)
        };
        let answer = answer(&args, seen, &[]).map_err(|error| error.to_string())?;
        let fronts = answer.fronts.iter().map(|each| each.front.to_string());
        Ok::<_, String>(fronts.collect::<Vec<_>>())
    };
    let v4 = serving();
    let mut dual = serving();
    let other = "[fd00:96::5]:80/TCP".parse().expect("a front");
    dual.recorded.insert(other, "default/web:http".into());

    let error = asked("web", "fd00::9", &v4).expect_err("it is of IPv4");
    assert_eq!(
        error,
        "--from fd00::9: no client with an address of IPv6 calls default/web, which is there \
         over IPv4 alone"
    );
    let at_address = asked("203.0.113.5:80", "fd00::9", &v4).expect_err("the same");
    assert!(
        at_address.contains("calls 203.0.113.5:80, "),
        "{at_address}"
    );
    let only = |from| asked("web", from, &dual).expect("one of the two");
    assert_eq!(only("fd00::9"), ["[fd00:96::5]:80/TCP"]);
    assert_eq!(only("192.0.2.1"), ["203.0.113.5:80/TCP"]);
    assert_eq!(only("::ffff:192.0.2.1"), ["203.0.113.5:80/TCP"]);
}
