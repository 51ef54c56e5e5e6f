//! Virtual and real servers, and the stages they come in.

use std::sync::{Arc, Mutex};

use kube_ipvs_core::plan::ServerSettings;
use kube_ipvs_core::row::{Row, Verdict};
use kube_ipvs_core::state::{Flags, RealServer, RealServerKey};
use kube_ipvs_core::table::Turn;
use kube_ipvs_vip::Binding;

use super::*;
use crate::linux::Setup;
use crate::progress::{LONG, Made, Progress};

const FAMILY: u16 = 0x20;
const CONTROLLER: u16 = 0x10;
/// `IPVS_CMD_GET_INFO` and `IPVS_CMD_SET_INFO`.
const GET_INFO: u8 = 15;
const SET_INFO: u8 = 14;
const EPERM: i32 = -1;
const ESRCH: i32 = -3;
const EEXIST: i32 = -17;

/// `ipvsadm`'s letters for the commands of IPVS: `-A`, `-E`, `-D`, `-a`, `-e`, `-d`.
const LETTERS: [&str; 8] = ["", "A", "E", "D", "", "a", "e", "d"];

/// What IPVS was asked to do.
type Asked = Arc<Mutex<String>>;

/// IPVS that answers the requests with these errnos by their places, 0 for what it
/// does; it is silent where there is none.
fn linux(errno: impl Fn(usize) -> Option<i32> + Send + 'static) -> (Linux, Asked) {
    let asked = Asked::default();
    let log = asked.clone();
    let mut place = 0;
    let kernel = Kernel::new(1 << 21, move |sent: &[Sent]| -> Vec<Answer> {
        let first = &sent[0];
        if first.message_type == CONTROLLER {
            let told = generic(CONTROLLER, first.sequence, 1, |out| out.u16(1, FAMILY));
            return vec![Ok(told), Ok(status(first.sequence, 0))];
        }
        if first.payload[0] == GET_INFO {
            let told = generic(FAMILY, first.sequence, SET_INFO, |_| {});
            return vec![Ok(told), Ok(status(first.sequence, 0))];
        }
        let mut answers: Vec<Answer> = Vec::new();
        for one in sent {
            let mut log = log.lock().expect("nobody panicked");
            log.push_str(LETTERS[usize::from(one.payload[0])]);
            let Some(code) = errno(place) else {
                return vec![Err(std::io::ErrorKind::WouldBlock.into())];
            };
            place += 1;
            if code != 0 || one.acknowledge() {
                answers.push(Ok(status(one.sequence, code)));
            }
        }
        answers
    });
    let connection = Connection::over(Box::new(kernel)).expect("it has a time-out");
    let client = ipvs::Client::over(connection).expect("it has IPVS");
    let setup = Setup {
        link: "kube-ipvs0".to_owned(),
        binding: Binding::Address,
        tables: Vec::new(),
        sysctls: Vec::new(),
        sysctl_root: "/nowhere".into(),
        timeouts: ipvs::Timeouts::default(),
    };
    let linux = Linux::over(setup, client, nft(0)).expect("sockets are anybody's");
    (linux, asked)
}

fn generic(kind: u16, sequence: u32, command: u8, told: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut payload = vec![command, 1, 0, 0];
    told(&mut Writer::new(&mut payload));
    message(kind, 0, sequence, &payload)
}

fn server(last: u8) -> VirtualServerKey {
    let text = format!("10.96.0.{last}:80/TCP");
    text.parse().expect("a virtual server")
}

fn real() -> RealServerKey {
    "10.244.1.7:8080".parse().expect("a real server")
}

fn settings() -> ServerSettings {
    ServerSettings {
        scheduler: "rr".into(),
        flags: Flags::default(),
        persistence: None,
    }
}

const WEIGHT: RealServer = RealServer {
    weight: 1,
    upper_threshold: 0,
    lower_threshold: 0,
};

fn add(last: u8) -> Op {
    Op::AddVirtualServer(server(last), settings())
}

fn add_real(last: u8) -> Op {
    Op::AddRealServer(server(last), real(), WEIGHT)
}

/// What comes of operations that are answered so: how many were done, what was
/// refused and what that means, and all that was asked.
fn outcome<const N: usize>(
    answers: [i32; N],
    ops: impl Into<Vec<Op>>,
) -> (usize, Vec<(Option<Change>, Nature)>, String) {
    let (mut linux, asked) = linux(move |place| Some(answers.get(place).copied().unwrap_or(0)));
    let report = plan(&mut linux, &Plan { ops: ops.into() });
    let refused = report.refused.iter();
    let refused = refused.map(|refusal| (refusal.change, refusal.nature));
    let asked = asked.lock().expect("nobody panicked").clone();
    (report.done, refused.collect(), asked)
}

#[test]
fn what_is_asked_for_is_done_and_counted() {
    let ops = [
        add(1),
        Op::EditVirtualServer(server(2), settings()),
        add_real(1),
        Op::EditRealServer(server(2), real(), WEIGHT),
        Op::RemoveRealServer(server(3), real()),
        Op::RemoveVirtualServer(server(3)),
    ];
    assert_eq!(outcome([], ops), (6, vec![], "AEaedD".to_owned()));
}

#[test]
fn what_was_not_there_to_be_removed_is_as_wanted() {
    for gone in [ESRCH, ENOENT] {
        let ops = [
            Op::RemoveRealServer(server(1), real()),
            Op::RemoveVirtualServer(server(1)),
        ];
        assert_eq!(outcome([gone, gone], ops).0, 2);
    }
    let ops = [Op::RemoveVirtualServer(server(1))];
    let refused = vec![(Some(Change::RemoveVirtualServer(server(1))), Nature::Whole)];
    assert_eq!(outcome([EPERM], ops), (0, refused, "D".to_owned()));
    // What is to be changed has to be there.
    let ops = [Op::EditRealServer(server(1), real(), WEIGHT)];
    let change = Change::EditRealServer(server(1), real());
    let refused = vec![(Some(change), Nature::Missing)];
    assert_eq!(outcome([ENOENT], ops), (0, refused, "e".to_owned()));
}

#[test]
fn a_real_server_of_a_virtual_server_that_was_refused_is_no_news() {
    let ops = || [add(1), add_real(1), add(2), add_real(2)];
    let (done, refused, _) = outcome([ENOENT, ESRCH], ops());
    let own = (Some(Change::AddVirtualServer(server(1))), Nature::Own);
    assert_eq!((done, refused), (2, vec![own]));

    // One that is there already has real servers, which may be refused themselves.
    let (done, refused, _) = outcome([EEXIST, EEXIST], ops());
    let there = (Some(Change::AddVirtualServer(server(1))), Nature::Exists);
    let real = Change::AddRealServer(server(1), real());
    assert_eq!(
        (done, refused),
        (2, vec![there, (Some(real), Nature::Exists)])
    );

    // And that of another is its own refusal.
    let (_, refused, _) = outcome([ENOENT, ESRCH, 0, ENOENT], ops());
    assert_eq!(refused.len(), 2, "{refused:?}");
}

#[test]
fn a_stage_with_a_refusal_is_carried_out_and_is_the_last() {
    let ops = [add(1), add(2), Op::RemoveVirtualServer(server(3))];
    let (done, refused, asked) = outcome([ENOENT], ops);
    assert_eq!((done, refused.len(), &*asked), (1, 1, "AA"));
}

/// More than are in memory at once; the virtual server is refused in the part
/// before its real server.
#[test]
fn a_long_stage_is_one_stage() {
    let mut ops = vec![add(1); AT_ONCE];
    ops.extend([add(2), add_real(1)]);
    let (done, refused, asked) = outcome([ENOENT], ops.clone());
    assert_eq!((done, refused.len()), (AT_ONCE + 1, 1));
    assert_eq!(asked.len(), AT_ONCE + 2);

    let (mut linux, _) = linux(move |place| {
        let last = place == AT_ONCE + 1;
        Some(if place == 0 {
            ENOENT
        } else {
            i32::from(last) * ESRCH
        })
    });
    let report = plan(&mut linux, &Plan { ops });
    assert_eq!((report.done, report.refused.len()), (AT_ONCE, 1));
}

#[test]
fn who_does_not_answer_is_asked_no_more() {
    let (mut linux, asked) = linux(|_| None);
    let mut ops = vec![add(1); AT_ONCE];
    ops.extend([add(2), Op::RemoveVirtualServer(server(3))]);
    let report = plan(&mut linux, &Plan { ops });

    let [refusal] = &report.refused[..] else {
        panic!("one refusal: {:?}", report.refused)
    };
    assert_eq!((refusal.kind, refusal.nature), ("netlink", Nature::Unknown));
    assert_eq!((refusal.change, report.done), (None, 0));
    assert_eq!(*asked.lock().expect("nobody panicked"), "A");
}

#[test]
fn progress_is_told_in_virtual_servers() {
    let (mut linux, _) = linux(|_| Some(0));
    let progress = Progress::default();
    progress.begin(LONG);
    linux.progress = progress.clone();
    let ops = vec![
        add(1),
        add_real(1),
        add(2),
        Op::EditVirtualServer(server(3), settings()),
    ];
    let report = plan(&mut linux, &Plan { ops });
    assert_eq!(report.done, 4);
    let (done, all) = (2, LONG);
    assert_eq!(progress.made(), Some(Made { done, all }));
}

/// A front that comes, with a mark or without.
fn front_comes(last: u8, inside: Option<u32>) -> Edit {
    let row = Row {
        inside,
        ..Row::of(Verdict::Serve)
    };
    let turn = Turn {
        from: None,
        to: Some(row),
    };
    let front = format!("10.96.0.{last}:80/TCP");
    let mut edit = Edit::default();
    edit.rows.insert(front.parse().expect("a front"), turn);
    edit
}

/// With a table, of which nf_tables refuses the transaction of this place.
fn linux_with_table(refused: u32) -> (Linux, Asked) {
    linux_over(nft(refused))
}

fn linux_over(nft: Nft) -> (Linux, Asked) {
    let (mut linux, asked) = linux(|_| Some(0));
    linux.nft = nft;
    let config = kube_ipvs_nft::Config::new(Family::Ip);
    linux.tables = vec![crate::linux::table::Table::new(config)];
    (linux, asked)
}

/// What comes of a change of the table and of what follows it.
fn outcome_of_table(refused: u32) -> (usize, Vec<(&'static str, Nature)>, String) {
    let (mut linux, asked) = linux_with_table(refused);
    let ops = vec![Op::Table(Box::new(front_comes(1, None))), add(1)];
    let report = plan(&mut linux, &Plan { ops });
    let refused = report.refused.iter();
    let refused = refused.map(|refusal| (refusal.kind, refusal.nature));
    let asked = asked.lock().expect("nobody panicked").clone();
    (report.done, refused.collect(), asked)
}

/// The first mark hangs a chain, and the second finds it hung: of a change that was
/// refused nothing is remembered.
#[test]
fn what_was_made_of_a_table_is_remembered() {
    for (refused, hangs) in [(0, false), (1, true)] {
        let (mut linux, _) = linux_with_table(refused);
        let first = Op::Table(Box::new(front_comes(1, Some(1))));
        let report = plan(&mut linux, &Plan { ops: vec![first] });
        assert_eq!(report.done == 1, refused == 0);

        let second = linux.tables[0].change(&front_comes(2, Some(2)));
        let second = second.expect("it makes sense").to_string();
        assert_eq!(second.contains("before-ipvs"), hangs, "{second}");
    }
}

#[test]
fn nothing_follows_a_table_that_was_refused() {
    assert_eq!(outcome_of_table(0), (2, vec![], "A".to_owned()));
    let refused = vec![("table", Nature::Own)];
    assert_eq!(outcome_of_table(1), (0, refused, String::new()));
}

/// What comes of a change, and of what follows it, where nf_tables answers with
/// these errnos: the report, whether the table knows of the change, and all that
/// IPVS was asked.
fn outcome_of_stale<const N: usize>(errnos: [i32; N]) -> (ApplyReport, bool, String) {
    let at = move |place: u32| errnos.get(place as usize - 1).copied().unwrap_or(0);
    let (mut linux, asked) = linux_over(nft_that(at));
    let ops = vec![Op::Table(Box::new(front_comes(1, Some(1)))), add(1)];
    let report = plan(&mut linux, &Plan { ops });
    let second = linux.tables[0].change(&front_comes(2, Some(2)));
    let second = second.expect("it makes sense").to_string();
    let asked = asked.lock().expect("nobody panicked").clone();
    (report, !second.contains("before-ipvs"), asked)
}

/// The whole table is made, with the change in it; that may be refused, too.
#[test]
fn a_table_that_a_change_does_not_fit_is_made_anew() {
    for stale in [ENOENT, EEXIST] {
        let (report, knows, asked) = outcome_of_stale([stale]);
        assert!(report.remade && report.refused.is_empty(), "{report:?}");
        assert_eq!((report.done, knows, &*asked), (2, true, "A"));
    }
    let (report, knows, asked) = outcome_of_stale([]);
    assert!(!report.remade && report.refused.is_empty(), "{report:?}");
    assert_eq!((report.done, knows, &*asked), (2, true, "A"));

    let (report, knows, asked) = outcome_of_stale([ENOENT, EPERM]);
    let [refusal] = &report.refused[..] else {
        panic!("one refusal: {report:?}")
    };
    assert_eq!((refusal.kind, refusal.nature), ("table", Nature::Whole));
    assert!(refusal.error.contains("make nftables table"), "{refusal:?}");
    assert_eq!((report.done, knows, &*asked), (0, false, ""));
}

#[test]
fn vips_that_are_refused_are_counted_off_and_told_one_by_one() {
    let vips = ["10.96.0.1", "10.96.0.2", "10.96.0.3"].map(|vip| vip.parse().expect("a VIP"));
    let (mut linux, _) = linux(|_| Some(0));
    let mut run = Run {
        linux: &mut linux,
        report: ApplyReport::default(),
    };
    let refused = |vip, errno| {
        let error = kube_ipvs_vip::Error::Refused {
            operation: "bind".to_owned(),
            errno,
            message: None,
        };
        (vip, error)
    };
    let answers = vec![
        refused(vips[0], Errno::EINVAL),
        refused(vips[2], Errno::EPERM),
    ];
    run.vips(Ok(answers), vips.len(), Change::Bind);

    let report = run.report;
    let told: Vec<_> = report
        .refused
        .iter()
        .map(|one| (one.change, one.nature))
        .collect();
    let expected = [(vips[0], Nature::Own), (vips[2], Nature::Whole)];
    let expected = expected.map(|(vip, nature)| (Some(Change::Bind(vip)), nature));
    assert_eq!((report.done, &told[..]), (1, &expected[..]));
}
