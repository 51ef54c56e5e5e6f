//! What comes of it when others change nftables all the time.

mod firewall;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_exchange::fake::{Answer, Kernel, Sent, done, message, status};
use netlink_exchange::{Writer, nfnetlink};

use super::*;

const NEW_GENERATION: u16 = nfnetlink::message_type(SUBSYSTEM, 15);
const BATCH_BEGIN: u16 = 16;
const ERESTART: i32 = -85;

/// A kernel with our table, without chains and sets, whose every answer is of
/// the next generation; and how often the table was asked for. `flags` are those
/// of the table, by that number.
fn restless(flags: fn(u32) -> u32) -> (Nft, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let mut generation = 0;
    let kernel = Kernel::new(1 << 20, move |sent: &[Sent]| {
        generation += 1;
        let first = &sent[0];
        let told = |kind, attribute, value| {
            let mut payload = Vec::new();
            let mut out = Writer::new(&mut payload);
            out.header(&nfnetlink::header(2, 0));
            out.be32(attribute, value);
            Ok(message(kind, 0, first.sequence, &payload))
        };
        let is = |kind: Kind| first.message_type == kind.message_type();
        if is(Kind::GetGen) {
            let told = told(NEW_GENERATION, 1, generation);
            vec![told, Ok(status(first.sequence, 0))]
        } else if is(Kind::GetTable) {
            let flags = flags(count.fetch_add(1, Ordering::Relaxed));
            let told = told(Kind::NewTable.message_type(), 2, flags);
            vec![told, Ok(status(first.sequence, 0))]
        } else if first.message_type == BATCH_BEGIN {
            transaction(sent)
        } else {
            vec![Ok(done(first.sequence, 0, 0))]
        }
    });
    let connection = Connection::over(Box::new(kernel)).expect("a connection");
    let known = Known::default();
    (Nft { connection, known }, asked)
}

/// Taken unless it is for a generation, which is over already.
fn transaction(sent: &[Sent]) -> Vec<Answer> {
    let has_generation = sent[0].payload.len() > nfnetlink::HEADER;
    if has_generation {
        vec![Ok(status(sent[0].sequence, ERESTART))]
    } else {
        let last = sent.iter().find(|sent| sent.acknowledge());
        vec![Ok(status(last.expect("one asks").sequence, 0))]
    }
}

#[test]
fn a_table_that_others_leave_alone_is_read_while_they_change_theirs() {
    let (mut nft, asked) = restless(|_| 0);
    assert!(nft.read(Family::Ip).expect("it is read").is_some());
    assert_eq!(asked.load(Ordering::Relaxed), 2, "twice the same");
}

#[test]
fn a_table_that_others_change_all_the_time_is_given_up() {
    let (mut nft, asked) = restless(|number| number % 2);
    let error = nft.read(Family::Ip).expect_err("it is not the same twice");
    assert!(matches!(error, NftError::Unsteady { .. }), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), TRIES);
}

#[test]
fn a_change_is_made_in_the_end_while_others_change_theirs() {
    let (mut nft, _) = restless(|_| 0);
    (nft.known.tables, nft.known.chains) = (Some(1), Some(1));
    nft.delete_table(Family::Ip).expect("it is made");
    assert_eq!(nft.known.tables, None, "what is there now nobody knows");
    assert!(nft.chains_changed());
}

/// A base chain that accepts what it does not know, or drops it.
fn base_chain(sequence: u32, name: &str, hook: u32, accepts: bool) -> Vec<u8> {
    base_chain_of(sequence, "fw", name, hook, accepts)
}

fn base_chain_of(sequence: u32, table: &str, name: &str, hook: u32, accepts: bool) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut out = Writer::new(&mut payload);
    out.header(&nfnetlink::header(2, 0));
    out.bytes(1, format!("{table}\0").as_bytes());
    out.bytes(3, format!("{name}\0").as_bytes());
    out.nest(4, |out| {
        out.be32(1, hook);
        out.be32(2, 0);
    });
    out.be32(5, accepts.into());
    message(Kind::NewChain.message_type(), 2, sequence, &payload)
}

/// A table with two base chains and no rules, and how often rules were listed.
fn two_chains(chains: [(&'static str, u32, bool); 2]) -> (Nft, Arc<AtomicU32>) {
    let lists = Arc::new(AtomicU32::new(0));
    let count = lists.clone();
    let kernel = Kernel::new(1 << 20, move |sent: &[Sent]| {
        let first = &sent[0];
        let sequence = first.sequence;
        let is = |kind: Kind| first.message_type == kind.message_type();
        if is(Kind::GetChain) {
            let [one, other] =
                chains.map(|(name, hook, accepts)| base_chain(sequence, name, hook, accepts));
            return vec![Ok(one), Ok(other), Ok(done(sequence, 0, 0))];
        }
        count.fetch_add(u32::from(is(Kind::GetRule)), Ordering::Relaxed);
        vec![Ok(done(sequence, 0, 0))]
    });
    let connection = Connection::over(Box::new(kernel)).expect("a connection");
    let known = Known::default();
    (Nft { connection, known }, lists)
}

#[test]
fn the_rules_of_a_table_are_read_once_for_all_its_chains() {
    let (mut nft, lists) = two_chains([("pre", 0, true), ("out", 3, true)]);
    assert_eq!(nft.foreign_redirects().expect("listed"), []);
    assert_eq!(lists.load(Ordering::Relaxed), 1);

    let (mut nft, lists) = two_chains([("in", 1, true), ("fwd", 2, false)]);
    let (dropping, some) = nft.foreign_drops_and_some().expect("listed");
    assert_eq!((dropping.len(), some.len()), (1, 0));
    assert_eq!(dropping[0].chain, "fwd");
    assert_eq!(lists.load(Ordering::Relaxed), 1);
}
