//! Every setting there is: flag, field of the file, and what becomes of it.
//!
//! The one place that says so. Reading, warnings, errors and `docs/flags.md`
//! all come from here.

/// What is done with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It does what it says.
    Honoured,
    /// Accepted, with one warning when it is given; the text says why.
    NoMeaning(&'static str),
    /// Refused at start unless it has the value that is possible; the text says why.
    Refused(&'static str),
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// true or false.
    Bool,
    /// A whole number that fits 32 bits.
    Int,
    /// A whole number from 0.
    Count,
    /// A number.
    Number,
    /// Text.
    Text,
    /// A duration in Go's notation.
    Duration,
    /// A list of texts.
    Texts,
    /// Names with true or false.
    Gates,
    /// A list of {filePattern, verbosity}.
    Vmodule,
    /// A number of bytes, such as 64Ki.
    Quantity,
}

/// A flag, a field, or both.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Without the dashes; empty if there is none.
    pub flag: &'static str,
    /// Path in the file; empty if there is none.
    pub field: &'static str,
    /// What a value looks like.
    pub kind: Kind,
    /// Default, as written in the documentation.
    pub default: &'static str,
    /// What is done with it.
    pub class: Class,
    /// What it does, or what else there is to know.
    pub note: &'static str,
}

use Class::{Honoured, NoMeaning, Refused};
use Kind::{Bool, Count, Duration, Gates, Int, Number, Quantity, Text, Texts, Vmodule};

const IPTABLES: &str = "no iptables rules are made here";
const NFTABLES_MODE: &str = "belongs to kube-proxy's nftables mode";
const WINDOWS: &str = "belongs to Windows";
const LOGS: &str = "log lines go to standard error at once, unbuffered";
const CADVISOR: &str = "left over in kube-proxy from cAdvisor";
const CLIENT: &str =
    "the program holds a few watches and sends little else, so requests are not throttled";
const ENCODING: &str = "the API is spoken as JSON";

const fn both(
    flag: &'static str,
    field: &'static str,
    kind: Kind,
    default: &'static str,
    class: Class,
    note: &'static str,
) -> Setting {
    Setting {
        flag,
        field,
        kind,
        default,
        class,
        note,
    }
}

/// All settings: kube-proxy's by name, then ours.
#[rustfmt::skip] // A line a setting is read as a table.
pub(super) const SETTINGS: &[Setting] = &[
    both("bind-address", "bindAddress", Text, "0.0.0.0", Honoured, "the node's address when it is not unspecified, and the family it prefers; nothing listens on it"),
    both("bind-address-hard-fail", "bindAddressHardFail", Bool, "false", Honoured, "exit when the health or metrics address cannot be bound, instead of trying again"),
    both("boot-id-file", "", Text, "/proc/sys/kernel/random/boot_id", NoMeaning(CADVISOR), ""),
    both("cleanup", "", Bool, "false", Honoured, "remove what is ours and exit; as `kube-ipvs cleanup`"),
    both("cluster-cidr", "clusterCIDR", Text, "", Honoured, "networks of the pods, one or one a family; what comes from them is local in detect-local-mode ClusterCIDR"),
    both("config", "", Text, "", Honoured, "the file; when it changes the program exits, to be started anew"),
    both("config-sync-period", "configSyncPeriod", Duration, "15m", NoMeaning("there is no informer cache to walk again; the kernel is compared every ipvs-sync-period"), ""),
    both("conntrack-max-per-core", "conntrack.maxPerCore", Int, "0; 32768 with conntrack-min", Honoured, "`nf_conntrack_max` for each CPU, 1048576 at most; 0 leaves it alone"),
    both("conntrack-min", "conntrack.min", Int, "131072", Honoured, "least `nf_conntrack_max`, where conntrack-max-per-core is not 0"),
    both("conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", Bool, "false", Honoured, "`nf_conntrack_tcp_be_liberal=1`"),
    both("conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout", Duration, "0s", Honoured, "0 leaves it alone"),
    both("conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout", Duration, "0s", Honoured, "0 leaves it alone"),
    both("conntrack-udp-timeout", "conntrack.udpTimeout", Duration, "0s", Honoured, "0 leaves it alone"),
    both("conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", Duration, "0s", Honoured, "0 leaves it alone"),
    both("detect-local-mode", "detectLocalMode", Text, "ClusterCIDR", Honoured, "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix"),
    both("feature-gates", "featureGates", Gates, "", Honoured, "AllowServiceExternalIPs: false ignores externalIPs, true honours all; ComponentFlagz and ComponentStatusz: false takes `/flagz`, `/statusz` away; any other gate has no meaning here, `KubeProxyIPVS` of 1.37 neither"),
    both("healthz-bind-address", "healthzBindAddress", Text, "0.0.0.0:10256", Honoured, "`[::]:10256` with an IPv6 bind address; the port may be left out; an empty flag disables it"),
    both("healthz-port", "", Int, "10256", Honoured, "deprecated: port of the above, 0 disables it"),
    both("hostname-override", "hostnameOverride", Text, "the host's name", Honoured, "name of the Node; the flag wins over the file"),
    both("init-only", "", Bool, "false", Honoured, "write sysctls and IPVS timeouts, exit 0"),
    both("iptables-localhost-nodeports", "iptables.localhostNodePorts", Bool, "true", NoMeaning("`--nodeport-addresses` decides; no `route_localnet` is opened"), ""),
    both("iptables-masquerade-bit", "iptables.masqueradeBit", Int, "14", Honoured, "bit of the packet mark that asks for masquerading, 0 to 31; `--masquerade-bit` is the same"),
    both("iptables-min-sync-period", "iptables.minSyncPeriod", Duration, "1s", NoMeaning(IPTABLES), "see ipvs-min-sync-period"),
    both("iptables-sync-period", "iptables.syncPeriod", Duration, "30s", NoMeaning(IPTABLES), "see ipvs-sync-period"),
    both("ipvs-exclude-cidrs", "ipvs.excludeCIDRs", Texts, "", Honoured, "virtual servers that others made in these networks are never removed, also when a Service took the same address and port for a while; nor, anywhere, is one that no Service wants and we did not make"),
    both("ipvs-min-sync-period", "ipvs.minSyncPeriod", Duration, "1s; 0s in a file", Honoured, "least time between two syncs"),
    both("ipvs-scheduler", "ipvs.scheduler", Text, "rr", Honoured, "scheduler of Services that name none by annotation, or one that this kernel lacks; without it the program ends; `mh` with mh-port, as in kube-proxy, unless ipvs-scheduler-flags says no-mh-port"),
    both("ipvs-strict-arp", "ipvs.strictARP", Bool, "false", Honoured, "`arp_ignore=1`, `arp_announce=2`"),
    both("ipvs-sync-period", "ipvs.syncPeriod", Duration, "30s", Honoured, "within this time all of the kernel is compared with what it should hold"),
    both("ipvs-tcp-timeout", "ipvs.tcpTimeout", Duration, "2h10m0s", Honoured, "idle TCP connections, whole seconds; `--ipvs-tcp-timeout=0` leaves the kernel's; `0s` in a file is the default, since kubeadm writes it into every file: there, give `15m` for the kernel's"),
    both("ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", Duration, "0s", Honoured, "whole seconds; 0 leaves the kernel's"),
    both("ipvs-udp-timeout", "ipvs.udpTimeout", Duration, "0s", Honoured, "whole seconds; 0 leaves the kernel's; conntrack then keeps answered UDP flows at least as long, unless conntrack-udp-timeout-stream is given"),
    both("kube-api-burst", "clientConnection.burst", Int, "10", NoMeaning(CLIENT), ""),
    both("kube-api-content-type", "clientConnection.contentType", Text, "application/vnd.kubernetes.protobuf", NoMeaning(ENCODING), ""),
    both("", "clientConnection.acceptContentTypes", Text, "", NoMeaning(ENCODING), ""),
    both("kube-api-qps", "clientConnection.qps", Number, "5", NoMeaning(CLIENT), ""),
    both("kubeconfig", "clientConnection.kubeconfig", Text, "", Honoured, "empty: the pod's service account"),
    both("log-flush-frequency", "logging.flushFrequency", Duration, "5s", NoMeaning(LOGS), ""),
    both("log-json-info-buffer-size", "logging.options.json.infoBufferSize", Quantity, "0", NoMeaning(LOGS), ""),
    both("log-json-split-stream", "logging.options.json.splitStream", Bool, "false", NoMeaning(LOGS), ""),
    both("log-text-info-buffer-size", "logging.options.text.infoBufferSize", Quantity, "0", NoMeaning(LOGS), ""),
    both("log-text-split-stream", "logging.options.text.splitStream", Bool, "false", NoMeaning(LOGS), ""),
    both("logging-format", "logging.format", Text, "text", Honoured, "text or json"),
    both("machine-id-file", "", Text, "/etc/machine-id,/var/lib/dbus/machine-id", NoMeaning(CADVISOR), ""),
    both("masquerade-all", "iptables.masqueradeAll", Bool, "false", Honoured, "masquerade everything sent to a cluster address"),
    both("master", "", Text, "", Honoured, "address of the API server, instead of the kubeconfig's"),
    both("metrics-bind-address", "metricsBindAddress", Text, "127.0.0.1:10249", Honoured, "`[::1]:10249` with an IPv6 bind address; the port may be left out; an empty flag disables it"),
    both("metrics-port", "", Int, "10249", Honoured, "deprecated: port of the above, 0 disables it"),
    both("nodeport-addresses", "nodePortAddresses", Texts, "all", Honoured, "networks, and the words `primary` (the node's own), `all` and `localhost`, side by side as in 1.37; on `127.0.0.1` and `::1` the daemon listens itself, for TCP, where loopback is named"),
    both("oom-score-adj", "oomScoreAdj", Int, "-999", Honoured, "-1000 to 1000; a refusal of the kernel is logged"),
    both("pod-bridge-interface", "detectLocal.bridgeInterface", Text, "", Honoured, "for detect-local-mode BridgeInterface"),
    both("pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", Text, "", Honoured, "for detect-local-mode InterfaceNamePrefix"),
    both("profiling", "enableProfiling", Bool, "false", NoMeaning("`/debug/pprof` and `/debug/flags` show and set what only a Go program has; use perf, and --v"), ""),
    both("proxy-mode", "mode", Text, "ipvs", Refused("this program proxies with IPVS only; run kube-proxy for the other modes"), "`ipvs` or empty; any other mode is refused"),
    both("show-hidden-metrics-for-version", "showHiddenMetricsForVersion", Text, "", NoMeaning("no metric is hidden"), ""),
    both("v", "logging.verbosity", Count, "0", Honoured, "also `-v`: 0 to 3 info, 4 and 5 debug, 6 and more trace"),
    both("version", "", Text, "", Honoured, "print the version and exit; `raw` prints all there is to know of the build"),
    both("vmodule", "logging.vmodule", Vmodule, "", NoMeaning("it names Go source files"), ""),
    both("write-config-to", "", Text, "", Honoured, "write the configuration that would be used, exit 0"),
    both("", "nftables.masqueradeBit", Int, "14", NoMeaning(NFTABLES_MODE), "see iptables-masquerade-bit"),
    both("", "nftables.masqueradeAll", Bool, "false", NoMeaning(NFTABLES_MODE), "see masquerade-all"),
    both("", "nftables.syncPeriod", Duration, "30s", NoMeaning(NFTABLES_MODE), ""),
    both("", "nftables.minSyncPeriod", Duration, "1s", NoMeaning(NFTABLES_MODE), ""),
    both("", "winkernel.networkName", Text, "", NoMeaning(WINDOWS), ""),
    both("", "winkernel.sourceVip", Text, "", NoMeaning(WINDOWS), ""),
    both("", "winkernel.enableDSR", Bool, "false", NoMeaning(WINDOWS), ""),
    both("", "winkernel.rootHnsEndpointName", Text, "", NoMeaning(WINDOWS), ""),
    both("", "winkernel.forwardHealthCheckVip", Bool, "false", NoMeaning(WINDOWS), ""),
    both("", "portRange", Text, "", NoMeaning("it belonged to the userspace mode, which is gone"), ""),
    both("", "windowsRunAsService", Bool, "false", NoMeaning(WINDOWS), ""),
    both("", "apiVersion", Text, "", Honoured, "`kubeproxy.config.k8s.io/v1alpha1`"),
    both("", "kind", Text, "", Honoured, "`KubeProxyConfiguration`"),
    ours("accept-in-foreign-chains", Bool, "false", "insert accept rules into other programs' nftables chains that would drop Service traffic"),
    ours("adopt-kube-proxy", Bool, "false", "take over what a kube-proxy left on this node: VIPs and virtual servers of its ipvs mode, whose connections go on, and chains, tables and sets of any mode"),
    ours("allow-external-ips", Texts, "none", "networks whose addresses are honoured as externalIPs; `0.0.0.0/0,::/0` for all"),
    ours("api-servers", Texts, "", "further addresses of the API server, `HOST:PORT`, with certificates for these hosts or for the kubeconfig's `tls-server-name`; one after the other is tried when the kubeconfig's does not answer, and after them those of the slices of `default/kubernetes`, with a certificate for the kubeconfig's host"),
    ours("drain-timeout", Duration, "15m", "how long a terminating endpoint may keep its connections"),
    ours("events", Bool, "true", "write Kubernetes Events"),
    ours("ipvs-run-estimation", Bool, "as the host has it", "whether the kernel computes rates of virtual servers and endpoints (`net.ipv4.vs.run_estimation`, Linux 5.15 and later), for which it looks at each of them every two seconds; with false the rates of `inspect --rate` and of ipvsadm stay 0, and counters are whole; without it what the host has stays"),
    ours("ipvs-scheduler-flags", Texts, "", "sh-port, sh-fallback, mh-port, no-mh-port, mh-fallback, of Services that name no scheduler; sh and mh have their fallback flag in any case, mh has mh-port without no-mh-port"),
    ours("ipvs-untracked-services", Texts, "none", "Services, as `NAMESPACE/NAME`, whose ClusterIPs pass without entries in conntrack for pods, and the word `annotated` for all that ask by the annotation `untracked`; [limitations.md](limitations.md#untracked-services) says with what it does not go together"),
    ours("log-format", Text, "human", "human or json; wins over logging-format"),
    ours("manifests", Text, "", "read objects from YAML instead of an API server: a directory, a file, or `-`"),
    ours("node-addresses", Texts, "", "addresses of this node, instead of those of its Node object"),
    ours("nodeport-reserved-ports", Texts, "none", "ports, and ranges such as `10250-10260`, of any protocol, that no Service gets on the host's own addresses: not as nodePort, as healthCheckNodePort, or where a load-balancer address or an external one is the host's own; warned of. A port that the host listens on and that is not named here is served as by kube-proxy, with a warning"),
    ours("nodeport-virtual-servers", Text, "auto", "address: a NodePort is a virtual server for each address of the host that takes it; mark: one for all of them, by firewall mark; auto: by mark where a family has more than eight addresses"),
    ours("once", Bool, "false", "make one sync and exit"),
    ours("real-server-sync-period", Duration, "as long as their number asks for", "within this time all real servers are compared with what they should be; without it within ipvs-sync-period for up to 84 virtual servers, and in turns within 30 of them for up to 20160. Once something was found that somebody else had changed, all within the next ipvs-sync-period, and 672 in each for 120 of them"),
    ours("service-annotations", Texts, "all", "which annotations are honoured, by their names without the prefix (`scheduler,weights`): those of Services, `weight` of EndpointSlices, and `local` for `kube-router.io/service.local`; `none` switches all of them off. One that is not honoured is as good as none, with a warning and an Event"),
    ours("service-metrics", Bool, "false", "metrics of every Service and real server, with Kubernetes names"),
    ours("service-proxy-name", Text, "", "serve the Services labelled with this `service.kubernetes.io/service-proxy-name` instead of those without the label"),
    ours("state-dir", Text, "/run/kube-ipvs", "where the ownership record is kept"),
    ours("unallocated-cluster-ips", Text, "drop", "what becomes of a new connection to an address of a ServiceCIDR that no Service has: drop (as kube-proxy's nftables mode), reject (refused at once) or forward (sent where the routes lead)"),
    ours("vip-binding", Text, "address", "address: a /32 or /128 on kube-ipvs0 each; route: a local route each"),
];

const fn ours(
    flag: &'static str,
    kind: Kind,
    default: &'static str,
    note: &'static str,
) -> Setting {
    both(flag, "", kind, default, Honoured, note)
}

/// The setting with this field.
pub(super) fn by_field(field: &str) -> Option<&'static Setting> {
    SETTINGS
        .iter()
        .find(|x| !x.field.is_empty() && x.field == field)
}
