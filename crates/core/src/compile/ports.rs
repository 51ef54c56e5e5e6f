//! The ports of a Service.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Warnings;
use crate::k8s::Service;
use crate::read::{Quoted, port_number, protocol};
use crate::state::Protocol;

/// A port of a Service that makes sense.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
    pub(super) node_port: Option<u16>,
}

/// Reads the ports; those that make no sense are left out.
pub(super) fn read(service: &Service, warnings: &mut Warnings) -> Vec<Port> {
    let mut node_ports = BTreeSet::new();
    let mut ports = Vec::new();
    for port in &service.spec.ports {
        let name = Quoted(&port.name);
        let protocol = match protocol(port.protocol.as_deref()) {
            Ok(protocol) => protocol,
            Err(other) => {
                warnings.add(format!(
                    "port {name}: protocol {} is unknown; the port is ignored",
                    Quoted(other)
                ));
                continue;
            }
        };
        let Some(number) = port_number(port.port) else {
            warnings.add(format!(
                "port {name}: {} is no port; it is ignored",
                port.port
            ));
            continue;
        };
        let node_port = port.node_port.filter(|number| *number != 0);
        let node_port = node_port.and_then(|number| match port_number(number) {
            Some(number) if node_ports.insert((protocol, number)) => Some(number),
            Some(number) => {
                warnings.add(format!(
                    "port {name}: nodePort {number}/{protocol} is there twice; it is ignored here"
                ));
                None
            }
            None => {
                warnings.add(format!(
                    "port {name}: nodePort {number} is no port; it is ignored"
                ));
                None
            }
        });
        ports.push(Port {
            name: port.name.as_str().into(),
            protocol,
            number,
            node_port,
        });
    }
    ports
}
