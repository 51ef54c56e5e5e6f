//! A kernel with chains of others and their rules, and what is done to them.

use crate::ForeignChain;
use std::sync::{Arc, Mutex};

use super::*;
use crate::fixed::clear_bit;
use crate::foreign::Hook;
use crate::phrase::{Phrase, accept, drop as dropped, mark_has_all};

const BATCH_END: u16 = 17;
const EPERM: i32 = -1;
const ENOENT: i32 = -2;
const EBUSY: i32 = -16;
/// Table, name, hook, whether it accepts what it does not know.
const CHAINS: [(&str, &str, u32, bool); 5] = [
    ("kube-ipvs", "input", 1, true),
    ("fw", "in", 1, false),
    ("fw", "fwd", 2, true),
    ("fw", "pre", 0, false),
    ("other", "in", 1, false),
];

/// A rule that is there: table, chain, what it says, comment.
type Rule = (&'static str, &'static str, Phrase, Option<&'static str>);

fn ours(table: &'static str, chain: &'static str, bit: u8) -> Rule {
    let accepts = [mark_has_all(1 << bit), accept()].concat();
    (table, chain, accepts, Some("kube-ipvs"))
}

fn others(table: &'static str, chain: &'static str, says: Phrase) -> Rule {
    (table, chain, says, None)
}

/// As the kernel lists a rule; `handle` is told by its place.
fn listed(sequence: u32, handle: usize, (table, chain, says, comment): Rule) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut out = Writer::new(&mut payload);
    let told = Command::AddRule {
        place: wire::Place {
            family: 2,
            table: table.into(),
        },
        chain: chain.into(),
        first: false,
        expressions: says,
        among: 0,
        comment,
    };
    netlink_exchange::Request::write(&told, &mut out);
    out.bytes(3, &(handle as u64).to_be_bytes());
    message(Kind::NewRule.message_type(), 2, sequence, &payload)
}

/// What was asked to be changed, by transaction.
type Changes = Arc<Mutex<Vec<Vec<Sent>>>>;

/// Such a kernel. It lists the rules of all tables and chains, whatever is asked
/// for, as old ones do. It takes every change without making it, and counts.
fn firewall(rules: Vec<Rule>) -> (Nft, Changes) {
    firewall_that(rules, 0, |_| None)
}

/// The same, which answers with an error who asks for our table, and refuses the
/// changes of these places in a transaction.
fn firewall_that(
    rules: Vec<Rule>,
    table: i32,
    refuses: fn(usize) -> Option<i32>,
) -> (Nft, Changes) {
    firewall_of(Ok(rules), table, refuses)
}

/// One whose chains vanished before their rules were listed, or that says no.
fn without_rules(why: i32) -> Nft {
    firewall_of(Err(why), 0, |_| None).0
}

fn firewall_of(
    rules: Result<Vec<Rule>, i32>,
    table: i32,
    refuses: fn(usize) -> Option<i32>,
) -> (Nft, Changes) {
    let changes = Changes::default();
    let seen = changes.clone();
    let mut generation = 1;
    let kernel = Kernel::new(1 << 20, move |sent: &[Sent]| {
        let first = &sent[0];
        let sequence = first.sequence;
        let is = |kind: Kind| first.message_type == kind.message_type();
        let listed: Vec<Vec<u8>> = if is(Kind::GetChain) {
            CHAINS.map(|chain| chain_listed(sequence, chain)).into()
        } else if is(Kind::GetRule) {
            let rules = match &rules {
                Ok(rules) => rules.iter().cloned().enumerate(),
                Err(why) => return vec![Ok(status(sequence, *why))],
            };
            rules.map(|(at, rule)| listed(sequence, at, rule)).collect()
        } else if is(Kind::GetGen) {
            let told = number_told(NEW_GENERATION, sequence, 1, generation);
            return vec![Ok(told), Ok(status(sequence, 0))];
        } else if is(Kind::GetTable) {
            let told = number_told(Kind::NewTable.message_type(), sequence, 2, 0);
            let told = (table == 0).then_some(Ok(told)).into_iter();
            return told.chain([Ok(status(sequence, table))]).collect();
        } else if first.message_type == BATCH_BEGIN {
            let inner = |one: &&Sent| ![BATCH_BEGIN, BATCH_END].contains(&one.message_type);
            let inner: Vec<Sent> = sent.iter().filter(inner).cloned().collect();
            seen.lock().expect("nobody panicked").push(inner.clone());
            let answers = answers(sent, &inner, refuses);
            generation += u32::from(!inner.is_empty());
            return answers;
        } else {
            Vec::new()
        };
        let listed = listed.into_iter().chain([done(sequence, 0, 0)]);
        listed.map(Ok).collect()
    });
    let connection = Connection::over(Box::new(kernel)).expect("a connection");
    (Nft::over(connection), changes)
}

/// Refusals, the second one first, or else that all is done.
fn answers(sent: &[Sent], inner: &[Sent], refuses: fn(usize) -> Option<i32>) -> Vec<Answer> {
    let all = inner.iter().enumerate();
    let refused = all.filter_map(|(at, one)| Some(status(one.sequence, refuses(at)?)));
    let mut answers: Vec<Answer> = refused.map(Ok).collect();
    if answers.len() > 1 {
        answers.swap(0, 1);
    } else if answers.is_empty() {
        let last = sent.iter().find(|sent| sent.acknowledge());
        answers.push(Ok(status(last.expect("one asks").sequence, 0)));
    }
    answers
}

fn number_told(kind: u16, sequence: u32, attribute: u16, number: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut out = Writer::new(&mut payload);
    out.header(&nfnetlink::header(2, 0));
    out.be32(attribute, number);
    message(kind, 0, sequence, &payload)
}

fn chain_listed(sequence: u32, chain: (&str, &str, u32, bool)) -> Vec<u8> {
    let (table, name, hook, accepts) = chain;
    base_chain_of(sequence, table, name, hook, accepts)
}

/// Those that drop, as their display begins.
fn names(chains: &[ForeignChain]) -> Vec<String> {
    let name = |chain: &ForeignChain| format!("{} {}", chain.table, chain.chain);
    chains.iter().map(name).collect()
}

#[test]
fn what_a_chain_drops_is_told_by_its_own_policy_and_rules() {
    let rules = vec![
        others("fw", "fwd", accept()),
        others("fw", "elsewhere", dropped()),
        others("other", "fwd", dropped()),
    ];
    let (mut nft, _) = firewall(rules);
    let found = nft.foreign_drops().expect("listed");
    assert_eq!(names(&found), ["fw in", "other in"]);

    let (mut nft, _) = firewall(vec![others("fw", "fwd", dropped())]);
    let found = nft.foreign_drops().expect("listed");
    assert_eq!(names(&found), ["fw in", "fw fwd", "other in"]);
    let hooks: Vec<Hook> = found.iter().map(|chain| chain.hook).collect();
    assert_eq!(hooks, [Hook::Input, Hook::Forward, Hook::Input]);
}

/// Puts the accept rule for a bit into `fw in`, and says whether it was not
/// there, and how many changes that took.
fn accepted(rules: Vec<Rule>, bit: u8) -> (bool, usize) {
    let (mut nft, changes) = firewall(rules);
    let chains = nft.foreign_drops().expect("listed");
    let inserted = nft.accept_in(&chains[0], bit).expect("it is taken");
    let changes = changes.lock().expect("nobody panicked");
    let new = |sent: &&Sent| sent.message_type == Kind::NewRule.message_type();
    (inserted, changes.iter().flatten().filter(new).count())
}

/// Not so where nobody knows: what is there may drop.
#[test]
fn a_chain_that_vanished_before_it_was_read_has_no_rules() {
    let mut gone = without_rules(ENOENT);
    let found = gone.foreign_drops().expect("by its policy");
    assert_eq!(names(&found), ["fw in", "other in"]);
    let (dropping, some) = gone.foreign_drops_and_some().expect("by their policy");
    assert_eq!((names(&dropping), some), (names(&found), vec![]));
    assert_eq!(gone.foreign_redirects().expect("none"), []);
    assert_eq!(gone.accept_bit(Family::Ip).expect("none"), None);
    assert_eq!(gone.remove_accepts().expect("none"), 0);

    let mut silent = without_rules(EPERM);
    let errors = [
        silent.foreign_drops().map(drop),
        silent.foreign_drops_and_some().map(drop),
        silent.foreign_redirects().map(drop),
        silent.accept_bit(Family::Ip).map(drop),
        silent.remove_accepts().map(drop),
    ];
    for error in errors {
        let error = error.expect_err("nobody knows");
        assert_eq!(error.errno(), Some(Errno::EPERM), "{error}");
    }
}

#[test]
fn an_accept_rule_is_put_where_none_with_its_bit_stands() {
    assert_eq!(accepted(vec![], 13), (true, 1));
    assert_eq!(accepted(vec![ours("fw", "in", 13)], 13), (false, 0));
    // One with another bit, by somebody else, or of another chain is none.
    assert_eq!(accepted(vec![ours("fw", "in", 12)], 13), (true, 1));
    let accepts = [mark_has_all(1 << 13), accept()].concat();
    assert_eq!(accepted(vec![others("fw", "in", accepts)], 13), (true, 1));
    let elsewhere = vec![ours("fw", "fwd", 13), ours("other", "in", 13)];
    assert_eq!(accepted(elsewhere, 13), (true, 1));
}

#[test]
fn accept_rules_of_every_bit_are_removed_and_no_others() {
    let rules = vec![
        others("fw", "in", dropped()),
        ours("fw", "in", 12),
        ours("fw", "fwd", 13),
        others("other", "in", accept()),
        // A prerouting chain never has one of ours, whoever wrote that.
        ours("fw", "pre", 13),
    ];
    let (mut nft, changes) = firewall(rules);
    assert_eq!(nft.accepts().expect("listed"), 2);
    assert!(changes.lock().expect("nobody panicked").is_empty());

    assert_eq!(nft.remove_accepts().expect("they go"), 2);
    let changes = changes.lock().expect("nobody panicked");
    let handles: Vec<u8> = changes.concat().iter().map(handle).collect();
    assert_eq!(handles, [1, 2]);
}

/// The last byte of the handle of a rule that is to go.
fn handle(sent: &Sent) -> u8 {
    assert_eq!(sent.message_type, Kind::DelRule.message_type());
    *sent.payload.last().expect("it ends with its handle")
}

#[test]
fn without_accept_rules_nothing_is_removed() {
    let (mut nft, changes) = firewall(vec![others("fw", "in", dropped())]);
    let now = nft.now();
    nft.tables_read(now);
    assert_eq!(nft.remove_accepts().expect("nothing to do"), 0);
    assert!(changes.lock().expect("nobody panicked").is_empty());
    assert!(!nft.tables_changed());
}

#[test]
fn a_change_of_ours_is_no_change_by_others() {
    let (mut nft, changes) = firewall(vec![ours("fw", "in", 13)]);
    let now = nft.now();
    nft.tables_read(now);
    nft.chains_read(now);
    assert_eq!(nft.remove_accepts().expect("it goes"), 1);
    assert_eq!(changes.lock().expect("nobody panicked").len(), 1);
    assert!(!nft.tables_changed() && !nft.chains_changed());
}

#[test]
fn what_a_table_drops_elsewhere_is_not_what_a_chain_drops() {
    let rules = vec![
        others("fw", "fwd", accept()),
        others("fw", "elsewhere", dropped()),
    ];
    let (mut nft, _) = firewall(rules);
    let (dropping, some) = nft.foreign_drops_and_some().expect("listed");
    assert_eq!(names(&dropping), ["fw in", "other in"]);
    assert_eq!(some, []);
}

#[test]
fn only_where_the_kernel_takes_such_rules_something_is_sent_elsewhere() {
    let sent = |chain| {
        let elsewhere = crate::phrase::Phrases(Family::Ip).keep_destination();
        let (mut nft, _) = firewall(vec![others("fw", chain, elsewhere)]);
        nft.foreign_redirects().expect("listed").len()
    };
    assert_eq!(["pre", "in"].map(sent), [1, 0]);
}

#[test]
fn our_table_is_read_without_what_others_have() {
    let chain = |name| others(name, "input", accept());
    let read = |rules, table| firewall_that(rules, table, |_| None).0.read(Family::Ip);
    let alone = read(vec![chain("kube-ipvs")], 0).expect("it is read");
    let beside = vec![
        chain("fw"),
        chain("kube-ipvs"),
        others("fw", "in", dropped()),
    ];
    assert_eq!(read(beside, 0).expect("it is read"), alone);
    let alone = alone.expect("a table");
    assert_ne!(read(vec![], 0).expect("it is read"), Some(alone.clone()));
    assert!(format!("{alone:?}").contains("\"input\""));
    assert!(!format!("{alone:?}").contains("\"fwd\""), "{alone:?}");

    assert_eq!(read(vec![], ENOENT).expect("there is none"), None);
    let error = read(vec![], EPERM).expect_err("nobody knows");
    assert_eq!(error.errno(), Some(Errno::EPERM));
}

#[test]
fn the_accept_bit_is_what_our_own_table_clears() {
    let bit = |table| {
        let (mut nft, _) = firewall(vec![others(table, "clear-marks", clear_bit(1 << 13))]);
        nft.accept_bit(Family::Ip).expect("listed")
    };
    assert_eq!([bit("kube-ipvs"), bit("fw")], [Some(13), None]);
}

#[test]
fn chains_are_listed_with_those_of_others() {
    let (mut nft, _) = firewall(vec![]);
    let chains = nft.chains().expect("listed");
    let expected = CHAINS.map(|(table, name, ..)| NamedChain::new("ip", table, name));
    assert_eq!(chains, expected);
}

#[test]
fn of_several_refusals_the_first_is_told() {
    let all = |at| Some(if at == 0 { ENOENT } else { EBUSY });
    let chains = [("fw", "in"), ("fw", "fwd"), ("other", "in")];
    let rules = chains.map(|(table, chain)| ours(table, chain, 13));
    let (mut nft, _) = firewall_that(rules.into(), 0, all);
    let error = nft.remove_accepts().expect_err("refused");
    assert_eq!(error.errno(), Some(Errno::ENOENT), "{error}");
    let NftError::Refused { at, is_element, .. } = &error else {
        panic!("refused: {error}")
    };
    assert!(at.contains("in handle 0"), "{at}");
    assert!(!is_element);
}
