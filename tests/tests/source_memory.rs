//! Memory of the API source. Alone in its process, whose size it measures.

use kube_ipvs_tests::apiserver::endpoint_slice;
use kube_ipvs_tests::apiserver::replica::{Replica, server};

/// PROBLEMS.md H7. The server's history is bounded, so what grows is ours.
#[tokio::test]
async fn memory_does_not_grow_with_changes() {
    let server = server();
    let mut replica = Replica::of(&server).await;
    replica.synced().await;
    let mut change = async |count: usize| {
        for number in 0..count {
            let name = format!("slice-{number}");
            server.upsert(endpoint_slice(
                "default",
                "web",
                &name,
                &[("10.244.1.7", "node-1")],
            ));
            server.delete("EndpointSlice", "default", &name);
            if number % 100 == 0 {
                replica.equals(&server).await;
            }
        }
        replica.equals(&server).await;
    };

    change(30_000).await;
    let before = resident_kib();
    change(100_000).await;

    let grown = resident_kib() - before;
    assert!(grown < 5 * 1024, "{grown} KiB after 200,000 changes");
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("read /proc/self/status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a process has a size");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of KiB")
}
