//! Credentials and permissions: refused, missing, changed.

use kube_ipvs_core::event::Kind;
use kube_ipvs_tests::apiserver::{ApiServer, Fault, Options, service};

use kube_ipvs_tests::apiserver::replica::{Replica, hasty, server, server_with};

fn with_token(token: &str) -> Options {
    Options {
        bearer_token: Some(token.to_owned()),
        ..Options::default()
    }
}

fn with_tls() -> Options {
    Options {
        tls: true,
        ..Options::default()
    }
}

/// Until the source says this of Services.
async fn says(replica: &mut Replica, part: &str) {
    replica
        .until(&format!("{part} is said"), |replica| {
            failure(replica, Kind::Service).contains(part)
        })
        .await;
}

fn failure(replica: &Replica, kind: Kind) -> String {
    replica.status.kind(kind).failure.unwrap_or_default()
}

#[tokio::test]
async fn missing_permission_is_named() {
    let server = server();
    server.deny("watch", "endpointslices");
    let mut replica = Replica::of(&server).await;

    replica
        .until("it is refused", |replica| {
            !failure(replica, Kind::EndpointSlice).is_empty()
        })
        .await;

    let message = failure(&replica, Kind::EndpointSlice);
    for part in [
        "cannot watch resource \"endpointslices\"",
        "\"discovery.k8s.io\"",
        "(403)",
        "system:node-proxier",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(!replica.status.synced());
    server.allow("watch", "endpointslices");
    replica.synced().await;
}

#[tokio::test]
async fn permission_taken_away_keeps_the_state() {
    let server = server();
    server.upsert(service("default", "web", "10.96.0.10"));
    let mut replica = Replica::watching(&server).await;

    server.deny("watch", "services");
    server.deny("list", "services");
    server.fault_at("services", Fault::Gone);
    says(&mut replica, "(403)").await;

    assert_eq!(replica.names_of(Kind::Service), ["web"]);
}

#[tokio::test]
async fn token_that_is_not_accepted_is_named() {
    let server = server_with(with_token("right"));
    let wrong = server.kubeconfig().replace("right", "wrong");
    let mut replica = Replica::through(&wrong, hasty()).await;

    says(&mut replica, "(401)").await;

    let message = failure(&replica, Kind::Service);
    assert!(
        message.contains("the token or certificate is not accepted"),
        "{message}"
    );
}

#[tokio::test]
async fn right_token_is_sent() {
    let server = server_with(with_token("right"));

    let _replica = Replica::synced_with(&server).await;

    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.status == 200)
    );
}

#[tokio::test]
async fn tls_brings_http2() {
    let server = server_with(with_tls());

    let mut replica = Replica::synced_with(&server).await;

    // What carries pings, and so finds a dead server behind a load balancer.
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.http == http::Version::HTTP_2)
    );
    server.upsert(service("default", "web", "10.96.0.10"));
    replica.equals(&server).await;
}

#[tokio::test]
async fn server_with_another_authority_is_not_trusted() {
    let server = server_with(with_tls());
    let other = ApiServer::local_with(with_tls());
    let kubeconfig = server.kubeconfig().replace(&server.url(), &other.url());
    let mut replica = Replica::through(&kubeconfig, hasty()).await;

    says(&mut replica, "certificate").await;

    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn token_that_changes_in_the_file_is_taken_up() {
    let server = server_with(with_token("first"));
    let mut replica = Replica::synced_with(&server).await;

    server.set_bearer_token("second");
    server.fault(Fault::Reset);
    says(&mut replica, "(401)").await;
    server
        .write_kubeconfig(&replica.kubeconfig())
        .expect("write the kubeconfig");
    server.upsert(service("default", "web", "10.96.0.10"));

    replica.equals(&server).await;
}
