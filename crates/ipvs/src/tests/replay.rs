//! A transport that says what a real kernel once said.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use netlink_exchange::{Received, Transport};

/// Datagrams of a capture, in order.
pub(super) struct Replay {
    datagrams: VecDeque<(char, Vec<u8>)>,
}

impl Replay {
    pub(super) fn of(capture: &str) -> Self {
        Self {
            datagrams: datagrams(capture).collect(),
        }
    }
}

/// The datagrams of a capture: direction and bytes.
pub(super) fn datagrams(capture: &str) -> impl Iterator<Item = (char, Vec<u8>)> {
    capture
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (direction, hex) = line.split_at(2);
            let direction = direction.chars().next().expect("a line has two characters");
            (direction, unhex(hex))
        })
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("captures are hexadecimal"))
        .collect()
}

impl Transport for Replay {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let next = self.datagrams.pop_front();
        assert_eq!(next, Some(('>', bytes.to_vec())), "bytes sent");
        Ok(bytes.len())
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<Received> {
        into.clear();
        match self.datagrams.pop_front() {
            Some(('<', bytes)) => {
                into.extend_from_slice(&bytes);
                Ok(Received {
                    length: bytes.len(),
                    sender: 0,
                })
            }
            other => panic!("the kernel said nothing more; the capture has {other:?}"),
        }
    }

    fn receive_now(&mut self, _: &mut Vec<u8>) -> io::Result<Received> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn set_timeout(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn receive_buffer(&self) -> usize {
        1 << 21
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.datagrams.is_empty(), "the capture goes on");
        }
    }
}
