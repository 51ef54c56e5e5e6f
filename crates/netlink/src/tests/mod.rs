//! Tests of the exchange over a kernel that is made up.

mod adversity;
mod properties;
mod transactions;

use std::sync::{Arc, Mutex};

use netlink_packet_core::DefaultNla;

use crate::fake::{Answer, Kernel, Sent};
use crate::*;

/// The type of the requests that are sent here.
const KIND: u16 = 0x20;

/// Bytes of a usual receive buffer.
const BUFFER: usize = 1 << 21;

/// What was sent, send by send.
type Sends = Arc<Mutex<Vec<Vec<Sent>>>>;

/// A request with one attribute.
#[derive(Debug, Clone)]
struct Number(u32);

impl Request for Number {
    fn message_type(&self) -> u16 {
        KIND
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.header(&[1, 1, 0, 0]);
        out.u32(1, self.0);
    }
}

/// A request that fits no message.
struct Endless;

impl Request for Endless {
    fn message_type(&self) -> u16 {
        KIND
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.nla(&DefaultNla::new(1, vec![0; 65_535]));
    }
}

fn numbers(count: u32) -> Vec<Number> {
    (0..count).map(Number).collect()
}

/// A connection to a kernel that behaves as said, and what is sent to it.
fn connection(
    receive_buffer: usize,
    mut behaviour: impl FnMut(&[Sent]) -> Vec<Answer> + Send + 'static,
) -> (Connection, Sends) {
    let sends = Sends::default();
    let record = sends.clone();
    let kernel = Kernel::new(receive_buffer, move |sent: &[Sent]| {
        record.lock().expect("no panic").push(sent.to_vec());
        behaviour(sent)
    });
    let connection = Connection::over(Box::new(kernel)).expect("it has a time-out");
    (connection, sends)
}

/// A number in a table.
fn entry(sequence: u32, flags: u16, number: u32) -> Vec<u8> {
    let mut payload = vec![1, 1, 0, 0];
    Writer::new(&mut payload).u32(1, number);
    fake::message(KIND, flags, sequence, &payload)
}

fn read_number(content: Content<'_>) -> Result<Option<u32>, DecodeError> {
    let number = attributes::find(content.after(4)?, 1)?.ok_or("no number")?;
    attributes::u32(number.value(), "number").map(Some)
}

fn acknowledge(sent: &[Sent]) -> Vec<Answer> {
    sent.iter()
        .filter(|sent| sent.acknowledge())
        .map(|sent| Ok(fake::status(sent.sequence, 0)))
        .collect()
}
