//! What comes of a plan where the kernel refuses something of it.

mod servers;

use kube_ipvs_nft::{Family, render_delete};
use netlink_exchange::fake::{Answer, Kernel, Sent, message, status};
use netlink_exchange::{Connection, Writer, nfnetlink};

use super::*;

const NFTABLES: u8 = 10;
const BATCH_BEGIN: u16 = 16;
const NEW_GENERATION: u16 = nfnetlink::message_type(NFTABLES, 15);
const GET_TABLE: u16 = nfnetlink::message_type(NFTABLES, 1);
const ENOENT: i32 = -2;
const EINVAL: i32 = -22;

/// A kernel that refuses the transaction of this place, and takes the others.
fn nft(refused: u32) -> Nft {
    nft_that(move |place| i32::from(place == refused) * EINVAL)
}

/// One without tables that answers transactions with these errnos by their places,
/// from 1 on, and 0 for what it does.
fn nft_that(errno: impl Fn(u32) -> i32 + Send + 'static) -> Nft {
    let (mut generation, mut place) = (1, 0);
    let kernel = Kernel::new(1 << 20, move |sent: &[Sent]| -> Vec<Answer> {
        if sent[0].message_type == GET_TABLE {
            return vec![Ok(status(sent[0].sequence, ENOENT))];
        }
        if sent[0].message_type != BATCH_BEGIN {
            let mut payload = Vec::new();
            let mut out = Writer::new(&mut payload);
            out.header(&nfnetlink::header(0, 0));
            out.be32(1, generation);
            let told = message(NEW_GENERATION, 0, sent[0].sequence, &payload);
            return vec![Ok(told), Ok(status(sent[0].sequence, 0))];
        }
        let last = sent.iter().find(|sent| sent.acknowledge());
        let sequence = last.expect("one asks").sequence;
        place += 1;
        let errno = errno(place);
        if errno != 0 {
            return vec![Ok(status(sequence, errno))];
        }
        generation += 1;
        vec![Ok(status(sequence, 0))]
    });
    let connection = Connection::over(Box::new(kernel)).expect("it has a time-out");
    let mut nft = Nft::over(connection);
    let now = nft.now();
    nft.tables_read(now);
    assert!(!nft.tables_changed());
    nft
}

#[test]
fn tables_that_were_changed_in_part_are_read_again() {
    let change = render_delete(Family::Ip);
    let both = [change.clone(), change.clone()];

    let mut refuses_none = nft(0);
    in_turn(&mut refuses_none, &both).expect("both are made");
    assert!(!refuses_none.tables_changed());

    let mut refuses_first = nft(1);
    in_turn(&mut refuses_first, &both).expect_err("refused");
    assert!(!refuses_first.tables_changed(), "nothing was made");

    let mut refuses_second = nft(2);
    in_turn(&mut refuses_second, &both).expect_err("refused");
    assert!(refuses_second.tables_changed(), "the first was made");

    let mut refuses_all = nft(1);
    let alone = [Commands::default(), change];
    in_turn(&mut refuses_all, &alone).expect_err("refused");
    assert!(!refuses_all.tables_changed(), "nothing was made");
}
