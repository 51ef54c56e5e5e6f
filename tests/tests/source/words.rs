//! The words of a real API server (`tests/transcripts`): the fake one answers
//! in the same shapes, and our source understands them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube_ipvs_core::event::Kind;
use kube_ipvs_tests::apiserver::replica::{Replica, hasty};
use kube_ipvs_tests::apiserver::{ApiServer, Fault, Options};
use serde_json::{Value, json};

use crate::transcript::{Answer, Transcript};

/// Not asked for by anything of ours; the README says why.
const UNUSED: &[&str] = &[
    "create-service-invalid",
    "partial-metadata",
    "readyz",
    "version",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("transcripts")
}

fn transcript(name: &str) -> Transcript {
    let path = folder().join(format!("{name}.http"));
    let text = std::fs::read_to_string(&path);
    Transcript::parse(&text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the transcripts");
    let files = entries.map(|entry| entry.expect("an entry").file_name());
    let files = files.map(|file| file.to_string_lossy().into_owned());
    let mut names: Vec<String> = files
        .filter_map(|file| file.strip_suffix(".http").map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[test]
fn every_transcript_is_compared_or_explained() {
    let readme = std::fs::read_to_string(folder().join("README.md")).expect("the README");
    for name in UNUSED {
        assert!(names().contains(&(*name).to_owned()), "there is no {name}");
        assert!(readme.contains(&format!("`{name}.http`")), "{name}");
    }
    assert!(names().len() - UNUSED.len() >= 37, "{:?}", names());
}

#[test]
fn the_fake_answers_in_the_shapes_of_a_real_server() {
    let compared = names().into_iter();
    let compared = compared.filter(|name| !UNUSED.contains(&name.as_str()));
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = compared
            .map(|name| scope.spawn(move || difference(&name)))
            .collect();
        let ended = running.into_iter().map(|thread| thread.join());
        ended
            .filter_map(|result| result.expect("no panic"))
            .collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the fake says otherwise, if anything.
fn difference(name: &str) -> Option<String> {
    let real = transcript(name);
    let server = scene(name);
    let mut request = real.request.clone();
    prepare(name, &server, &mut request);
    let fake = Answer::parse(&exchange(server.address(), &request));
    let (said, meant) = (fake.shape(), real.answer().shape());
    (said != meant)
        .then(|| format!("{name}: the fake answers\n  {said:#?}\ninstead of\n  {meant:#?}"))
}

/// A server with the objects that the real one had.
fn scene(name: &str) -> ApiServer {
    let often = ["watch-from-now-ends", "watch-changes"].contains(&name);
    let server = ApiServer::local_with(Options {
        bearer_token: Some("TOKEN".into()),
        bookmark_every: Duration::from_millis(if often { 200 } else { 60_000 }),
        ..Options::default()
    });
    for (source, kind, version) in [
        ("list-node-by-field", "Node", "v1"),
        ("list-servicecidrs", "ServiceCIDR", "networking.k8s.io/v1"),
        ("watch-list", "Service", "v1"),
        ("watch-list-slices", "EndpointSlice", "discovery.k8s.io/v1"),
    ] {
        for mut object in transcript(source).answer().objects() {
            (object["kind"], object["apiVersion"]) = (json!(kind), json!(version));
            server.upsert(object);
        }
    }
    server
}

/// Brings the server to where the real one was, and what only it could know
/// into the request.
fn prepare(name: &str, server: &ApiServer, request: &mut String) {
    let now = server.version().to_string();
    for (real, ours) in [
        ("timeoutSeconds=5", "timeoutSeconds=1"),
        ("timeoutSeconds=3", "timeoutSeconds=1"),
        ("resourceVersion=261", &format!("resourceVersion={now}")),
        ("resourceVersion=259", &format!("resourceVersion={now}")),
    ] {
        *request = request.replace(real, ours);
    }
    match name {
        "create-event-again" => drop(exchange(server.address(), request)),
        "forbidden" => server.deny("list", "secrets"),
        "forbidden-watch" => server.deny("watch", "secrets"),
        "unauthorized" => server.set_bearer_token("another"),
        "list-exact-version-too-old" | "watch-version-too-old" => server.fault(Fault::Gone),
        "list-page-2" => {
            let first = exchange(server.address(), &transcript("list-page-1-of-now").request);
            let first = Answer::parse(&first).body();
            let ours = first["metadata"]["continue"].as_str().expect("a token");
            let start = request.find("continue=").expect("a token") + "continue=".len();
            let end = start + request[start..].find(' ').expect("an end");
            request.replace_range(start..end, ours);
        }
        "watch-changes" => change(server),
        _ => {}
    }
}

fn change(server: &ApiServer) {
    let mut web = server.object("Service", "default", "web-2").expect("web-2");
    web["metadata"]["labels"]["app"] = json!("web-2b");
    server.upsert(web.clone());
    assert!(server.delete("Service", "default", "web-3"));
    web["metadata"]["name"] = json!("late");
    server.upsert(web);
}

/// The raw answer to a raw request that asks for the connection's end.
fn exchange(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("it listens");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// A server that knows only what is in the transcripts.
#[derive(Default)]
struct Player {
    /// Watches of Services from version 260 so far.
    watches: AtomicUsize,
}

impl Player {
    /// Its words for one request, byte by byte; none when it has nothing to say.
    fn answer(&self, head: &str) -> Option<String> {
        let says = |words: &str| head.contains(words);
        let (streaming, watch) = (says("sendInitialEvents=true"), says("watch=true"));
        let name = match head.split(['?', ' ']).nth(1)? {
            "/api/v1/services" if streaming => "watch-list",
            "/api/v1/services" if watch => match self.watches.fetch_add(1, Ordering::SeqCst) {
                0 => "watch-version-too-old",
                1 => "watch-changes",
                _ => return None,
            },
            "/api/v1/services" if says("resourceVersion=260&") => "list-by-label",
            // It does not know the version that the changes led to.
            "/api/v1/services" if says("NotOlderThan") => "list-version-of-the-future",
            "/api/v1/services" => "list-page-1-of-now",
            "/apis/discovery.k8s.io/v1/endpointslices" if streaming => "watch-list-slices",
            // These two are listed by pages, since streaming is refused.
            _ if streaming => "watch-list-without-match",
            "/apis/networking.k8s.io/v1/servicecidrs" if !watch => "list-servicecidrs",
            "/api/v1/nodes" if !watch => "list-node-by-field",
            _ => return None,
        };
        Some(transcript(name).answered)
    }

    /// Answers whoever connects, for as long as the test runs.
    fn play(self, listener: TcpListener) {
        let player = Arc::new(self);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let player = player.clone();
                std::thread::spawn(move || player.converse(&mut stream));
            }
        });
    }

    fn converse(&self, stream: &mut TcpStream) {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
            head.extend(byte);
        }
        match self.answer(&String::from_utf8_lossy(&head)) {
            Some(answer) => drop(stream.write_all(answer.as_bytes())),
            // A watch without news: until the other side has enough.
            None => drop(stream.read(&mut byte)),
        }
    }
}

#[tokio::test]
async fn our_source_understands_a_real_server() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    Player::default().play(listener);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "c", "user": {"token": "TOKEN"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });

    let mut replica = Replica::through(&kubeconfig.to_string(), hasty()).await;
    replica.synced().await;
    let names = |replica: &Replica, kind| -> Vec<String> {
        replica
            .names_of(kind)
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    replica
        .until("the changes are known", |replica| {
            replica.names_of(Kind::Service).contains(&"late")
        })
        .await;
    assert_eq!(replica.lists[&Kind::Service], 2, "410, and listed again");
    // The next watch starts with the question whether the server has that
    // version. It says 504, and that it is at an older one: listed anew.
    replica.lists_services(3).await;

    assert_eq!(names(&replica, Kind::EndpointSlice), ["web-1-abcde"]);
    assert_eq!(names(&replica, Kind::ServiceCidr), ["kubernetes"]);
    assert_eq!(names(&replica, Kind::Node), ["node-1"]);
    let services = names(&replica, Kind::Service);
    assert!(services.contains(&"kubernetes".to_owned()), "{services:?}");
    assert_eq!(replica.status.kind(Kind::Service).undecodable, 0);
}

#[test]
fn what_acts_on_words_is_part_of_a_shape() {
    let answer = |reason: &str| {
        let body: Value = json!({"kind": "Status", "reason": reason, "message": reason});
        Answer::parse(&format!("HTTP/1.1 410 Gone\r\nDate: x\r\n\r\n{body}\r\n")).shape()
    };

    assert_eq!(answer("Expired"), answer("Expired"));
    assert_ne!(answer("Expired"), answer("Gone"));
}
