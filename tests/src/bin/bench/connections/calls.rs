//! The calls that are measured, and who answers them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Calls whose mean is one figure; the median of the figures counts.
const REPEATED: u32 = 200;
const ROUNDS: usize = 5;
/// Guest time of one instruction (`-icount shift=1`).
const NANOSECONDS: f64 = 2.0;

/// Where the server answers calls by VIP.
pub(super) const TARGET_PORT: u16 = 8080;
/// Where it answers calls to its own address: IPVS takes a source port that came
/// to it by a VIP lately for that connection's.
const OWN_PORT: u16 = 8081;
const PATIENCE: Duration = Duration::from_secs(5);

const QUESTION: &[u8; 12] = b"how are you?";
/// One that leaves the connection open.
const ONE_OF_MANY: &[u8; 12] = b"and you two?";

/// Whom a client calls.
pub(super) struct Fronts {
    pub(super) tcp: SocketAddr,
    pub(super) udp: SocketAddr,
    /// The server itself.
    pub(super) server: Ipv4Addr,
}

/// Instructions of one call each, in the order of [`CALLS`].
pub(super) type Costs = [f64; CALLS.len()];

type Call = fn(&Fronts) -> Result<f64>;

pub(super) const CALLS: [(&str, Call); 4] = [
    ("a TCP connection by a VIP", by_vip),
    ("a UDP question from a new port", by_udp),
    ("a question on an open connection", on_open),
    ("a TCP connection to a pod itself", to_pod),
];
/// Place among [`CALLS`] of the question that may be untracked.
pub(super) const BY_UDP: usize = 1;

/// Makes all calls from this thread's namespace.
pub(super) fn costs(fronts: &Fronts) -> Result<Costs> {
    let mut costs = [0.0; CALLS.len()];
    for (cost, (name, call)) in costs.iter_mut().zip(CALLS) {
        *cost = call(fronts).context(name)?;
    }
    Ok(costs)
}

/// Makes the UDP question alone from this thread's namespace.
pub(super) fn cost_of_udp(fronts: &Fronts) -> Result<f64> {
    let (name, call) = CALLS[BY_UDP];
    call(fronts).context(name)
}

/// Answers in this thread's namespace from now on.
pub(super) fn serve(address: Ipv4Addr) -> Result<()> {
    for port in [TARGET_PORT, OWN_PORT] {
        let listener = TcpListener::bind((address, port)).context("listen")?;
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream);
            }
        });
    }
    let socket = UdpSocket::bind((address, TARGET_PORT)).context("bind")?;
    thread::spawn(move || {
        let mut question = [0; QUESTION.len()];
        while let Ok((length, peer)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(&question[..length], peer);
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream) {
    let mut question = [0; QUESTION.len()];
    while stream.read_exact(&mut question).is_ok() && stream.write_all(&question).is_ok() {
        if &question != ONE_OF_MANY {
            return;
        }
    }
}

fn by_vip(fronts: &Fronts) -> Result<f64> {
    instructions(|| connect_and_ask(fronts.tcp))
}

fn to_pod(fronts: &Fronts) -> Result<f64> {
    let server = SocketAddr::from((fronts.server, OWN_PORT));
    instructions(|| connect_and_ask(server))
}

fn by_udp(fronts: &Fronts) -> Result<f64> {
    instructions(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(fronts.udp)?;
        socket.send(QUESTION)?;
        let mut answer = [0; QUESTION.len()];
        let length = socket.recv(&mut answer)?;
        ensure!(&answer[..length] == QUESTION, "another answer");
        Ok(())
    })
}

/// Asks on an open connection for so long, and says what each question took.
pub(super) fn ask_for(front: SocketAddr, time: Duration) -> Result<Vec<Duration>> {
    let mut stream = connect(front)?;
    let (started, mut took) = (Instant::now(), Vec::new());
    let mut last = started;
    while last.duration_since(started) < time {
        ask_once_more(&mut stream)?;
        let now = Instant::now();
        took.push(now.duration_since(last));
        last = now;
    }
    Ok(took)
}

fn on_open(fronts: &Fronts) -> Result<f64> {
    let mut stream = connect(fronts.tcp)?;
    instructions(|| ask_once_more(&mut stream))
}

fn ask_once_more(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(ONE_OF_MANY)?;
    let mut answer = [0; ONE_OF_MANY.len()];
    stream.read_exact(&mut answer)?;
    ensure!(&answer == ONE_OF_MANY, "another answer");
    Ok(())
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects, asks, reads the answer to the end that the server makes, closes.
fn connect_and_ask(to: SocketAddr) -> Result<()> {
    let mut stream = connect(to)?;
    stream.write_all(QUESTION)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer == QUESTION, "another answer");
    Ok(())
}

/// Of one `call`, after a round that does not count.
fn instructions(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for round in 0..=ROUNDS {
        let started = Instant::now();
        for _ in 0..REPEATED {
            call()?;
        }
        let took = started.elapsed();
        if round > 0 {
            rounds.push(took.as_nanos() as f64 / NANOSECONDS / f64::from(REPEATED));
        }
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[ROUNDS / 2])
}
