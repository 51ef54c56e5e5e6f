//! Ipsets over netlink: their names, the ports in one, and their end.
//!
//! Numbers are those of `linux/netfilter/ipset/ip_set.h`, protocol 6, which
//! kernels from 2.6.39 on speak.

use std::collections::BTreeSet;

use netlink_exchange::nfnetlink::{self, message_type};
use netlink_exchange::protocols::NETLINK_NETFILTER;
use netlink_exchange::{Connection, Content, DecodeError, Errno, Error, Request, Writer};
use netlink_exchange::{attributes, attributes::Attribute};

const NFNL_SUBSYS_IPSET: u8 = 6;
const IPSET_PROTOCOL_MIN: u8 = 6;
const IPSET_CMD_DESTROY: u8 = 3;
const IPSET_CMD_LIST: u8 = 7;
const IPSET_ATTR_PROTOCOL: u16 = 1;
const IPSET_ATTR_SETNAME: u16 = 2;
const IPSET_ATTR_FLAGS: u16 = 6;
const IPSET_ATTR_DATA: u16 = 7;
const IPSET_ATTR_ADT: u16 = 8;
/// In the data of an element.
const IPSET_ATTR_PORT: u16 = 4;
const IPSET_FLAG_LIST_SETNAME: u32 = 2;

/// How often a list is asked for that was interrupted.
const TRIES: u32 = 5;

/// What became of a set that was to be destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destroyed {
    /// It is gone, or was not there.
    Gone,
    /// A rule still names it: `IPSET_ERR_BUSY`.
    Busy,
}

/// The ipsets of a network namespace: that of the thread that opened it.
pub struct Ipsets(Connection);

impl Ipsets {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn open() -> Result<Self, Error> {
        Connection::open(NETLINK_NETFILTER).map(Self)
    }

    /// Names of all sets; none where the kernel knows no sets. Equivalent to
    /// `ipset list -n`.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN.
    pub fn names(&mut self) -> Result<Vec<String>, Error> {
        let all = Ask {
            command: IPSET_CMD_LIST,
            set: None,
        };
        let names = self.0.list(all, TRIES, |content| {
            let name = attributes::find(content.after(nfnetlink::HEADER)?, IPSET_ATTR_SETNAME)?;
            Ok(name.map(|name| attributes::name(name.value())))
        });
        match names {
            // nfnetlink of a kernel without ip_set.
            Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(Vec::new()),
            names => names,
        }
    }

    /// Ports in a set of ports, or of addresses and ports. Equivalent to
    /// `ipset list SET`.
    ///
    /// # Errors
    /// ENOENT without the set.
    pub fn ports(&mut self, set: &str) -> Result<BTreeSet<u16>, Error> {
        let one = Ask {
            command: IPSET_CMD_LIST,
            set: Some(set),
        };
        // A set comes in several messages.
        let parts = self
            .0
            .list(one, TRIES, |content| ports_in(content).map(Some))?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Equivalent to `ipset destroy SET`.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN.
    pub fn destroy(&mut self, set: &str) -> Result<Destroyed, Error> {
        let destroy = Ask {
            command: IPSET_CMD_DESTROY,
            set: Some(set),
        };
        match self.0.ask(destroy, |_| Ok(())) {
            Ok(()) => Ok(Destroyed::Gone),
            Err(error) => match error.errno() {
                Some(Errno::ENOENT) => Ok(Destroyed::Gone),
                // Numbers of its own, of which this command gives one other: for
                // a protocol that it does not speak, and then it gave no list.
                Some(Errno::UnknownErrno) => Ok(Destroyed::Busy),
                _ => Err(error),
            },
        }
    }
}

fn ports_in(content: Content<'_>) -> Result<Vec<u16>, DecodeError> {
    let list = attributes::find(content.after(nfnetlink::HEADER)?, IPSET_ATTR_ADT)?;
    let mut ports = Vec::new();
    attributes::read(list.map_or(&[], Attribute::value), |element| {
        if element.kind() == IPSET_ATTR_DATA
            && let Some(port) = attributes::find(element.value(), IPSET_ATTR_PORT)?
        {
            ports.push(attributes::be16(port.value(), "port")?);
        }
        Ok(())
    })?;
    Ok(ports)
}

/// A list of names, or one set to look at or to destroy. To destroy without a
/// name would mean all.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    command: u8,
    set: Option<&'a str>,
}

impl Request for Ask<'_> {
    fn message_type(&self) -> u16 {
        message_type(NFNL_SUBSYS_IPSET, self.command)
    }

    fn write(&self, out: &mut Writer<'_>) {
        // NFPROTO_UNSPEC.
        out.header(&nfnetlink::header(0, 0));
        out.u8(IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL_MIN);
        match self.set {
            Some(set) => out.name(IPSET_ATTR_SETNAME, set),
            None => out.be32(IPSET_ATTR_FLAGS, IPSET_FLAG_LIST_SETNAME),
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_exchange::fake::{Answer, Kernel, Sent, done, message, status};

    use super::*;

    const NLM_F_MULTI: u16 = 2;

    fn ipsets(behaviour: impl FnMut(&[Sent]) -> Vec<Answer> + Send + 'static) -> Ipsets {
        let kernel = Kernel::new(1 << 20, behaviour);
        Ipsets(Connection::over(Box::new(kernel)).expect("it takes a time-out"))
    }

    /// A message of a list, as the kernel writes it.
    fn listed(sent: &Sent, set: &str, ports: &[u16]) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut out = Writer::new(&mut payload);
        out.header(&nfnetlink::header(2, 0));
        out.u8(IPSET_ATTR_PROTOCOL, 7);
        out.name(IPSET_ATTR_SETNAME, set);
        out.nest(IPSET_ATTR_ADT, |out| {
            for port in ports {
                out.nest(IPSET_ATTR_DATA, |out| {
                    // An address, its port in network order, TCP.
                    out.nest(1, |out| out.bytes(1, &[192, 0, 2, 1]));
                    out.be16(0x4000 | IPSET_ATTR_PORT, *port);
                    out.u8(7, 6);
                });
            }
        });
        let list = message_type(NFNL_SUBSYS_IPSET, IPSET_CMD_LIST);
        message(list, NLM_F_MULTI, sent.sequence, &payload)
    }

    /// The bytes that `ipset` sends, but for the flag of nests.
    fn asked(command: u8, attribute: &[u8]) -> (u16, Vec<u8>) {
        let head = [0, 0, 0, 0, 5, 0, 1, 0, 6, 0, 0, 0];
        (0x0600 | u16::from(command), [&head, attribute].concat())
    }

    #[test]
    fn names_are_asked_for_alone() {
        let mut sets = ipsets(|sent| {
            let [sent] = sent else { panic!("one question") };
            let expected = asked(7, &[8, 0, 6, 0, 0, 0, 0, 2]);
            assert_eq!((sent.message_type, sent.payload.clone()), expected);
            vec![
                Ok([listed(sent, "KUBE-CLUSTER-IP", &[]), listed(sent, "x", &[])].concat()),
                Ok(done(sent.sequence, 0, 0)),
            ]
        });

        assert_eq!(sets.names().expect("a list"), ["KUBE-CLUSTER-IP", "x"]);
    }

    #[test]
    fn ports_of_a_set_are_all_those_of_its_messages() {
        let mut sets = ipsets(|sent| {
            let [sent] = sent else { panic!("one question") };
            let expected = asked(7, b"\x06\0\x02\0x\0\0\0");
            assert_eq!((sent.message_type, sent.payload.clone()), expected);
            vec![
                Ok(listed(sent, "x", &[30080, 8443])),
                Ok(listed(sent, "x", &[31999])),
                Ok(done(sent.sequence, 0, 0)),
            ]
        });

        let ports = sets.ports("x").expect("a list");

        assert_eq!(ports, [8443, 30080, 31999].into());
    }

    #[test]
    fn a_set_that_a_rule_names_is_busy_and_one_that_is_not_there_is_gone() {
        for (code, expected) in [
            (0, Destroyed::Gone),
            (-2, Destroyed::Gone),
            (-4100, Destroyed::Busy),
        ] {
            let mut sets = ipsets(move |sent| {
                let [sent] = sent else { panic!("one question") };
                let expected = asked(3, b"\x06\0\x02\0x\0\0\0");
                assert_eq!((sent.message_type, sent.payload.clone()), expected);
                vec![Ok(status(sent.sequence, code))]
            });

            assert_eq!(sets.destroy("x").ok(), Some(expected), "{code}");
        }
        let mut refusing = ipsets(|sent| vec![Ok(status(sent[0].sequence, -1))]);
        assert!(refusing.destroy("x").is_err());
    }

    #[test]
    fn a_kernel_without_sets_has_none() {
        let mut none = ipsets(|sent| vec![Ok(status(sent[0].sequence, -22))]);
        assert_eq!(none.names().expect("none"), Vec::<String>::new());

        let mut refusing = ipsets(|sent| vec![Ok(status(sent[0].sequence, -1))]);
        assert!(refusing.names().is_err());
    }
}
