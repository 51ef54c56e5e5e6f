//! What the daemon says of a Service, beside what the layers hold.

use kube_ipvs_core::row::{Row, Verdict};
use kube_ipvs_core::state::VirtualServerKey;
use kube_ipvs_core::{Account, FrontAccount, PortAccount, Unserved};

use super::super::{ExplainArgs, Output, Seen, answer};
use super::{front, seen, serving};
use crate::answers::{Refused, Told};

/// What a daemon would say of `default/web`.
fn told(change: impl FnOnce(&mut Account)) -> Told {
    let mut account = Account {
        service: "default/web".into(),
        kind: "LoadBalancer".into(),
        unserved: None,
        ports: vec![PortAccount {
            name: "http".into(),
            protocol: kube_ipvs_core::state::Protocol::Tcp,
            port: 80,
            node_port: None,
            endpoints: 0,
            ready: 0,
            ready_here: 0,
            leaving: 0,
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
fn answered(target: &str, seen: &Seen, told: Option<&Told>) -> String {
    let args = args(target);
    match answer(&args, seen, told) {
        Ok(answer) => {
            let service = answer.service.iter().map(ToString::to_string);
            let fronts = answer.fronts.iter().map(ToString::to_string);
            service.chain(fronts).collect()
        }
        Err(error) => error.to_string(),
    }
}

fn args(target: &str) -> ExplainArgs {
    ExplainArgs {
        target: target.parse().expect("a target"),
        from: None,
        link: "kube-ipvs0".into(),
        state_dir: "/run/kube-ipvs".into(),
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
            let port = &mut account.ports[0];
            (port.endpoints, port.ready, port.ready_here) = (endpoints, ready, ready_here);
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
            key,
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
            Unserved::OtherProxy("cilium".into()),
            "gives it to another proxy: cilium",
        ),
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
    assert_eq!(
        said("wed", Some(&early)),
        "Service default/wed is not known yet: the first full list is awaited"
    );
    assert_eq!(
        said("web:81", Some(&told)),
        "Service default/web has no port 81; it has http 80/TCP"
    );
    assert_eq!(
        said("shop/wed", None),
        "shop/wed: no virtual server of it is recorded in /run/kube-ipvs; whether there is such \
         a Service, only a running kube-ipvs could tell; there is default/web"
    );
}
