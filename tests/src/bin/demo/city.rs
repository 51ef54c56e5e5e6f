//! The node's neighbourhood: pods as namespaces, each with a server.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use kube_ipvs_tests::{Namespace, run};

/// Name, last byte of the address, TCP ports, UDP ports.
const PODS: [(&str, u8, &[u16], &[u16]); 7] = [
    ("apiserver", 2, &[6443], &[]),
    ("dns-1", 3, &[53, 9153], &[53]),
    ("dns-2", 4, &[53, 9153], &[53]),
    ("myapp-1", 5, &[8080], &[]),
    ("myapp-2", 6, &[8080], &[]),
    ("myapp-3", 7, &[8080], &[]),
    ("myapp-4", 8, &[8080], &[]),
];

/// A node's pods and one more pod that asks.
pub(crate) struct City {
    client: Namespace,
    pods: Vec<(&'static str, Namespace)>,
}

impl City {
    /// Joins the pods to the node, the namespace of this thread, and starts
    /// their servers.
    pub(crate) fn build(node: &Namespace) -> Self {
        run("sysctl", ["-qw", "net.ipv4.ip_forward=1"]);
        let client = pod(node, "client", 100);
        let pods = PODS.map(|(name, byte, tcp, udp)| {
            let namespace = pod(node, name, byte);
            tcp.iter()
                .for_each(|port| serve_tcp(&namespace, name, *port));
            udp.iter()
                .for_each(|port| serve_udp(&namespace, name, *port));
            (name, namespace)
        });
        Self {
            client,
            pods: pods.into(),
        }
    }

    /// Names of the pods that serve.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.pods.iter().map(|(name, _)| *name).collect()
    }

    /// Does something as the pod that asks.
    pub(crate) fn client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.client.run(work)
    }
}

fn pod(node: &Namespace, name: &str, byte: u8) -> Namespace {
    let pod = Namespace::child(name);
    let link = format!("pod{byte}");
    run(
        "ip",
        [
            "link",
            "add",
            &link,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            pod.name(),
        ],
    );
    node.sh(&format!(
        "ip link set {link} up; ip addr add 169.254.1.1/32 dev {link}; ip route add 10.244.0.{byte}/32 dev {link}"
    ));
    pod.sh(&format!(
        "ip addr add 10.244.0.{byte}/32 dev eth0; ip link set eth0 up; \
         ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1"
    ));
    pod
}

fn serve_tcp(pod: &Namespace, name: &'static str, port: u16) {
    let listener = pod.run(|| TcpListener::bind(("0.0.0.0", port)).expect("listen in a pod"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream
                .peer_addr()
                .map(|peer| peer.ip().to_string())
                .unwrap_or_default();
            let _ = stream.write_all(format!("{name} saw {peer}").as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 1]);
        }
    });
}

fn serve_udp(pod: &Namespace, name: &'static str, port: u16) {
    let socket = pod.run(|| UdpSocket::bind(("0.0.0.0", port)).expect("bind in a pod"));
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((_, peer)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(format!("{name} saw {}", peer.ip()).as_bytes(), peer);
        }
    });
}
