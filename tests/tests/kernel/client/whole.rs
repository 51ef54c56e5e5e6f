//! What belongs to IPVS as a whole: counters, time-outs, versions, daemons,
//! namespaces.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use ipvs_netlink::{
    Daemon, DaemonState, Destination, DestinationId, Errno, Scheduler, Service, ServiceId, Timeouts,
};
use kube_ipvs_tests::{Namespace, run, wait_until};

use super::{client, endpoint, saved, web};

#[test]
fn a_table_of_everything_is_flushed() {
    let _namespace = Namespace::enter();
    let mut client = client();
    client.flush().expect("an empty table is flushed too");
    client
        .add_service(&Service::new(web(), Scheduler::RR))
        .expect("added");
    client
        .add_destination(&web(), &Destination::new(endpoint(1, 80)))
        .expect("added");

    client.flush().expect("flushed");

    assert!(saved().is_empty());
    assert!(client.services().expect("listed").is_empty());
}

#[test]
fn counters_count_and_are_zeroed() {
    let _namespace = Namespace::enter();
    let vip = Ipv4Addr::new(10, 96, 0, 53);
    let pod = Ipv4Addr::new(10, 244, 0, 53);
    for address in [vip, pod] {
        run("ip", ["addr", "add", &format!("{address}/32"), "dev", "lo"]);
    }
    let server = UdpSocket::bind((pod, 5353)).expect("bound");
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let mut client = client();
    let dns = ServiceId::udp(vip, 53);
    let other = ServiceId::udp(vip, 54);
    for id in [dns, other] {
        client
            .add_service(&Service::new(id, Scheduler::RR))
            .expect("added");
        let destination = Destination::new(DestinationId::new(pod, 5353));
        client.add_destination(&id, &destination).expect("added");
    }

    for port in [53, 54] {
        sender.send_to(b"question", (vip, port)).expect("sent");
        server.recv(&mut [0; 16]).expect("received");
    }

    // The kernel sums up every two seconds.
    wait_until("the packets are counted", Duration::from_secs(30), || {
        let mut counted = |id| client.service(id).expect("there").stats.connections == 1;
        counted(&dns) && counted(&other)
    });
    let stats = client.service(&dns).expect("there").stats;
    assert_eq!(
        (stats.connections, stats.in_packets, stats.in_bytes),
        (1, 1, 36)
    );
    let server = client.destinations(&dns).expect("there").remove(0);
    assert_eq!(server.stats.in_bytes, 36);
    assert_eq!(server.active_connections + server.inactive_connections, 1);
    let listed = run(
        "ipvsadm",
        ["-Ln", "--stats", "--exact", "-u", "10.96.0.53:53"],
    );
    let line = listed
        .lines()
        .find(|line| line.starts_with("UDP"))
        .expect("listed");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[2..], ["1", "1", "0", "36", "0"]);

    client.zero(Some(&dns)).expect("zeroed");
    assert_eq!(client.service(&dns).expect("there").stats.connections, 0);
    assert_eq!(client.service(&other).expect("there").stats.connections, 1);
    client.zero(None).expect("zeroed");
    assert_eq!(client.service(&other).expect("there").stats.connections, 0);
}

#[test]
fn timeouts_go_both_ways() {
    let _namespace = Namespace::enter();
    let mut client = client();
    client
        .set_timeouts(&Timeouts {
            tcp: 600,
            tcp_fin: 61,
            udp: 200,
        })
        .expect("set");
    let listed = run("ipvsadm", ["-L", "--timeout"]);
    assert_eq!(listed.trim(), "Timeout (tcp tcpfin udp): 600 61 200");

    run("ipvsadm", ["--set", "700", "0", "300"]);
    let expected = Timeouts {
        tcp: 700,
        tcp_fin: 61,
        udp: 300,
    };
    assert_eq!(client.timeouts().expect("read"), expected);

    let beyond = Timeouts {
        tcp: u32::MAX,
        ..Timeouts::default()
    };
    let refused = client.set_timeouts(&beyond).expect_err("too long");
    assert_eq!(refused.errno(), Some(Errno::EINVAL));
}

#[test]
fn the_version_is_that_of_ipvsadm() {
    let _namespace = Namespace::enter();
    let info = client().info().expect("read");
    let listed = run("ipvsadm", ["-Ln"]);
    let head = listed.lines().next().expect("a head");
    let ours = format!(
        "IP Virtual Server version {} (size={})",
        info.version, info.conn_tab_size
    );
    assert_eq!(ours, head);
}

#[test]
fn daemons_go_both_ways() {
    let _namespace = Namespace::enter();
    run("ip", ["route", "add", "224.0.0.0/4", "dev", "lo"]);
    let mut client = client();
    assert!(client.daemons().expect("listed").is_empty());
    let backup = Daemon {
        sync_maxlen: 1024,
        group: Some(Ipv4Addr::new(224, 0, 0, 90).into()),
        port: 9000,
        ttl: 3,
        ..Daemon::new(DaemonState::Backup, "lo", 8)
    };
    client.start_daemon(&backup).expect("started");
    assert_eq!(
        run("ipvsadm", ["-L", "--daemon"]).trim(),
        "backup sync daemon (mcast=lo, syncid=8, maxlen=1024, group=224.0.0.90, port=9000, ttl=3)"
    );
    assert_eq!(
        client.daemons().expect("listed"),
        std::slice::from_ref(&backup)
    );
    let again = client.start_daemon(&backup).expect_err("it runs");
    assert_eq!(again.errno(), Some(Errno::EEXIST));
    client.stop_daemon(DaemonState::Backup).expect("stopped");

    let start = "--start-daemon master --mcast-interface lo --syncid 7";
    run("ipvsadm", start.split(' '));
    let running = client.daemons().expect("listed");
    let told: Vec<_> = running
        .iter()
        .map(|d| (d.state, d.interface.as_str(), d.sync_id, d.port, d.ttl))
        .collect();
    assert_eq!(told, [(DaemonState::Master, "lo", 7, 8848, 1)]);
    client.stop_daemon(DaemonState::Master).expect("stopped");
    assert_eq!(run("ipvsadm", ["-L", "--daemon"]), "");
    let none = client
        .stop_daemon(DaemonState::Master)
        .expect_err("none runs");
    assert_eq!(none.errno(), Some(Errno::ESRCH));
    let nowhere = client
        .start_daemon(&Daemon::new(DaemonState::Master, "nosuch0", 0))
        .expect_err("no interface");
    assert_eq!(nowhere.errno(), Some(Errno::ENODEV));
}

#[test]
fn a_client_stays_in_its_namespace() {
    let namespace = Namespace::enter();
    let other = Namespace::child("other");
    let mut away = other.run(client);
    client()
        .add_service(&Service::new(web(), Scheduler::RR))
        .expect("added");

    assert!(away.services().expect("listed").is_empty());

    away.add_service(&Service::new(web(), Scheduler::SED))
        .expect("added");
    assert_eq!(saved(), ["-A -t 10.96.0.10:80 -s rr"]);
    assert_eq!(other.run(saved), ["-A -t 10.96.0.10:80 -s sed"]);
    drop(namespace);
}
