//! What the daemon says of a Service while its pods are replaced.

use kube_ipvs_core::EndpointCounts;
use kube_ipvs_core::row::{Row, Verdict};
use kube_ipvs_core::state::{Front, VirtualServerKey};

use super::super::{Seen, Service};
use super::service::{answered, told};
use super::{MARK, local, seen, server, serving};
use crate::answers::Told;

/// From the first new pod to the last old one.
#[test]
fn a_rollout_is_told_in_its_steps() {
    let step = |endpoints, ready, leaving| {
        let told = told(|account| {
            account.external_local = false;
            account.ports[0].v4 = EndpointCounts {
                endpoints,
                ready,
                ready_here: 0,
                leaving,
                leaving_here: 0,
            };
        });
        answered("web", &serving(), Some(&told))
    };
    const LEFT: &str = " leaving: none of the port's";

    let begins = step(3, 2, 0);
    assert!(
        begins.contains("3 endpoints, 2 ready, 0 of them here, 1 not ready\n"),
        "{begins}"
    );
    assert!(!begins.contains(LEFT), "{begins}");
    let halfway = step(4, 1, 1);
    assert!(
        halfway.contains("1 ready, 0 of them here, 1 leaving, 0 of them here, 2 not ready\n"),
        "{halfway}"
    );
    assert!(!halfway.contains(LEFT), "{halfway}");
    let broken = step(3, 0, 2);
    assert!(broken.contains("from outside  served by "), "{broken}");
    assert!(
        broken.contains(" leaving: none of the port's 3 endpoints is ready\n"),
        "{broken}"
    );
    assert!(
        broken.contains("  to do         see why its new pods are not ready"),
        "{broken}"
    );
    let well = step(2, 2, 0);
    assert!(
        well.contains("2 ready, 0 of them here\n") && !well.contains("not ready"),
        "{well}"
    );
}

/// A Service of policy Local with so many ready endpoints elsewhere, and others that leave.
fn kept_local(kind: &str, ready: usize, leaving: usize, leaving_here: usize) -> Told {
    told(|account| {
        account.internal_local = true;
        account.fronts[0].kind = Some(kind.into());
        account.ports[0].v4 = EndpointCounts {
            endpoints: ready + leaving,
            ready,
            ready_here: 0,
            leaving,
            leaving_here,
        };
    })
}

/// The verdicts of the three, and what to do.
fn verdicts(seen: &Seen, told: &Told) -> Vec<String> {
    let text = answered("web", seen, Some(told));
    let verdicts = text.lines().map(str::trim);
    let verdicts = verdicts.filter(|line| line.starts_with("from ") || line.starts_with("to do"));
    verdicts.map(str::to_owned).collect()
}

const HERE: &str = "; it is leaving: the policy is Local, and of the port's 2 ready endpoints none is on this node";
const REMEDY: &str = "to do         see why no new pod on this node is ready, before the old ones \
                      have ended; or set the policy to Cluster";

#[test]
fn those_that_leave_here_answer_where_the_policy_keeps_to_this_node() {
    // Traffic from inside has the endpoints of the whole cluster, by its mark.
    let mut split = local();
    split.state.table.rows.clear();
    let row = Row {
        inside: Some(291),
        ..Row::of(Verdict::Serve)
    };
    split.state.table.rows.insert(super::front(), row);
    let key = VirtualServerKey::Front(super::front());
    let here = server(&[("10.244.1.2:8080", 1)]);
    split.state.virtual_servers.insert(key, here.into());

    let balancer = verdicts(&split, &kept_local("LoadBalancer", 2, 1, 1));

    let [outside, pods, host, remedy] = &balancer[..] else {
        panic!("{balancer:?}")
    };
    assert_eq!(
        *outside,
        format!("from outside  served by 1 real server{HERE}")
    );
    assert_eq!(remedy, REMEDY);
    for inside in [pods, host] {
        assert!(
            inside.contains(&format!("served by 2 real servers of {MARK}")),
            "{inside}"
        );
        assert!(!inside.contains("leaving"), "{inside}");
    }
    // A ClusterIP of internal policy Local: there is no mark, and for all it is the same.
    let own = verdicts(&serving(), &kept_local("ClusterIP", 2, 1, 1));
    assert_eq!(own.iter().filter(|line| line.ends_with(HERE)).count(), 3);
    // Of policy Cluster nothing is said of this node.
    let mut anywhere = kept_local("ClusterIP", 2, 1, 1);
    anywhere
        .account
        .as_mut()
        .expect("an account")
        .internal_local = false;
    let anywhere = verdicts(&serving(), &anywhere);
    assert!(!anywhere.concat().contains("leaving"), "{anywhere:?}");
    // Where none is ready anywhere, that is the reason.
    let none = verdicts(&serving(), &kept_local("ClusterIP", 0, 3, 1));
    assert!(
        none[0].ends_with("; it is leaving: none of the port's 3 endpoints is ready"),
        "{none:?}"
    );
    let none = kept_local("ClusterIP", 0, 3, 1);
    let known = Service::of(&none).expect("known").known(&super::front());
    assert_eq!((known.leaving, known.leaving_here), (Some(3), None));
}

#[test]
fn those_that_leave_elsewhere_answer_nobody_who_is_kept_to_this_node() {
    let closed = seen(Row::of(Verdict::Refuse));
    let why = "the policy is Local, none of the port's endpoints is ready, and of its 3 leaving \
               endpoints none is on this node";

    let own = verdicts(&closed, &kept_local("ClusterIP", 0, 3, 0));

    assert_eq!(own[0], format!("from outside  refused: {why}"));
    assert_eq!(own[3], "to do         see why its pods are not ready");
}

/// The forwarder of a loopback address has those of this node alone.
#[test]
fn a_node_port_on_a_loopback_address_has_those_that_leave_here() {
    let at: Front = "127.0.0.1:30080/TCP".parse().expect("a front");
    let host = |ready, leaving, leaving_here| {
        let mut told = kept_local("NodePort", ready, leaving, leaving_here);
        let account = told.account.as_mut().expect("an account");
        account.fronts[0].key = VirtualServerKey::Front(at);
        let text = answered("127.0.0.1:30080", &Seen::default(), Some(&told));
        let line = text.lines().find(|line| line.contains("from host"));
        line.unwrap_or_default().trim().to_owned()
    };

    for served in [host(2, 1, 1), host(0, 2, 1)] {
        assert!(served.contains("served by kube-ipvs itself"), "{served}");
    }
    for refused in [host(2, 1, 0), host(0, 2, 0)] {
        assert!(
            refused.contains("refused: the policy is Local"),
            "{refused}"
        );
    }
}
