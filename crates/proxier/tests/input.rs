//! What the program makes of input that it cannot read, from the command line.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const WEB: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.41, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.1]}]
ports: [{name: http, port: 8080}]
";

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a program says to this on its standard input.
fn fed(program: &mut Command, input: &str) -> Output {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start it");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(input.as_bytes()).expect("written");
    drop(pipe);
    child.wait_with_output().expect("ended")
}

fn compile(path: &Path, more: &[&str]) -> Output {
    let mut command = program(&["compile", "--hostname-override", "n1", "--node-addresses"]);
    command
        .arg("192.0.2.11")
        .arg("--manifests")
        .arg(path)
        .args(more);
    command.output().expect("run it")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).expect("write");
    path
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_place_and_no_state() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let fifo = at.join("fifo.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let dangling = at.join("dangling.yaml");
    std::os::unix::fs::symlink(at.join("nothing"), &dangling).expect("a link");
    let endless = at.join("endless.yaml");
    std::os::unix::fs::symlink("/dev/zero", &endless).expect("a link");
    let broken = format!("{WEB}---\nkind: [broken\n");
    let typed = WEB.replace("port: 80}", "port: http}");
    for (path, place) in [
        (fifo, "fifo.yaml: a FIFO, not a regular file"),
        (dangling, "No such file"),
        (endless, "endless.yaml: a device, not a regular file"),
        (file(at, "empty.yaml", ""), "empty.yaml: is empty"),
        (file(at, "a.yaml", broken), "a.yaml: document 3: not YAML: "),
        (
            file(at, "b.yaml", typed),
            "b.yaml: document 1: decode Service default/web: spec.ports[0].port",
        ),
        (
            file(at, "c.yaml", b"\xff\xfe"),
            "c.yaml: not UTF-8 text: byte 0 is wrong",
        ),
        (at.join("nothing"), "No such file"),
    ] {
        let output = compile(&path, &[]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{place}: {error}");
        assert!(error.contains(place), "{place}: {error}");
        assert_eq!(text(&output.stdout), "", "{place}");
    }
}

#[test]
fn standard_input_may_be_a_pipe_and_must_end() {
    let arguments = ["compile", "--manifests", "-", "--hostname-override", "n1"];
    let output = fed(&mut program(&arguments), WEB);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("10.96.0.41:80/TCP"));
}

#[test]
fn objects_of_other_groups_change_nothing() {
    let others = "---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: web, namespace: default}
spec: {template: {spec: {containers: []}}}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: zone-a}}
status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}
---
apiVersion: longhorn.io/v1beta2
kind: Node
metadata: {name: n1, namespace: longhorn-system}
spec: {allowScheduling: true}
";
    let directory = tempfile::tempdir().expect("a directory");
    let alone = compile(&file(directory.path(), "a.yaml", WEB), &[]);
    let beside = compile(
        &file(directory.path(), "b.yaml", WEB.to_owned() + others),
        &[],
    );
    assert_eq!(beside.status.code(), Some(0), "{}", text(&beside.stderr));
    assert!(text(&alone.stdout).contains("-> 10.244.1.1:8080 weight 1"));
    assert_eq!(text(&beside.stdout), text(&alone.stdout));
}

#[test]
fn a_file_of_settings_may_be_all_comments_and_must_be_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let manifests = file(directory.path(), "a.yaml", WEB);
    let config = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nconntrack:\n{}ipvs:\n{}  scheduler: lc\n",
        "  # min: 131072\n".repeat(200),
        "# excludeCIDRs: []\n".repeat(200),
    );
    let path = file(directory.path(), "config", config);
    let output = compile(&manifests, &["--config", path.to_str().expect("a name")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("10.96.0.41:80/TCP lc"),
        "{}",
        text(&output.stdout)
    );

    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for (path, reason) in [
        (fifo.as_path(), "a FIFO, not a regular file"),
        (Path::new("/dev/zero"), "a device, not a regular file"),
        (directory.path(), "a directory, not a regular file"),
    ] {
        let output = compile(&manifests, &["--config", path.to_str().expect("a name")]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_wrong_command_line_is_usage_and_no_change() {
    let code = |arguments: &[&str]| {
        let output = program(arguments).output().expect("run it");
        output.status.code().expect("it ended by itself")
    };
    assert_eq!(code(&["plan", "--bogus"]), 64);
    assert_eq!(code(&["plan", "-o", "xml"]), 64);
    assert_eq!(code(&["plan", "--masquerade-bit=32"]), 64);
    assert_eq!(code(&["plan", "--nodeport-reserved-ports=30-20"]), 64);
    assert_eq!(code(&["compile", "--masquerade-bit=32"]), 64);
    assert_eq!(code(&["plan", "--help"]), 0);
    assert_eq!(code(&["run", "--bogus"]), 64);
    assert_eq!(code(&["compile", "--bogus"]), 64);
    assert_eq!(code(&["--bogus"]), 64);
    assert_eq!(
        code(&[
            "plan",
            "--manifests",
            "/nowhere",
            "--hostname-override",
            "n"
        ]),
        1
    );
}

/// What `kubectl get nodes,svc,endpointslices -A -o yaml` prints, cut short.
const LISTED: &str = "apiVersion: v1
kind: List
metadata: {resourceVersion: ''}
items:
- apiVersion: v1
  kind: Node
  metadata: {name: node-1}
  status: {addresses: [{type: InternalIP, address: 192.0.2.5}]}
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: default}
  spec:
    type: LoadBalancer
    clusterIP: 10.96.0.10
    externalTrafficPolicy: Local
    ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
  status: {loadBalancer: {ingress: [{ip: 203.0.113.7}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{name: '', port: 8080, protocol: TCP}]
  endpoints:
  - {addresses: [10.244.0.5], nodeName: node-1, conditions: {ready: true}}
  - {addresses: [10.244.1.5], nodeName: node-2, conditions: {ready: true}}
";

#[test]
fn the_preview_of_the_migration_shows_the_node_it_names() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = file(
        directory.path(),
        "config.conf",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         clusterCIDR: 10.244.0.0/16\nipvs: {scheduler: lc}\n",
    );
    let preview = |node: &str| {
        let arguments = ["compile", "--manifests", "-", "--hostname-override", node];
        let output = fed(program(&arguments).arg("--config").arg(&config), LISTED);
        assert!(output.status.success(), "{output:?}");
        (text(&output.stdout), text(&output.stderr))
    };

    let (state, log) = preview("node-1");
    for front in ["192.0.2.5:30080/TCP lc", "203.0.113.7:80/TCP lc"] {
        let after = state.split_once(front).expect("the front is served").1;
        let servers: Vec<_> = after
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with("  ->"))
            .collect();
        assert_eq!(servers, ["  -> 10.244.0.5:8080 weight 1"], "{front}");
    }
    assert!(!log.contains("no Node"), "{log}");

    let (state, log) = preview("elsewhere");
    assert!(!state.contains(":30080"), "{state}");
    assert!(log.contains("no Node elsewhere in the input"), "{log}");
}

/// Its later value is taken, as by every reader of JSON.
const TWICE: &str = r#"{"apiVersion": "v1", "kind": "Service",
"metadata": {"name": "web", "namespace": "default"},
"spec": {"clusterIP": "10.96.0.40",
"clusterIP": "10.96.0.41", "ports": [{"port": 80, "targetPort": 8080}]}}"#;

const SLICE: &str = "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  namespace: default
  labels: {kubernetes.io/service-name: web}
  annotations: {ipvs.kube-ipvs.dev/weights: '3'}
addressType: IPv4
endpoints: []
";

/// A check for CI: what is warned of is an error, also a field that is misspelt.
#[test]
fn strict_takes_warnings_for_errors() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\n\
                status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}\n";
    let service = |metadata: &str, spec: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default{metadata}}}\n\
             spec: {{{spec}ports: [{{port: 80, targetPort: 8080}}]}}\n"
        )
    };
    let good = service("", "clusterIP: 10.96.0.41, ");
    let cases = [
        (format!("{node}{good}"), ""),
        (
            format!("{node}{good}---\nkind: Srvice\n"),
            "kind Srvice is not known",
        ),
        (good.clone(), "no Node n1 in the input"),
        (node.to_owned(), "nothing is served"),
        (
            format!("{node}{}", service("", "")),
            "Service default/web has no spec.clusterIP",
        ),
        (
            format!(
                "{node}{}",
                service("", "clusterIP: 10.96.0.41, sesionAffinity: ClientIP, ")
            ),
            "Service default/web: unknown field spec.sesionAffinity",
        ),
        (
            format!(
                "{node}{}",
                service(", lables: {a: b}", "clusterIP: 10.96.0.41, ")
            ),
            "Service default/web: unknown field metadata.lables",
        ),
        (
            format!(
                "{node}{}",
                service(
                    ", annotations: {ipvs.kube-ipvs.dev/schedular: mh}",
                    "clusterIP: 10.96.0.41, "
                )
            ),
            "Service default/web: unknown annotation ipvs.kube-ipvs.dev/schedular; \
             nearest is ipvs.kube-ipvs.dev/scheduler\n",
        ),
        (
            format!("{node}{good}{SLICE}"),
            "unknown annotation ipvs.kube-ipvs.dev/weights; nearest is ipvs.kube-ipvs.dev/weight\n",
        ),
        (
            format!("{node}---\n{TWICE}"),
            "line 10: key \"clusterIP\" is given twice",
        ),
        (
            format!("{node}{}", service("", "clusterIP: 10.96.0.041, ")),
            "10.96.0.041",
        ),
    ];
    for (number, (manifests, warning)) in cases.iter().enumerate() {
        let path = file(directory.path(), &format!("{number}.yaml"), manifests);
        let [lax, strict] = [&[][..], &["--strict"]].map(|flags| {
            let mut command = program(&["compile", "--hostname-override", "n1", "--manifests"]);
            command.arg(&path).args(flags).output().expect("run it")
        });
        assert_eq!(lax.status.code(), Some(0), "{manifests}: {lax:?}");
        assert_eq!(strict.stdout, lax.stdout, "{manifests}");
        let said = text(&strict.stdout) + &text(&strict.stderr);
        let failed = !warning.is_empty();
        assert!(said.contains(warning), "{manifests}: {said}");
        assert_eq!(said.contains("--strict: "), failed, "{said}");
        assert_eq!(strict.status.code(), Some(i32::from(failed)), "{said}");
    }
}
