//! Health-check node ports: one small server for each Service with
//! `externalTrafficPolicy: Local` behind a load balancer, which asks it whether
//! this node has endpoints.
//!
//! Body, headers and codes are kube-proxy's. Unlike there, the port is open
//! only on the addresses that take NodePorts and on the Service's own
//! load-balancer addresses, not on every address of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kube_ipvs_core::state::Family;
use kube_ipvs_core::{Cluster, HealthCheck, NodePortAddresses, names::ServiceName};
use nix::sys::socket::{Shutdown, shutdown};
use tracing::{debug, warn};

use super::Health;
use super::connections::{Connections, Port, descriptors};
use super::server::{Reach, listen};

/// Where health-check node ports are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// On every address of these families (`--nodeport-addresses` not set).
    All(BTreeSet<Family>),
    /// On these, and on the load-balancer addresses of the Service.
    Only(BTreeSet<IpAddr>),
}

impl Addresses {
    /// Where NodePorts are: as the operator chose.
    pub fn of(cluster: &Cluster) -> Self {
        match &cluster.options().node_port_addresses {
            NodePortAddresses::All => {
                Self::All(cluster.options().families.iter().copied().collect())
            }
            NodePortAddresses::Primary
            | NodePortAddresses::PrimaryAnd(_)
            | NodePortAddresses::Cidrs(_) => {
                Self::Only(cluster.node_port_addresses().iter().copied().collect())
            }
        }
    }

    fn sockets(&self, check: &HealthCheck) -> Vec<SocketAddr> {
        let addresses: BTreeSet<IpAddr> = match self {
            Self::All(families) => families.iter().map(|family| wildcard(*family)).collect(),
            Self::Only(addresses) => addresses.union(&check.vips).copied().collect(),
        };
        let sockets = addresses.into_iter();
        sockets.map(|ip| SocketAddr::new(ip, check.port)).collect()
    }
}

/// A port takes two descriptors, and all ports together half of those there are.
fn most_ports(descriptors: u64) -> usize {
    usize::try_from(descriptors / 4).unwrap_or(usize::MAX)
}

fn wildcard(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A port that could not be opened. It is tried again at the next sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unopened {
    /// The Service whose health is not told.
    pub service: ServiceName,
    /// Address and port.
    pub address: SocketAddr,
    /// Why.
    pub error: String,
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "open health-check node port {} of Service {}: {}",
            self.address, self.service, self.error
        )
    }
}

/// What a server answers. The Service behind a socket may change.
type Answer = Arc<Mutex<HealthCheck>>;

/// An open socket.
#[derive(Debug)]
struct Server {
    check: Answer,
    /// The listening socket, to close it at a moment of our choosing.
    socket: OwnedFd,
    address: SocketAddr,
    connections: Connections,
}

impl Drop for Server {
    /// Leaves the port free on return, while the task that held it still ends.
    fn drop(&mut self) {
        if let Err(error) = shutdown(self.socket.as_raw_fd(), Shutdown::Both) {
            debug!(%error, "close a health-check node port");
        }
        self.connections.close(self.address);
    }
}

/// All health-check node ports of this node.
#[derive(Debug)]
pub struct HealthCheckPorts {
    connections: Connections,
    health: Health,
    servers: BTreeMap<SocketAddr, Server>,
    warned: BTreeSet<SocketAddr>,
}

impl HealthCheckPorts {
    /// None open.
    pub fn new(connections: Connections, health: Health) -> Self {
        Self {
            connections,
            health,
            servers: BTreeMap::new(),
            warned: BTreeSet::new(),
        }
    }

    /// Opens, closes and updates until exactly these checks are answered.
    ///
    /// May be called from any thread. What could not be opened is warned of
    /// once, returned each time, and tried again by the next call.
    pub fn sync(&mut self, checks: &[HealthCheck], addresses: &Addresses) -> Vec<Unopened> {
        let mut wanted: BTreeMap<SocketAddr, &HealthCheck> = BTreeMap::new();
        let mut unopened = Vec::new();
        for check in checks {
            for address in addresses.sockets(check) {
                match wanted.get(&address) {
                    None => _ = wanted.insert(address, check),
                    Some(other) => unopened.push(Unopened {
                        service: check.service.clone(),
                        address,
                        error: format!("it is Service {}'s", other.service),
                    }),
                }
            }
        }
        // Closed before others are opened: a wildcard and an address exclude each other.
        self.servers
            .retain(|address, _| wanted.contains_key(address));
        for (address, check) in wanted {
            if let Err(error) = self.ensure(address, check) {
                unopened.push(Unopened {
                    service: check.service.clone(),
                    address,
                    error: error.to_string(),
                });
            }
        }
        self.warn_once(&unopened);
        unopened
    }

    /// Sockets that are open.
    pub fn open(&self) -> impl Iterator<Item = SocketAddr> {
        self.servers.keys().copied()
    }

    fn ensure(&mut self, address: SocketAddr, check: &HealthCheck) -> io::Result<()> {
        if let Some(server) = self.servers.get(&address) {
            *server.check.lock().unwrap_or_else(PoisonError::into_inner) = check.clone();
            return Ok(());
        }
        let room = most_ports(descriptors());
        if self.servers.len() >= room {
            return Err(io::Error::other(format!(
                "{room} ports are open, as many as the limit of open files ({}) allows; raise it",
                descriptors()
            )));
        }
        let server = self.start(address, check)?;
        self.servers.insert(address, server);
        Ok(())
    }

    fn start(&self, address: SocketAddr, check: &HealthCheck) -> io::Result<Server> {
        let _entered = self.connections.tasks().runtime().enter();
        let listener = listen(address, Reach::OwnFamily)?;
        let socket = listener.as_fd().try_clone_to_owned()?;
        let check: Answer = Arc::new(Mutex::new(check.clone()));
        let router = Router::new()
            .fallback(answer)
            .with_state((check.clone(), self.health.clone()));
        let name = format!("health-check node port {address}");
        let connections = self.connections.clone();
        // It ends when the socket is shut down.
        let serving = async move { connections.serve(listener, Port { address, router }).await };
        self.connections.tasks().spawn_job(name, serving).detach();
        Ok(Server {
            check,
            socket,
            address,
            connections: self.connections.clone(),
        })
    }

    fn warn_once(&mut self, unopened: &[Unopened]) {
        for failure in unopened {
            if !self.warned.contains(&failure.address) {
                warn!(service = %failure.service, "{failure}");
            }
        }
        self.warned = unopened.iter().map(|failure| failure.address).collect();
    }
}

/// Any path, any method.
async fn answer(State((check, health)): State<(Answer, Health)>) -> Response {
    let check = check.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let healthy = health.report().healthy;
    let code = if healthy && check.local_endpoints > 0 {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let weight = check.local_endpoints.to_string();
    let headers = [
        ("x-content-type-options", "nosniff"),
        ("x-load-balancing-endpoint-weight", &weight),
    ];
    let json = [(header::CONTENT_TYPE, "application/json")];
    (code, json, headers, body(&check, healthy)).into_response()
}

fn body(check: &HealthCheck, healthy: bool) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {},\n\t\t\"name\": {}\n\t}},\n\
         \t\"localEndpoints\": {},\n\t\"serviceProxyHealthy\": {healthy}\n}}",
        quoted(&check.service.namespace),
        quoted(&check.service.name),
        check.local_endpoints,
    )
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::{Event, HostAddress, Options};

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::health::testing::{TestClock, get, health, request};
    use kube_ipvs_source::tasks::Tasks;

    fn check(name: &str, port: u16, local_endpoints: usize) -> HealthCheck {
        HealthCheck {
            service: ServiceName::new("default", name),
            port,
            local_endpoints,
            vips: BTreeSet::new(),
        }
    }

    fn ports(clock: &TestClock) -> (HealthCheckPorts, Health) {
        let health = health(clock);
        (
            HealthCheckPorts::new(Connections::at_most(Tasks::unwatched(), 64), health.clone()),
            health,
        )
    }

    fn only(addresses: &[&str]) -> Addresses {
        let parsed = addresses.iter().map(|ip| ip.parse().expect("an address"));
        Addresses::Only(parsed.collect())
    }

    /// A port that nobody uses now.
    async fn free_port() -> u16 {
        free_port_at("127.0.0.1").await
    }

    async fn free_port_at(address: &str) -> u16 {
        let listener = TcpListener::bind(at(address, 0)).await.expect("bind");
        listener.local_addr().expect("an address").port()
    }

    fn at(ip: &str, port: u16) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), port)
    }

    #[test]
    fn health_checks_are_open_where_node_ports_are() {
        let on = |node_port_addresses| {
            let mut cluster = Cluster::new(Options {
                node_port_addresses,
                node_addresses: vec!["192.0.2.11".parse().expect("an address")],
                ..Options::default()
            });
            let host = ["192.0.2.11", "10.0.0.11", "2001:db8::11", "fe80::1"];
            let host = host.map(|address| HostAddress {
                address: address.parse().expect("an address"),
                prefix: 24,
                link: "eth0".to_owned(),
            });
            cluster.apply(Event::HostAddresses(host.to_vec()));
            Addresses::of(&cluster)
        };
        let nets = |text: &str| NodePortAddresses::Cidrs(vec![text.parse().expect("a network")]);
        // A family without a network has all of its addresses.
        assert_eq!(on(nets("10.0.0.0/8")), only(&["10.0.0.11", "2001:db8::11"]));
        let v4 = only(&["192.0.2.11", "10.0.0.11", "2001:db8::11"]);
        assert_eq!(on(nets("2001:db8::/32")), v4);
        assert_eq!(on(NodePortAddresses::Primary), only(&["192.0.2.11"]));
        let all = BTreeSet::from([Family::V4, Family::V6]);
        assert_eq!(on(NodePortAddresses::All), Addresses::All(all));
    }

    #[tokio::test]
    async fn a_node_with_endpoints_answers_as_kube_proxy() {
        let (mut ports, _) = ports(&TestClock::new());
        let port = free_port().await;

        let unopened = ports.sync(&[check("lbl", port, 1)], &only(&["127.0.0.1"]));

        assert_eq!(unopened, []);
        let answer = request(at("127.0.0.1", port), "POST", "/any/path").await;
        assert_eq!(answer.code, 200);
        assert_eq!(
            answer.body,
            "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"lbl\"\n\t},\n\
             \t\"localEndpoints\": 1,\n\t\"serviceProxyHealthy\": true\n}"
        );
        for (name, value) in [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
            ("x-load-balancing-endpoint-weight", "1"),
            ("content-length", "114"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
    }

    #[tokio::test]
    async fn the_code_follows_endpoints_and_syncs_but_not_the_node() {
        let clock = TestClock::new();
        let (mut ports, health) = ports(&clock);
        let port = free_port().await;
        let to = at("127.0.0.1", port);
        let on = only(&["127.0.0.1"]);

        ports.sync(&[check("web", port, 0)], &on);
        assert_eq!(get(to, "/").await.code, 503);

        // The node is unknown: /healthz would be red.
        ports.sync(&[check("web", port, 3)], &on);
        let answer = get(to, "/").await;
        assert_eq!(answer.code, 200);
        assert_eq!(answer.header("x-load-balancing-endpoint-weight"), Some("3"));

        health.queued_update();
        clock.advance(60);
        let answer = get(to, "/").await;
        assert_eq!(answer.code, 503);
        assert!(answer.body.contains("\"serviceProxyHealthy\": false"));
    }

    #[tokio::test]
    async fn ports_are_open_on_chosen_and_load_balancer_addresses_only() {
        let (mut ports, _) = ports(&TestClock::new());
        let port = free_port().await;
        let mut web = check("web", port, 1);
        web.vips.insert("127.0.0.3".parse().expect("an address"));

        ports.sync(&[web], &only(&["127.0.0.2"]));

        assert_eq!(get(at("127.0.0.2", port), "/").await.code, 200);
        assert_eq!(get(at("127.0.0.3", port), "/").await.code, 200);
        assert!(TcpStream::connect(at("127.0.0.1", port)).await.is_err());
    }

    #[tokio::test]
    async fn without_a_choice_both_families_are_open_everywhere() {
        let (mut ports, _) = ports(&TestClock::new());
        let port = free_port().await;
        let all = Addresses::All(BTreeSet::from([Family::V4, Family::V6]));

        assert_eq!(ports.sync(&[check("web", port, 1)], &all), []);

        assert_eq!(get(at("127.0.0.9", port), "/").await.code, 200);
        assert_eq!(get(at("::1", port), "/").await.code, 200);
    }

    #[tokio::test]
    async fn a_port_is_free_as_soon_as_its_service_is_gone() {
        let (mut ports, _) = ports(&TestClock::new());
        let port = free_port().await;
        let v4 = Addresses::All(BTreeSet::from([Family::V4]));

        for _ in 0..20 {
            assert_eq!(ports.sync(&[check("a", port, 1)], &v4), []);
            let narrow = only(&["127.0.0.1"]);
            assert_eq!(ports.sync(&[check("a", port, 1)], &narrow), []);
        }

        ports.sync(&[], &v4);
        assert_eq!(ports.open().count(), 0);
        assert!(TcpStream::connect(at("127.0.0.1", port)).await.is_err());
    }

    #[tokio::test]
    async fn a_port_that_changes_hands_answers_for_its_new_service() {
        let (mut ports, _) = ports(&TestClock::new());
        let port = free_port().await;
        let on = only(&["127.0.0.1"]);
        ports.sync(&[check("old", port, 1)], &on);

        ports.sync(&[check("new", port, 1)], &on);

        let answer = get(at("127.0.0.1", port), "/").await;
        assert!(answer.body.contains("\"name\": \"new\""), "{}", answer.body);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_reported_and_tried_again() {
        for address in ["127.0.0.1", "::1"] {
            let (mut ports, _) = ports(&TestClock::new());
            let taken = TcpListener::bind(at(address, 0)).await.expect("bind");
            let taken_at = taken.local_addr().expect("an address");
            let port = taken_at.port();
            let other = free_port_at(address).await;
            let checks = [check("other", other, 1), check("web", port, 1)];
            let on = only(&[address]);

            let unopened = ports.sync(&checks, &on);
            assert_eq!(unopened.len(), 1);
            assert_eq!(
                unopened[0].to_string(),
                format!(
                    "open health-check node port {taken_at} of Service default/web: \
                     Address already in use (os error 98)"
                )
            );
            assert_eq!(get(at(address, other), "/").await.code, 200);

            drop(taken);
            assert_eq!(ports.sync(&checks, &on), []);
            assert_eq!(get(at(address, port), "/").await.code, 200);
        }
    }

    #[tokio::test]
    async fn of_two_services_with_one_port_the_first_has_it() {
        let (mut ports, _) = ports(&TestClock::new());
        let port = free_port().await;
        let checks = [check("a", port, 1), check("b", port, 1)];

        let unopened = ports.sync(&checks, &only(&["127.0.0.1"]));

        assert_eq!(unopened.len(), 1);
        assert_eq!(unopened[0].service, ServiceName::new("default", "b"));
        assert_eq!(unopened[0].error, "it is Service default/a's");
    }
}
