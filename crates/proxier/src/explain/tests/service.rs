//! What the daemon says of a Service, beside what the layers hold.

use kube_ipvs_core::row::{Row, Verdict};
use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_core::{Account, EndpointCounts, FrontAccount, PortAccount, Unserved};

use super::super::{ExplainArgs, NodeArgs, Output, Seen, answer};
use super::{front, seen, serving};
use crate::answers::{Refused, Told};

/// What a daemon would say of `default/web`.
pub(super) fn told(change: impl FnOnce(&mut Account)) -> Told {
    let mut account = Account {
        service: "default/web".into(),
        kind: "LoadBalancer".into(),
        unserved: None,
        ports: vec![PortAccount {
            name: "http".into(),
            protocol: kube_ipvs_core::state::Protocol::Tcp,
            port: 80,
            node_port: None,
            v4: EndpointCounts::default(),
            v6: EndpointCounts::default(),
            more: false,
        }],
        fronts: vec![FrontAccount {
            key: VirtualServerKey::Front(front()),
            port: Some("http".into()),
            kind: Some("LoadBalancer".into()),
            lost_to: None,
        }],
        warnings: Vec::new(),
        internal_local: false,
        external_local: true,
    };
    change(&mut account);
    Told {
        version: 1,
        account: Some(account),
        ..Told::default()
    }
}

/// The text of the whole answer, or the error.
pub(super) fn answered(target: &str, seen: &Seen, told: Option<&Told>) -> String {
    let told: Vec<Told> = told.into_iter().cloned().collect();
    answered_by(target, seen, &told)
}

fn answered_by(target: &str, seen: &Seen, told: &[Told]) -> String {
    let args = args(target);
    match answer(&args, seen, told) {
        Ok(answer) => {
            let service = answer.services.iter().map(ToString::to_string);
            let fronts = answer.fronts.iter().map(ToString::to_string);
            service.chain(fronts).collect()
        }
        Err(error) => error.to_string(),
    }
}

pub(super) fn args(target: &str) -> ExplainArgs {
    ExplainArgs {
        target: target.parse().expect("a target"),
        from: None,
        node: NodeArgs::default(),
        output: Output::Text,
    }
}

#[test]
fn why_nobody_answers_is_what_the_daemon_knows() {
    let closed = seen(Row::of(Verdict::Refuse));
    let outside = |told: &Told| {
        let text = answered("web", &closed, Some(told));
        let line = text.lines().find(|line| line.contains("from outside"));
        line.unwrap_or_default().trim().to_owned()
    };
    let counted = |endpoints, ready, ready_here| {
        told(|account| {
            account.ports[0].v4 = EndpointCounts {
                endpoints,
                ready,
                ready_here,
                leaving: 0,
                leaving_here: 0,
            };
        })
    };

    assert_eq!(
        outside(&counted(0, 0, 0)),
        "from outside  refused: the port has no endpoints"
    );
    assert_eq!(
        outside(&counted(3, 0, 0)),
        "from outside  refused: none of the port's 3 endpoints is ready"
    );
    assert_eq!(
        outside(&counted(3, 2, 0)),
        "from outside  refused: the policy is Local, and of the port's 2 ready endpoints none is on this node"
    );
    // Nothing that is not known: of the policy Cluster, and of a part.
    let unsure = |change: fn(&mut Account)| {
        let mut told = counted(3, 2, 0);
        change(told.account.as_mut().expect("an account"));
        outside(&told)
    };
    for unknown in [
        unsure(|account| account.external_local = false),
        unsure(|account| account.fronts[0].kind = Some("ClusterIP".into())),
        unsure(|account| account.ports[0].more = true),
    ] {
        assert!(unknown.starts_with("from outside  refused: "), "{unknown}");
        assert!(!unknown.contains("Local"), "{unknown}");
    }
    let mark = VirtualServerKey::Mark {
        mark: 7,
        family: kube_ipvs_core::state::Family::V4,
    };
    for key in [VirtualServerKey::Front(front()), mark] {
        let mut refused = counted(3, 2, 2);
        let fronts = &mut refused.account.as_mut().expect("an account").fronts;
        fronts.push(FrontAccount {
            key: mark,
            ..fronts[0].clone()
        });
        refused.refused.push(Refused {
            what: format!("virtual server {key}"),
            key: Some(key),
            address: None,
            error: "add virtual server: no such scheduler (ENOENT)".into(),
        });
        assert_eq!(
            outside(&refused),
            "from outside  refused: the kernel refuses what it needs: add virtual server: no such scheduler (ENOENT)"
        );
    }
}

#[test]
fn a_service_that_is_not_served_is_told_why_and_nothing_of_fronts() {
    for (unserved, words) in [
        (Unserved::Headless, "it is headless (clusterIP: None)"),
        (Unserved::ExternalName, "it is of type ExternalName"),
        (
            Unserved::OtherProxy(Some("cilium".into())),
            "gives it to another proxy: cilium",
        ),
        (
            Unserved::OtherProxy(Some(String::new())),
            "is there with an empty value",
        ),
        (
            Unserved::OtherProxy(None),
            "it has no label service.kubernetes.io/service-proxy-name",
        ),
        (Unserved::NoPorts, "it has no port"),
        (
            Unserved::NoAddress,
            "it has no address that this node serves",
        ),
    ] {
        let told = told(|account| {
            account.unserved = Some(unserved);
            account.fronts.clear();
        });
        let text = answered("web", &Seen::default(), Some(&told));

        assert!(text.contains(words), "{text}");
        assert!(!text.contains("from outside"), "{text}");
    }
}

#[test]
fn a_front_lost_to_another_service_and_warnings_are_told() {
    let told = told(|account| {
        account.fronts[0].lost_to = Some("shop/older".into());
        account.fronts[0].port = None;
        account
            .warnings
            .push("spec.externalIPs: 192.0.2.1 is not allowed".into());
    });

    let text = answered("default/web:80", &Seen::default(), Some(&told));

    assert_eq!(
        text,
        "default/web  LoadBalancer
  port          http 80/TCP: 0 endpoints, 0 ready, 0 of them here
  lost          203.0.113.5:80/TCP to shop/older, which goes before it
  warning       spec.externalIPs: 192.0.2.1 is not allowed
"
    );
}

#[test]
fn what_there_is_not_is_said_only_by_who_knows() {
    let nobody = Told {
        version: 1,
        near: vec!["default/web".into()],
        ..Told::default()
    };
    let early = Told {
        awaited: vec!["Service".into()],
        ..Told::default()
    };
    let told = told(|_| ());
    let said = |target, told| answered(target, &serving(), told);

    assert_eq!(
        said("wed", Some(&nobody)),
        "there is no Service default/wed; there is default/web"
    );
    let twice = Told {
        elsewhere: vec!["shop/web".into()],
        near: vec!["shop/web".into(), "default/wet".into()],
        ..nobody.clone()
    };
    assert_eq!(
        said("wed", Some(&twice)),
        "there is no Service default/wed; there is shop/web, default/wet"
    );
    assert_eq!(
        said("wed", Some(&early)),
        "Service default/wed is not known yet: the first full list is awaited"
    );
    assert_eq!(
        said("web:81", Some(&told)),
        "Service default/web has no port 81; it has http 80/TCP"
    );
    let unknown = |who: &str| {
        format!(
            "shop/wed: no virtual server of it is recorded in /run/kube-ipvs; whether there is \
             such a Service, only {who}; there is default/web"
        )
    };
    assert_eq!(
        said("shop/wed", None),
        unknown("the kube-ipvs that runs here could tell, and it does not answer")
    );
    let alone = Seen {
        runs: false,
        ..serving()
    };
    assert_eq!(
        answered("shop/wed", &alone, None),
        unknown("a running kube-ipvs could tell")
    );
}

#[test]
fn what_could_not_be_read_is_not_said_to_be_absent() {
    let unread = |account: Option<Account>| Told {
        unread: Some("it is there and could not be read".into()),
        reasons: [("manifests".to_owned(), "web.yaml: not YAML".to_owned())].into(),
        account,
        ..Told::default()
    };

    let text = answered("web", &Seen::default(), Some(&unread(None)));
    assert_eq!(
        text,
        "Service default/web is not known: it is there and could not be read: web.yaml: not YAML"
    );
    let known = unread(told(|_| ()).account);
    assert_eq!(super::super::behind(&known), None, "it is named");
    let elsewhere = Told {
        unread: None,
        ..known.clone()
    };
    let behind = super::super::behind(&elsewhere).expect("told");
    assert!(
        behind.ends_with("stays in force: web.yaml: not YAML"),
        "{behind}"
    );
    // The same of an API server that cannot be reached for now.
    let away = Told {
        reasons: Default::default(),
        warnings: [("api".to_owned(), "Service cannot be followed".to_owned())].into(),
        ..elsewhere
    };
    let behind = super::super::behind(&away).expect("told");
    assert!(
        behind.ends_with("stays in force: Service cannot be followed"),
        "{behind}"
    );
    let note = super::super::unread(&known);
    assert_eq!(
        note.as_deref(),
        Some("default/web: it is there and could not be read: web.yaml: not YAML")
    );
    // What is served besides what is known is shown too.
    let old = "203.0.113.6:80/TCP".parse().expect("a front");
    let mut seen = serving();
    seen.recorded.insert(old, "default/web:http".into());
    let text = answered("web", &seen, Some(&known));
    assert!(text.contains("\n203.0.113.6:80/TCP"), "{text}");
}

/// A resolver: one number over two protocols, and on the nodes.
fn resolver() -> Told {
    told(|account| {
        let tcp = PortAccount {
            name: "dns-tcp".into(),
            port: 53,
            node_port: Some(30053),
            ..account.ports[0].clone()
        };
        let udp = PortAccount {
            name: "dns".into(),
            protocol: kube_ipvs_core::state::Protocol::Udp,
            node_port: None,
            ..tcp.clone()
        };
        account.fronts.clear();
        for (key, port) in [
            ("10.96.0.10:53/TCP", "dns-tcp"),
            ("10.96.0.10:53/UDP", "dns"),
            ("192.0.2.1:30053/TCP", "dns-tcp"),
        ] {
            account.fronts.push(FrontAccount {
                key: key.parse().expect("a key"),
                port: Some(port.into()),
                kind: Some("ClusterIP".into()),
                lost_to: None,
            });
        }
        account.ports = vec![tcp, udp];
    })
}

#[test]
fn a_number_means_the_ports_of_all_protocols_and_one_on_the_nodes() {
    let told = resolver();
    let shown = |target: &str| {
        let text = answered(target, &Seen::default(), Some(&told));
        let fronts = text
            .lines()
            .filter(|line| line.starts_with(char::is_numeric));
        let fronts = fronts.map(|line| line.split("  ").next().unwrap_or_default().to_owned());
        fronts.collect::<Vec<_>>()
    };

    let all = [
        "10.96.0.10:53/TCP",
        "10.96.0.10:53/UDP",
        "192.0.2.1:30053/TCP",
    ];
    assert_eq!(shown("web:53"), all);
    assert_eq!(shown("web:dns"), ["10.96.0.10:53/UDP"]);
    assert_eq!(shown("web:30053"), ["192.0.2.1:30053/TCP"]);
}

#[test]
fn an_address_that_the_kernel_does_not_bind_is_told_with_its_reason() {
    let refused = |what: &str| {
        let mut told = told(|_| ());
        told.refused.push(Refused {
            what: what.into(),
            key: None,
            address: Some(front().address),
            error: "no buffer space available (ENOBUFS)".into(),
        });
        told
    };
    let mut unbound = serving();
    unbound.state.vips.clear();

    let text = answered("web", &unbound, Some(&refused("vip 203.0.113.5")));
    for line in [
        "  refused       vip 203.0.113.5: no buffer space available (ENOBUFS)\n",
        "  from outside  not taken by this node: the kernel refuses to bind 203.0.113.5: no buffer space available (ENOBUFS)\n",
        "  to do         as the error says; the daemon tries again by itself\n",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    let closed = seen(Row::of(Verdict::Refuse));
    let text = answered("web", &closed, Some(&refused("guard of 203.0.113.5")));
    let line = "from outside  refused: the kernel refuses what it needs: no buffer space";
    assert!(text.contains(line), "{text}");
}

#[test]
fn services_that_share_an_address_are_all_told() {
    let other = told(|account| {
        account.service = "shop/cart".into();
        account.ports[0].port = 81;
        account.fronts[0].key = "203.0.113.5:81/TCP".parse().expect("a key");
    });
    let mut seen = serving();
    let key = "203.0.113.5:81/TCP".parse().expect("a key");
    seen.recorded.insert(key, "shop/cart:http".into());
    let both = [told(|_| ()), other];

    let text = answered_by("203.0.113.5", &seen, &both);

    for line in [
        "default/web  LoadBalancer\n",
        "shop/cart  LoadBalancer\n",
        "203.0.113.5:80/TCP  default/web:http\n",
        "203.0.113.5:81/TCP  shop/cart:http\n",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    assert!(both[0].has(&VirtualServerKey::Front(front())));
    assert!(!both[0].has(&key));
}

#[test]
fn endpoints_are_counted_in_the_family_that_is_asked_about() {
    let mut closed = seen(Row::of(Verdict::Refuse));
    let v6 = "[fd00:96::5]:80/TCP".parse().expect("a key");
    let VirtualServerKey::Front(v6_front) = v6 else {
        panic!("a front")
    };
    closed.state.vips.insert(v6_front.address);
    closed
        .state
        .table
        .rows
        .insert(v6_front, Row::of(Verdict::Refuse));
    closed.recorded.insert(v6, "default/web:http".into());
    let told = told(|account| {
        account.ports[0].v4 = EndpointCounts {
            endpoints: 2,
            ready: 2,
            ready_here: 1,
            leaving: 0,
            leaving_here: 0,
        };
        account.fronts.push(FrontAccount {
            key: v6,
            ..account.fronts[0].clone()
        });
    });

    let text = answered("web", &closed, Some(&told));

    for line in [
        "  port          http 80/TCP over IPv4: 2 endpoints, 2 ready, 1 of them here\n",
        "  port          http 80/TCP over IPv6: 0 endpoints, 0 ready, 0 of them here\n",
        "[fd00:96::5]:80/TCP  default/web:http\n  from outside  refused: the port has no endpoints of IPv6, only of IPv4\n",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
}

#[test]
fn a_node_port_on_a_loopback_address_is_the_forwarders() {
    let at: kube_ipvs_core::state::Front = "127.0.0.1:30080/TCP".parse().expect("a front");
    let counted = |ready| {
        told(|account| {
            account.fronts[0].key = VirtualServerKey::Front(at);
            account.fronts[0].kind = Some("NodePort".into());
            account.ports[0].v4 = EndpointCounts {
                endpoints: 1,
                ready,
                ready_here: ready,
                leaving: 0,
                leaving_here: 0,
            };
        })
    };
    let text = |told: Option<Told>| answered("127.0.0.1:30080", &Seen::default(), told.as_ref());

    let serving = text(Some(counted(1)));
    let host = "from host     served by kube-ipvs itself, which listens there";
    assert!(serving.contains(host), "{serving}");
    let outside = "from outside  not taken by this node: 127.0.0.1 is everybody's own";
    assert!(serving.contains(outside), "{serving}");

    let closed = text(Some(counted(0)));
    let host = "from host     refused: none of the port's 1 endpoint is ready";
    assert!(closed.contains(host), "{closed}");

    // Without a daemon, or one that does not listen there, it is whoever's.
    let unknown = text(None);
    assert!(
        unknown.contains("from host     left to this host's own programs"),
        "{unknown}"
    );
    assert!(unknown.contains(outside), "{unknown}");
}
