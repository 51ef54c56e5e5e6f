//! Tests of the framing: what is sent, and what is made of any answer.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use proptest::prelude::*;

use super::*;
use crate::link::Link;
use crate::message;

fn vips(count: u32) -> Vec<IpAddr> {
    let first = 0x0a60_0001;
    (first..first + count)
        .map(|n| n.to_be_bytes().into())
        .collect()
}

/// Flags and sequence numbers of encoded messages.
fn headers(bytes: &[u8]) -> Vec<(u16, u32)> {
    let header = |message: std::result::Result<(NetlinkHeader, Answer<'_>), String>| {
        let (header, _) = message.expect("a whole message");
        (header.flags, header.sequence_number)
    };
    messages(bytes).map(header).collect()
}

#[test]
fn only_the_last_of_a_batch_asks_for_an_answer() {
    let requests: Vec<_> = vips(3)
        .into_iter()
        .map(|vip| message::add_address(7, vip))
        .collect();

    let bytes = encode_batch(&requests, 41);

    let flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL;
    assert_eq!(
        headers(&bytes),
        [(flags, 41), (flags, 42), (flags | NLM_F_ACK, 43)]
    );
}

#[test]
fn an_address_goes_out_as_ip_would_send_it() {
    let bytes = encode_batch(&[message::add_address(7, IpAddr::from([10, 96, 0, 10]))], 1);

    let expected = [
        40, 0, 0, 0, 20, 0, 5, 6, 1, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWADDR
        2, 32, 0, 0, 7, 0, 0, 0, // AF_INET, /32, scope global, link 7
        8, 0, 2, 0, 10, 96, 0, 10, // IFA_LOCAL
        8, 0, 1, 0, 10, 96, 0, 10, // IFA_ADDRESS
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn a_message_cut_short_is_an_error() {
    let bytes = encode_batch(&[message::remove_link(7)], 1);

    let answers: Vec<_> = messages(&bytes[..bytes.len() - 4]).collect();

    assert_eq!(answers.len(), 1);
    assert!(answers[0].is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_framing_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = messages(&bytes).count();
        let _ = Link::parse(&bytes);
    }
}
