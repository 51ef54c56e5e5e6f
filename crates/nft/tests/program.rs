//! The program `nft` played by a script: missing, old, slow, odd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kube_ipvs_nft::{Config, Family, Nft, NftError, Observed, Set};

/// A directory with a script in it that stands in for nft.
struct Fake {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Fake {
    /// `body` runs for every call but `--version`.
    fn new(version: &str, body: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("nft");
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{version}'; exit; fi\n{body}\n"
        );
        fs::write(&path, script).expect("write the script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
        Self {
            _directory: directory,
            path,
        }
    }

    /// Another test's child may hold the freshly written script open (ETXTBSY) for a moment.
    fn find(&self) -> Result<Nft, NftError> {
        const TEXT_BUSY: i32 = 26;
        loop {
            match Nft::at(&self.path) {
                Err(NftError::Start { source, .. }) if source.raw_os_error() == Some(TEXT_BUSY) => {
                    std::thread::yield_now();
                }
                result => return result,
            }
        }
    }

    fn nft(&self) -> Nft {
        self.find().expect("a good version")
    }
}

const GOOD: &str = "nftables v1.0.6 (Lester Gooch #5)";

fn answering(json: &str) -> Fake {
    Fake::new(GOOD, &format!("cat <<'JSON'\n{json}\nJSON"))
}

#[test]
fn a_missing_program_names_the_remedy() {
    let error = Nft::at("/nowhere/nft").expect_err("not there");

    assert_eq!(
        error.to_string(),
        "run /nowhere/nft: No such file or directory (os error 2); install nftables 0.9.4 or newer"
    );
}

#[test]
fn an_old_program_is_named_with_its_version() {
    let fake = Fake::new("nftables v0.9.3 (Topsy)", "");

    let error = fake.find().expect_err("too old").to_string();

    assert!(
        error.contains("is nftables 0.9.3, 0.9.4 or newer is needed"),
        "{error}"
    );
}

#[test]
fn another_program_is_not_taken_for_nft() {
    let error = Fake::new("hello", "")
        .find()
        .expect_err("no version")
        .to_string();

    assert!(
        error.ends_with("no version in \"hello\\n\"; is it nft?"),
        "{error}"
    );
}

#[test]
fn a_good_program_tells_its_version() {
    assert_eq!(Fake::new(GOOD, "").nft().version().to_string(), "1.0.6");
}

#[test]
fn a_program_that_hangs_is_killed() {
    let fake = Fake::new(GOOD, "exec sleep 600");
    let nft = fake.nft().with_limit(Duration::from_millis(300));
    let start = Instant::now();

    let error = nft.apply("flush ruleset\n").expect_err("hangs");

    assert!(matches!(error, NftError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_program_that_reads_nothing_does_not_block_us() {
    let fake = Fake::new(GOOD, "echo 'Error: cannot' >&2; exit 1");
    let long = "x".repeat(1 << 20);

    let error = fake.nft().apply(&long).expect_err("refused");

    assert_eq!(error.to_string(), "apply nft table kube-ipvs: cannot");
}

#[test]
fn empty_text_runs_nothing() {
    let fake = Fake::new(GOOD, "exit 1");

    assert!(fake.nft().apply("").is_ok());
}

#[test]
fn text_goes_to_the_program_whole() {
    let fake = Fake::new(GOOD, "[ \"$*\" = '-f -' ] && [ \"$(wc -c)\" -eq 300000 ]");

    fake.nft()
        .apply(&"y".repeat(300_000))
        .expect("all of it arrived");
}

#[test]
fn no_table_is_none() {
    let fake = Fake::new(GOOD, "echo 'Error: No such file or directory' >&2; exit 1");

    assert_eq!(fake.nft().read(Family::Ip).expect("read"), None);
}

#[test]
fn a_failure_to_read_is_not_an_absent_table() {
    let fake = Fake::new(
        GOOD,
        "echo 'Operation not permitted (you must be root)' >&2; exit 1",
    );

    let error = fake.nft().read(Family::Ip).expect_err("refused");

    assert_eq!(
        error.to_string(),
        "read nft table ip kube-ipvs: Operation not permitted (you must be root); needs CAP_NET_ADMIN"
    );
}

#[test]
fn nonsense_for_json_is_an_error() {
    for json in [
        "",
        "{}",
        "[]",
        "{\"nftables\": 5}",
        "{\"nftables\": [{\"set\": 5}]}",
        "{\"nftables\": [{\"chain\": {}}]}",
    ] {
        let error = answering(json)
            .nft()
            .read(Family::Ip)
            .expect_err("not what nft prints");
        assert!(
            matches!(error, NftError::Unreadable { .. }),
            "{json}: {error}"
        );
    }
}

fn observe(sets: &str) -> Observed {
    let json = format!("{{\"nftables\": [{{\"metainfo\": {{}}}}, {sets}]}}");
    answering(&json)
        .nft()
        .read(Family::Ip)
        .expect("readable")
        .expect("a table")
}

#[test]
fn elements_are_read_in_every_form_nft_prints() {
    let observed = observe(
        r#"{"set": {"name": "vips", "elem": ["10.96.0.10", {"elem": {"val": "10.96.0.11", "comment": "x"}}]}},
        {"set": {"name": "rejected", "elem": [{"concat": ["10.96.0.10", "sctp", 80]}, {"concat": ["10.96.0.10", 17, 80]}]}},
        {"map": {"name": "inside-marks", "elem": [[{"concat": ["10.96.0.10", "tcp", 80]}, 291]]}},
        {"set": {"name": "mark-values", "elem": [291]}},
        {"set": {"name": "hairpin", "elem": [{"concat": ["10.244.1.2", "10.244.1.2"]}]}},
        {"set": {"name": "allowed-sources", "elem": [
            {"concat": ["10.96.0.10", "tcp", 80, "192.0.2.7"]},
            {"concat": ["10.96.0.10", "tcp", 80, {"prefix": {"addr": "10.0.0.0", "len": 8}}]},
            {"concat": ["10.96.0.10", "tcp", {"range": [8000, 8063]}, "192.0.2.7"]},
            {"concat": ["10.96.0.10", "tcp", 80, {"range": ["172.16.0.0", "172.16.2.255"]}]}]}}"#,
    );

    let texts = |set: Set| {
        observed.elements[&set]
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(Set::Vips), ["10.96.0.10", "10.96.0.11"]);
    assert_eq!(
        texts(Set::Reject),
        ["10.96.0.10 . sctp . 80", "10.96.0.10 . udp . 80"]
    );
    assert_eq!(
        texts(Set::InsideMarks),
        ["10.96.0.10 . tcp . 80 : 0x00000123"]
    );
    assert_eq!(texts(Set::Hairpin), ["10.244.1.2"]);
    assert_eq!(
        texts(Set::AllowedSources),
        [
            "10.96.0.10 . tcp . 80 . 10.0.0.0/8",
            "10.96.0.10 . tcp . 80 . 172.16.0.0/23",
            "10.96.0.10 . tcp . 80 . 172.16.2.0/24",
            "10.96.0.10 . tcp . 80 . 192.0.2.7/32",
            "10.96.0.10 . tcp . 8000-8063 . 192.0.2.7/32",
        ]
    );
}

#[test]
fn what_no_table_of_ours_holds_is_strange() {
    let observed = observe(
        r#"{"set": {"name": "vips", "elem": ["fd00::1", 7, null]}},
        {"set": {"name": "rejected", "elem": [{"concat": ["10.96.0.10", "icmp", 80]}, {"concat": ["10.96.0.10", "tcp", {"range": [80, 81]}]}]}},
        {"set": {"name": "hairpin", "elem": [{"concat": ["10.244.1.2", "10.244.1.3"]}]}},
        {"set": {"name": "mark-values", "elem": [9]}},
        {"set": {"name": "somebody-else"}}"#,
    );

    let strange = observed.strange.join("\n");
    for part in [
        "\"fd00::1\" does not belong",
        "set vips: 7",
        "set vips: null",
        "icmp",
        "10.244.1.3",
        "set somebody-else",
        "no set service-ports",
        "mark-values is not",
    ] {
        assert!(strange.contains(part), "{part} not in\n{strange}");
    }
    assert_eq!(observed.is_intact(&Config::new(Family::Ip)), Ok(false));
    assert!(observed.elements.is_empty());
}
