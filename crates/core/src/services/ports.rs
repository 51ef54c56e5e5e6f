//! The ports of a Service.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::k8s::ServiceSpec;
use crate::read::{Quoted, port_number, protocol};
use crate::slices::Interner;
use crate::state::Protocol;
use crate::warnings::Warnings;

/// Ports that are read of a Service: each is a front at least, and of those it
/// has no more ([`crate::compile`]).
const MOST: usize = 16_384;

/// A port of a Service that makes sense.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
    pub(crate) node_port: Option<u16>,
}

/// Reads the ports; those that make no sense are left out.
pub(super) fn read(
    spec: &ServiceSpec,
    names: &mut Interner,
    warnings: &mut Warnings,
) -> Box<[Port]> {
    let mut node_ports = BTreeSet::new();
    let length = spec.ports.len();
    if length > MOST {
        warnings.add(format!(
            "spec.ports: of {length} ports those beyond the first {MOST} are ignored"
        ));
    }
    let mut ports = Vec::with_capacity(length.min(MOST));
    for port in spec.ports.iter().take(MOST) {
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
            name: names.intern(&port.name),
            protocol,
            number,
            node_port,
        });
    }
    ports.into()
}

/// The health-check node port, where the nodes are `asked` at one.
pub(super) fn health(spec: &ServiceSpec, asked: bool, warnings: &mut Warnings) -> Option<u16> {
    let number = spec.health_check_node_port.filter(|number| *number != 0);
    let number = number.filter(|_| asked)?;
    let port = port_number(number);
    if port.is_none() {
        warnings.add(format!(
            "healthCheckNodePort {number} is no port; it is ignored"
        ));
    }
    port
}
