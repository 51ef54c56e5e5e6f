//! Objects that tests start from. They are plain JSON: change what the test is
//! about with indexing, as in `service["spec"]["type"] = json!("NodePort")`.

use serde_json::{Value, json};

/// A ClusterIP Service with one TCP port 80 that leads to 8080.
pub fn service(namespace: &str, name: &str, cluster_ip: &str) -> Value {
    let family = if cluster_ip.contains(':') {
        "IPv6"
    } else {
        "IPv4"
    };
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
            "ipFamilies": [family], "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
        "status": {"loadBalancer": {}},
    })
}

/// A slice of a Service with ready endpoints (address, node) on port 8080/TCP.
pub fn endpoint_slice(
    namespace: &str,
    service: &str,
    name: &str,
    endpoints: &[(&str, &str)],
) -> Value {
    let family = if endpoints.iter().any(|(address, _)| address.contains(':')) {
        "IPv6"
    } else {
        "IPv4"
    };
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, node)| {
            json!({
                "addresses": [address], "nodeName": node,
                "conditions": {"ready": true, "serving": true, "terminating": false},
            })
        })
        .collect();
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "namespace": namespace, "name": name,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    })
}

/// The slice of `default/kubernetes`: where the API server itself is.
pub fn api_server_slice(addresses: &[&str], port: u16) -> Value {
    let endpoints: Vec<(&str, &str)> = addresses.iter().map(|address| (*address, "")).collect();
    let mut slice = endpoint_slice("default", "kubernetes", "kubernetes", &endpoints);
    slice["ports"] = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    slice
}

/// A node with internal addresses.
pub fn node(name: &str, addresses: &[&str]) -> Value {
    let addresses: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {}, "status": {"addresses": addresses},
    })
}

/// A range that cluster IPs come from.
pub fn service_cidr(name: &str, cidrs: &[&str]) -> Value {
    json!({
        "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": name}, "spec": {"cidrs": cidrs},
    })
}
