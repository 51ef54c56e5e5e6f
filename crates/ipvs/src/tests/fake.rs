//! A kernel made up for the occasion, which has IPVS.

use std::sync::{Arc, Mutex};

use netlink_exchange::fake::{Answer, Kernel};
pub(super) use netlink_exchange::fake::{Sent, done, message, status as error};
use netlink_exchange::{Connection, fake};
use netlink_packet_core::NLM_F_MULTIPART;

use super::*;

const FAMILY: u16 = 0x20;

/// How many messages each send had.
pub(super) type Sends = Arc<Mutex<Vec<usize>>>;

/// A client of a kernel that has IPVS and otherwise behaves as said.
pub(super) fn client(
    receive_buffer: usize,
    mut behaviour: impl FnMut(&[Sent]) -> Vec<Answer> + Send + 'static,
) -> (Client, Sends) {
    let sends = Sends::default();
    let record = sends.clone();
    let kernel = Kernel::new(receive_buffer, move |sent: &[Sent]| {
        if sent[0].message_type != FAMILY {
            let sequence = sent[0].sequence;
            return vec![Ok(family(sequence)), Ok(error(sequence, 0))];
        }
        record.lock().expect("no panic").push(sent.len());
        behaviour(sent)
    });
    (over(kernel).expect("it has IPVS"), sends)
}

/// What comes of opening a client where the family is refused.
pub(super) fn refusing_family(code: i32) -> Result<Client, Error> {
    over(Kernel::new(1 << 21, move |sent: &[Sent]| {
        vec![Ok(error(sent[0].sequence, code))]
    }))
}

/// A client over anything.
pub(super) fn over(
    transport: impl netlink_exchange::Transport + Send + 'static,
) -> Result<Client, Error> {
    Client::over(Connection::over(Box::new(transport)).expect("it has a time-out"))
}

/// The family, as the controller gives it.
fn family(sequence: u32) -> Vec<u8> {
    let mut payload = vec![1, 2, 0, 0];
    wire::Writer::new(&mut payload).u16(1, FAMILY);
    message(0x10, 0, sequence, &payload)
}

/// A refusal that echoes the request and says why in words.
pub(super) fn error_in_words(sent: &Sent, code: i32, words: &str) -> Vec<u8> {
    fake::explained(sent, code, |out| out.name(1, words))
}

/// A service in a dump.
pub(super) fn service(sequence: u32, flags: u16, service: &Service) -> Vec<u8> {
    let mut nest = Vec::new();
    service.emit(&mut nest);
    let mut payload = vec![1, 1, 0, 0];
    wire::Writer::new(&mut payload).bytes(1, &nest);
    message(FAMILY, NLM_F_MULTIPART | flags, sequence, &payload)
}

/// A daemon in a dump.
pub(super) fn daemon(sequence: u32, daemon: &Daemon) -> Vec<u8> {
    let mut nest = Vec::new();
    daemon.emit(&mut nest);
    let mut payload = vec![9, 1, 0, 0];
    wire::Writer::new(&mut payload).bytes(3, &nest);
    message(FAMILY, NLM_F_MULTIPART, sequence, &payload)
}
