//! Several addresses of one API server: one of them dies, and what changes is
//! heard by another.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use kube_ipvs_core::event::Kind;
use kube_ipvs_tests::apiserver::replica::{Replica, hasty, server, server_with};
use kube_ipvs_tests::apiserver::{Access, ApiServer, Options, api_server_slice, service};

use crate::relay::Relay;

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A server at the first address, by TLS.
fn secure() -> ApiServer {
    server_with(Options {
        tls: true,
        ..Options::default()
    })
}

/// It once more at the second one, with a certificate for this host.
fn twin(server: &ApiServer, host: Ipv4Addr) -> ApiServer {
    server.twin(SocketAddr::from((SECOND, 0)), IpAddr::V4(host))
}

/// What `default/kubernetes` says.
fn tell(server: &ApiServer, at: SocketAddr) {
    server.upsert(api_server_slice(&[&at.ip().to_string()], at.port()));
}

fn web() -> serde_json::Value {
    service("default", "web", "10.96.0.10")
}

fn failure(replica: &Replica) -> String {
    replica
        .status
        .kind(Kind::Service)
        .failure
        .unwrap_or_default()
}

/// What changes once one is cut off is heard by another, from the same place on.
async fn goes_on(replica: &mut Replica, server: &ApiServer, cut_off: impl FnOnce()) {
    replica.synced().await;
    replica.watches(server).await;

    cut_off();
    server.upsert(web());

    replica.equals(server).await;
    assert_eq!(replica.lists[&Kind::Service], 1, "the place is not lost");
}

#[tokio::test]
async fn another_address_that_is_named_is_taken_when_the_first_refuses() {
    let server = server();
    let other = twin(&server, SECOND);
    let access = Access::with(&server.kubeconfig(), &[other.address()]).await;
    let mut replica = Replica::behind(access, hasty());

    goes_on(&mut replica, &server, || server.outage()).await;
}

#[tokio::test]
async fn an_address_of_default_kubernetes_is_taken_when_the_first_is_silent() {
    let server = secure();
    let relay = Relay::to(server.address()).await;
    let other = twin(&server, FIRST);
    tell(&server, other.address());
    let (real, relayed) = (server.address().to_string(), relay.address.to_string());
    let kubeconfig = server.kubeconfig().replace(&real, &relayed);
    let mut replica = Replica::through(&kubeconfig, hasty()).await;

    // Those that exist end by a ping without an answer, new ones get no TLS.
    goes_on(&mut replica, &server, || relay.die()).await;
}

#[tokio::test]
async fn an_address_of_default_kubernetes_with_another_name_is_refused() {
    let server = secure();
    // As a kubelet has one, from the same authority, for its own address.
    let stranger = twin(&server, SECOND);
    tell(&server, stranger.address());
    let mut replica = Replica::synced_with(&server).await;
    replica.watches(&server).await;

    server.outage();
    let named = format!("{}: ", stranger.address());
    replica
        .until("the certificate is refused", |replica| {
            let told = failure(replica);
            told.contains(&named) && told.contains("certificate")
        })
        .await;
    let asked = server.requests().len();
    let failures = replica.status.kind(Kind::Service).failures;
    replica.fails(failures + 2).await;

    assert_eq!(server.requests().len(), asked, "nobody was asked");
    server.resume();
    server.upsert(web());
    replica.equals(&server).await;
}

#[tokio::test]
async fn an_address_that_the_operator_names_is_known_by_its_own_name() {
    let server = secure();
    let other = twin(&server, SECOND);
    server.outage();

    let access = Access::with(&server.kubeconfig(), &[other.address()]).await;
    let mut replica = Replica::behind(access, hasty());

    replica.synced().await;
}

#[tokio::test]
async fn an_address_that_left_default_kubernetes_is_not_asked() {
    let server = secure();
    let other = twin(&server, FIRST);
    tell(&server, other.address());
    let mut replica = Replica::synced_with(&server).await;
    let slices = |replica: &Replica| replica.names_of(Kind::EndpointSlice).len();
    assert_eq!(slices(&replica), 1);
    server.delete("EndpointSlice", "default", "kubernetes");
    replica
        .until("the slice is gone", |replica| slices(replica) == 0)
        .await;
    replica.watches(&server).await;

    server.outage();
    server.upsert(web());
    replica.fails(3).await;

    assert!(!failure(&replica).contains(&other.address().to_string()));
    assert!(replica.names_of(Kind::Service).is_empty());
}
