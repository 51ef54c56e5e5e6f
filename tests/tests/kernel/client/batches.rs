//! Batches: many requests in few sends.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipvs_netlink::{
    Batch, Destination, DestinationId, Errno, Error, Request, Scheduler, Service, ServiceId,
};
use kube_ipvs_tests::{Namespace, wait_until};

use super::{client, endpoint, saved, web};

fn service(number: u16) -> ServiceId {
    ServiceId::tcp(Ipv4Addr::new(10, 96, (number >> 8) as u8, number as u8), 80)
}

fn ids(destinations: Vec<Destination>) -> Vec<DestinationId> {
    destinations
        .into_iter()
        .map(|destination| destination.id)
        .collect()
}

#[test]
fn each_failure_comes_with_its_request() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let mut batch = Batch::default();
    let mut expected = Vec::new();
    for number in 0..1000 {
        let id = service(number);
        batch.push(Request::AddService(Service::new(id, Scheduler::RR)));
        batch.push(Request::AddDestination(
            id,
            Destination::new(endpoint(1, 80)),
        ));
        if number % 3 == 0 {
            expected.push((batch.len(), Errno::EEXIST));
            batch.push(Request::AddService(Service::new(id, Scheduler::RR)));
        }
        if number % 7 == 0 {
            expected.push((batch.len(), Errno::ENOENT));
            batch.push(Request::RemoveDestination(id, endpoint(2, 80)));
        }
        batch.push(Request::AddDestination(
            id,
            Destination::new(endpoint(3, 80)),
        ));
    }

    let failed = client.apply(&batch).expect("heard");

    let told: Vec<_> = failed
        .iter()
        .map(|(index, error)| (*index, error.errno().expect("a refusal")))
        .collect();
    assert_eq!(told, expected);
    for number in 0..1000 {
        let mut ids = ids(client.destinations(&service(number)).expect("listed"));
        ids.sort();
        assert_eq!(ids, [endpoint(1, 80), endpoint(3, 80)]);
    }
}

/// As many refusals as requests: the receive buffer holds them.
#[test]
fn a_batch_may_fail_whole() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let batch: Batch = (0..10_000)
        .map(|n| Request::RemoveService(service(n)))
        .collect();

    let failed = client.apply(&batch).expect("heard, all of them");

    let indices: Vec<_> = failed.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, (0..10_000).collect::<Vec<_>>());
    assert!(
        failed
            .iter()
            .all(|(_, error)| error.errno() == Some(Errno::ESRCH))
    );
}

#[test]
fn requests_are_carried_out_in_order() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let requests = [
        Request::AddService(Service::new(web(), Scheduler::RR)),
        Request::AddDestination(web(), Destination::new(endpoint(1, 80))),
        Request::EditService(Service::new(web(), Scheduler::WLC)),
        Request::RemoveService(web()),
        Request::AddService(Service::new(web(), Scheduler::SED)),
        Request::AddDestination(web(), Destination::new(endpoint(2, 80))),
    ];

    assert!(client.apply(&requests).expect("heard").is_empty());

    let expected = [
        "-A -t 10.96.0.10:80 -s sed",
        "-a -t 10.96.0.10:80 -r 10.244.1.2:80 -m -w 1",
    ];
    assert_eq!(saved(), expected);
}

#[test]
fn a_big_table_is_programmed_and_read_back() {
    let _namespace = Namespace::enter();
    let mut client = client();
    let mut batch = Batch::default();
    for number in 0..2000 {
        let id = service(number);
        batch.push(Request::AddService(Service::new(id, Scheduler::RR)));
        for last in 1..=5 {
            let endpoint = Ipv4Addr::new(172, 16 + (number >> 8) as u8, number as u8, last);
            let destination = Destination::new(DestinationId::new(endpoint, 8080));
            batch.push(Request::AddDestination(id, destination));
        }
    }

    assert!(client.apply(&batch).expect("heard").is_empty());

    // Other tests change the kernel's table meanwhile, in namespaces of their own.
    let expected: Vec<_> = (0..2000).map(service).collect();
    wait_until(
        "a list of all services",
        Duration::from_secs(60),
        || match client.services() {
            Ok(mut services) => {
                services.sort_by_key(|service| service.id);
                services
                    .iter()
                    .map(|service| service.id)
                    .eq(expected.iter().copied())
            }
            Err(Error::Interrupted { .. }) => false,
            Err(error) => panic!("{error}"),
        },
    );
    for number in [0, 1, 999, 1999] {
        assert_eq!(
            client.destinations(&service(number)).expect("listed").len(),
            5
        );
    }
}
