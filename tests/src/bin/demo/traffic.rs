//! Requests, and who answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::city::City;

const PATIENCE: Duration = Duration::from_secs(5);

/// Connects and reads the answer to its end.
pub(crate) fn ask_tcp(vip: &str) -> Result<String> {
    let address = vip.parse().context("address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("connect to {vip}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("read from {vip}"))?;
    Ok(answer)
}

/// Sends a datagram from a new port and waits for the answer.
pub(crate) fn ask_udp(vip: &str) -> Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(vip)?;
    socket
        .send(b"?")
        .with_context(|| format!("send to {vip}"))?;
    let mut answer = [0; 512];
    let length = socket
        .recv(&mut answer)
        .with_context(|| format!("hear from {vip}"))?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// How often each server answered.
pub(crate) struct Answers(BTreeMap<String, usize>);

impl Answers {
    /// Asks `count` times as the client pod.
    pub(crate) fn of(
        city: &City,
        vip: &str,
        count: usize,
        ask: fn(&str) -> Result<String>,
    ) -> Result<Self> {
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            let answer = city.client(|| ask(vip))?;
            let who = answer.split(' ').next().unwrap_or_default().to_owned();
            *answers.entry(who).or_default() += 1;
        }
        Ok(Self(answers))
    }

    /// Who answered at all.
    pub(crate) fn who(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(who, n)| format!("{who} {n}x"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}
