//! The names of all links, as `ip -brief link` begins its lines.

use netlink_exchange::{Connection, Request, Writer, attributes, protocols};

const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;

struct ListLinks;

impl Request for ListLinks {
    fn message_type(&self) -> u16 {
        RTM_GETLINK
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.header(&[0; 16]); // struct ifinfomsg
    }
}

fn main() -> Result<(), netlink_exchange::Error> {
    let mut connection = Connection::open(protocols::NETLINK_ROUTE)?;
    let names = connection.list(&ListLinks, 5, |link| {
        let name = attributes::find(link.after(16)?, IFLA_IFNAME)?;
        Ok(name.map(|name| attributes::name(name.value())))
    })?;
    println!("{names:?}");
    Ok(())
}
