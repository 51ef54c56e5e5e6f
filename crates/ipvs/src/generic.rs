//! The number under which the kernel has IPVS.

use netlink_exchange::Connection;
use netlink_packet_generic::constants::{
    CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_CMD_GETFAMILY, GENL_ID_CTRL,
};
use nix::errno::Errno;

use crate::constants::*;
use crate::query::{Query, no_answer};
use crate::wire::{read_attributes, read_u16};
use crate::{Error, Operation};

/// Version of the requests to the controller of generic netlink.
const CTRL_VERSION: u8 = 2;

/// Resolve the family's number. The kernel loads the module for this question.
pub(crate) fn find_family(connection: &mut Connection) -> Result<u16, Error> {
    let query = Query {
        operation: Operation::FindFamily,
        family: GENL_ID_CTRL,
        command: CTRL_CMD_GETFAMILY,
        version: CTRL_VERSION,
        dump: false,
    };
    let mut family = None;
    let asked = query.ask(
        connection,
        |out| out.name(CTRL_ATTR_FAMILY_NAME, IPVS_GENL_NAME),
        |_, attributes| {
            read_attributes(attributes, |attribute| {
                if attribute.kind() == CTRL_ATTR_FAMILY_ID {
                    family = Some(read_u16(attribute.value(), "family")?);
                }
                Ok(())
            })
        },
    );
    match asked {
        Err(error) if error.is_refusal() && error.errno() == Some(Errno::ENOENT) => {
            Err(Error::NoIpvs)
        }
        Err(error) => Err(error),
        Ok(()) => family.ok_or_else(|| no_answer(query.operation)),
    }
}
