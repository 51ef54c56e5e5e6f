//! From a merged configuration to [`Settings`]: kube-proxy's rules and ours.
//! Every problem is collected.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::Authority;
use ipnet::IpNet;
use kube_ipvs_core::annotation_words;
use kube_ipvs_core::names::ServiceName;
use kube_ipvs_core::options::{NodePortAddresses, SCHEDULERS};
use kube_ipvs_core::state::{Family, Flags};

use super::conntrack::{Conntrack, seconds};
use super::door;
use super::duration::GoDuration;
use super::file::KubeProxyConfiguration;
use super::flags::{LogFormat, RunArgs};
use super::merge::shown_flags;
use super::problem::Collector;
use super::settings::{Action, Client, DetectLocal, IpvsTimeouts, Settings, Source};
use super::table::{self, Class};

/// The longest IPVS timeout the kernel takes: 31 days.
const LONGEST_IPVS_TIMEOUT: u64 = 2_678_400;

/// Entries of conntrack for each CPU, and at least: kube-proxy's defaults of the
/// one where the other is asked for.
const MAX_PER_CORE: i32 = 32 * 1024;
const MIN_ENTRIES: i32 = 128 * 1024;

/// All of the kernel is read in a sync period: in less than a second that would
/// be all that is done.
const SHORTEST_SYNC_PERIOD: Duration = Duration::from_secs(1);

/// Checks and types a configuration. With problems in the collector the result
/// is not to be used.
pub(super) fn settings(
    configuration: KubeProxyConfiguration,
    mut warnings: Vec<String>,
    args: &RunArgs,
    collector: &mut Collector,
) -> Settings {
    let mut check = Check {
        collector,
        configuration: &configuration,
        warnings: &mut warnings,
    };
    check.mode();
    let (min_sync_period, sync_period) = check.periods();
    let allow_external_ips = check.external_ips(args);
    let (untracked_services, untracked_by_annotation) = check.untracked_services(args);
    let source = check.source(args);
    let scheduler = check.scheduler();
    let (node_port_addresses, localhost_node_ports) = check.node_ports();
    let mut settings = Settings {
        config_file: args.config.clone(),
        flags: shown_flags(args),
        flagz: check.page("ComponentFlagz"),
        statusz: check.page("ComponentStatusz"),
        action: action(args),
        hostname: check.hostname(),
        bind_address: check.bind_address(),
        node_addresses: args.node_addresses.clone(),
        source,
        client: check.client(args),
        healthz_bind_address: check
            .address("healthzBindAddress", &configuration.healthz_bind_address),
        metrics_bind_address: check
            .address("metricsBindAddress", &configuration.metrics_bind_address),
        bind_address_hard_fail: configuration.bind_address_hard_fail,
        service_metrics: args.service_metrics.unwrap_or(false),
        events: args.events.unwrap_or(true),
        log_format: check.log_format(args),
        verbosity: configuration.logging.verbosity,
        oom_score_adj: check.oom_score(),
        min_sync_period,
        sync_period,
        real_server_sync_period: check.real_server_sync_period(args, sync_period),
        drain_timeout: check.drain_timeout(args),
        state_dir: args
            .state_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("/run/kube-ipvs")),
        adopt_kube_proxy: args.adopt_kube_proxy.unwrap_or(false),
        scheduler_flags: check.scheduler_flags(args, &scheduler),
        scheduler,
        exclude_cidrs: check.networks("ipvs.excludeCIDRs", &configuration.ipvs.exclude_cidrs),
        strict_arp: configuration.ipvs.strict_arp,
        run_estimation: args.ipvs_run_estimation,
        annotations: check.annotations(args),
        ipvs_timeouts: check.ipvs_timeouts(),
        conntrack: check.conntrack(),
        vip_binding: args.vip_binding.unwrap_or_default(),
        masquerade_bit: check.masquerade_bit(),
        masquerade_all: configuration.iptables.masquerade_all,
        detect_local: check.detect_local(),
        node_port_addresses,
        localhost_node_ports,
        reserved_ports: check.reserved_ports(args),
        node_port_servers: args.nodeport_virtual_servers.unwrap_or_default().into(),
        allow_external_ips,
        untracked_services,
        untracked_by_annotation,
        unallocated: args.unallocated_cluster_ips.unwrap_or_default().into(),
        service_proxy_name: args.service_proxy_name.clone(),
        accept_in_foreign_chains: args.accept_in_foreign_chains.unwrap_or(false),
        configuration: KubeProxyConfiguration::default(),
        warnings: Vec::new(),
    };
    check.flags_of_ours(args);
    check.table(&settings);
    check.ports(&settings);
    if matches!(settings.action, Action::WriteConfig(_)) && settings.ipvs_timeouts.tcp.is_none() {
        warnings.push(
            "--ipvs-tcp-timeout=0 cannot be written to a file, where 0s is the default; write 15m for the kernel's"
                .to_owned(),
        );
    }
    settings.configuration = configuration;
    settings.warnings = warnings;
    settings
}

fn action(args: &RunArgs) -> Action {
    let is = |flag: Option<bool>| flag == Some(true);
    match (&args.version, &args.write_config_to) {
        (Some(version), _) if version != "false" => Action::Version {
            raw: version == "raw",
        },
        (_, Some(path)) => Action::WriteConfig(path.clone()),
        _ if is(args.cleanup) => Action::Cleanup,
        _ if is(args.init_only) => Action::InitOnly,
        _ if is(args.once) => Action::Once,
        _ => Action::Run,
    }
}

/// The families whose loopback address somebody means by these networks. All
/// addresses of a family are not meant so, as in kube-proxy.
fn loopback_families(networks: &[IpNet]) -> Vec<Family> {
    let families = [
        (Family::V4, IpAddr::from(Ipv4Addr::LOCALHOST)),
        (Family::V6, Ipv6Addr::LOCALHOST.into()),
    ];
    let is_meant = |network: &IpNet, loopback: &IpAddr| {
        let is_of_family = network.addr().is_ipv4() == loopback.is_ipv4();
        let within = network.addr().is_loopback() || network.contains(loopback);
        network.prefix_len() > 0 && is_of_family && within
    };
    let meant = families
        .into_iter()
        .filter(|(_, loopback)| networks.iter().any(|net| is_meant(net, loopback)));
    meant.map(|(family, _)| family).collect()
}

struct Check<'a> {
    collector: &'a mut Collector,
    configuration: &'a KubeProxyConfiguration,
    warnings: &'a mut Vec<String>,
}

impl Check<'_> {
    fn mode(&mut self) {
        let mode = &self.configuration.mode;
        if mode.is_empty() || mode == "ipvs" {
            return;
        }
        let why = match table::by_field("mode").map(|x| x.class) {
            Some(Class::Refused(why)) => why,
            _ => "",
        };
        self.collector.field(
            "mode",
            format!("{mode:?}"),
            format!("allowed: \"ipvs\"; {why}"),
        );
    }

    fn hostname(&mut self) -> Option<String> {
        let name = &self.configuration.hostname_override;
        if name.is_empty() {
            return None;
        }
        let trimmed = name.trim().to_lowercase();
        if !door::is_node_name(&trimmed) {
            let allowed = "allowed: the name of a Node, which is a DNS name";
            self.collector
                .field("hostnameOverride", format!("{name:?}"), allowed);
        }
        Some(trimmed)
    }

    fn bind_address(&mut self) -> IpAddr {
        let text = &self.configuration.bind_address;
        text.parse().unwrap_or_else(|_| {
            self.collector
                .field("bindAddress", format!("{text:?}"), "allowed: an IP address");
            IpAddr::from([0, 0, 0, 0])
        })
    }

    fn address(&mut self, field: &str, text: &str) -> Option<SocketAddr> {
        if text.is_empty() {
            return None;
        }
        let address: Option<SocketAddr> = text.parse().ok().filter(|x: &SocketAddr| x.port() != 0);
        if address.is_none() {
            let allowed = "allowed: an IP address, or IP:PORT with a port from 1 to 65535";
            self.collector.field(field, format!("{text:?}"), allowed);
        }
        address
    }

    /// Two servers cannot have one socket.
    fn ports(&mut self, settings: &Settings) {
        let (health, metrics) = (settings.healthz_bind_address, settings.metrics_bind_address);
        if let Some(address) = metrics.filter(|_| health == metrics) {
            self.collector.field(
                "metricsBindAddress",
                address,
                "allowed: another address or port than healthzBindAddress",
            );
        }
    }

    /// What stands in no file.
    fn flags_of_ours(&mut self, args: &RunArgs) {
        for address in &args.node_addresses {
            if !door::is_node_address(*address) {
                let allowed = "allowed: addresses at which others reach this node";
                self.collector.flag("node-addresses", address, allowed);
            }
        }
        if let Some(name) = &args.service_proxy_name
            && !door::is_label_value(name)
        {
            let allowed = "allowed: the value of a label";
            self.collector
                .flag("service-proxy-name", format!("{name:?}"), allowed);
        }
        if let Some(url) = args.master.as_deref().filter(|url| !url.is_empty())
            && !door::is_server(url)
        {
            let allowed = "allowed: https://HOST[:PORT] or http://HOST[:PORT]";
            self.collector.flag("master", format!("{url:?}"), allowed);
        }
    }

    /// What the nft table would refuse, by the names of the settings.
    fn table(&mut self, settings: &Settings) {
        use kube_ipvs_nft::Invalid;
        let Err(invalid) = settings.table(Family::V4, &[]).check() else {
            return;
        };
        let name = match &settings.detect_local {
            DetectLocal::Bridge(_) => "detectLocal.bridgeInterface",
            _ => "detectLocal.interfaceNamePrefix",
        };
        match &invalid {
            Invalid::Interface(text) => self.collector.field(
                name,
                format!("{text:?}"),
                "this detectLocalMode needs it; allowed: 1 to 15 visible ASCII characters, none of \" \\ * / : $",
            ),
            Invalid::SameBit(bit) => self.collector.field(
                "iptables.masqueradeBit",
                bit,
                format!("allowed: any other, since --accept-in-foreign-chains uses bit {bit}"),
            ),
            // Named when it was read.
            Invalid::Bit(_) => {}
            other => self.collector.whole(other.to_string()),
        }
    }

    fn source(&mut self, args: &RunArgs) -> Source {
        match &args.manifests {
            Some(path) => Source::Manifests(path.clone()),
            None => Source::Kubernetes,
        }
    }

    fn client(&mut self, args: &RunArgs) -> Client {
        let client = &self.configuration.client_connection;
        if client.burst < 0 {
            self.collector
                .field("clientConnection.burst", client.burst, "allowed: 0 or more");
        }
        let filled = |x: &String| (!x.is_empty()).then(|| x.clone());
        Client {
            kubeconfig: filled(&client.kubeconfig).map(PathBuf::from),
            master: args.master.as_ref().and_then(filled),
            more: self.api_servers(args),
            qps: client.qps,
            burst: u32::try_from(client.burst).unwrap_or(0),
        }
    }

    fn api_servers(&mut self, args: &RunArgs) -> Vec<Authority> {
        let mut servers = Vec::new();
        for word in args.api_servers.iter().filter(|word| !word.is_empty()) {
            match door::authority(word) {
                Some(server) => servers.push(server),
                None => {
                    self.collector
                        .flag("api-servers", format!("{word:?}"), "allowed: HOST:PORT")
                }
            }
        }
        servers
    }

    fn log_format(&mut self, args: &RunArgs) -> LogFormat {
        let format = match self.configuration.logging.format.as_str() {
            "text" => LogFormat::Human,
            "json" => LogFormat::Json,
            other => {
                self.collector.field(
                    "logging.format",
                    format!("{other:?}"),
                    "allowed: text, json",
                );
                LogFormat::Human
            }
        };
        args.log_format.unwrap_or(format)
    }

    fn oom_score(&mut self) -> i32 {
        self.within(
            "oomScoreAdj",
            self.configuration.oom_score_adj.unwrap_or(-999),
            -1000,
            1000,
        )
    }

    fn masquerade_bit(&mut self) -> u8 {
        let bit = self.configuration.iptables.masquerade_bit.unwrap_or(14);
        u8::try_from(self.within("iptables.masqueradeBit", bit, 0, 31)).unwrap_or(14)
    }

    fn within(&mut self, field: &str, value: i32, least: i32, most: i32) -> i32 {
        if !(least..=most).contains(&value) {
            self.collector
                .field(field, value, format!("allowed: {least} to {most}"));
        }
        value
    }

    fn periods(&mut self) -> (Duration, Duration) {
        let configuration = self.configuration;
        self.positive("configSyncPeriod", configuration.config_sync_period);
        let (least, most) = (
            configuration.ipvs.min_sync_period,
            configuration.ipvs.sync_period,
        );
        let sync = self.positive("ipvs.syncPeriod", most);
        if sync > Duration::ZERO && sync < SHORTEST_SYNC_PERIOD {
            let reason = format!("allowed: {SHORTEST_SYNC_PERIOD:?} or more");
            self.collector.field("ipvs.syncPeriod", most, reason);
        }
        let min = self.not_negative("ipvs.minSyncPeriod", least);
        if most > GoDuration::default() && least > most {
            let reason = format!("allowed: at most ipvs.syncPeriod, which is {most}");
            self.collector.field("ipvs.minSyncPeriod", least, reason);
        }
        (min, sync)
    }

    fn positive(&mut self, field: &str, value: GoDuration) -> Duration {
        if value.is_zero() {
            self.collector.field(field, value, "allowed: more than 0s");
        }
        self.at_least_zero(field, value, "more than 0s")
    }

    fn not_negative(&mut self, field: &str, value: GoDuration) -> Duration {
        self.at_least_zero(field, value, "0s or more")
    }

    fn at_least_zero(&mut self, field: &str, value: GoDuration, allowed: &str) -> Duration {
        value.duration().unwrap_or_else(|| {
            self.collector
                .field(field, value, format!("allowed: {allowed}"));
            Duration::ZERO
        })
    }

    fn drain_timeout(&mut self, args: &RunArgs) -> Duration {
        let Some(value) = args.drain_timeout else {
            return Duration::from_secs(15 * 60);
        };
        value.duration().unwrap_or_else(|| {
            self.collector
                .flag("drain-timeout", value, "allowed: 0s or more");
            Duration::ZERO
        })
    }

    fn real_server_sync_period(&mut self, args: &RunArgs, pass: Duration) -> Option<Duration> {
        let value = args.real_server_sync_period?;
        let period = value.duration().filter(|period| *period >= pass);
        if period.is_none() {
            let allowed = "allowed: ipvs-sync-period or more";
            self.collector
                .flag("real-server-sync-period", value, allowed);
        }
        period
    }

    fn scheduler(&mut self) -> String {
        let name = &self.configuration.ipvs.scheduler;
        if name.is_empty() {
            return "rr".to_owned();
        }
        if !SCHEDULERS.contains(&name.as_str()) {
            let allowed = format!("allowed: {}", SCHEDULERS.join(", "));
            self.collector
                .field("ipvs.scheduler", format!("{name:?}"), allowed);
        }
        name.clone()
    }

    fn scheduler_flags(&mut self, args: &RunArgs, scheduler: &str) -> Flags {
        // kube-proxy knows Maglev with ports only.
        let mut flags = Flags {
            port: scheduler == "mh",
            ..Flags::default()
        };
        for word in args.ipvs_scheduler_flags.iter().filter(|x| !x.is_empty()) {
            match (scheduler, word.as_str()) {
                ("sh", "sh-port") | ("mh", "mh-port") => flags.port = true,
                ("sh", "no-sh-port") | ("mh", "no-mh-port") => flags.port = false,
                ("sh", "sh-fallback") | ("mh", "mh-fallback") => flags.fallback = true,
                _ => self.collector.flag(
                    "ipvs-scheduler-flags",
                    format!("{word:?}"),
                    flags_allowed(scheduler),
                ),
            }
        }
        flags
    }

    fn ipvs_timeouts(&mut self) -> IpvsTimeouts {
        let ipvs = &self.configuration.ipvs;
        IpvsTimeouts {
            tcp: self.ipvs_timeout("ipvs.tcpTimeout", ipvs.tcp_timeout),
            tcp_fin: self.ipvs_timeout("ipvs.tcpFinTimeout", ipvs.tcp_fin_timeout),
            udp: self.ipvs_timeout("ipvs.udpTimeout", ipvs.udp_timeout),
        }
    }

    fn ipvs_timeout(&mut self, field: &str, value: GoDuration) -> Option<u32> {
        let whole = self.whole_seconds(field, value, LONGEST_IPVS_TIMEOUT, "31 days")?;
        u32::try_from(whole).ok()
    }

    /// A time-out of the kernel; none is zero.
    fn whole_seconds(
        &mut self,
        field: &str,
        value: GoDuration,
        longest: u64,
        in_words: &str,
    ) -> Option<u64> {
        self.not_negative(field, value);
        if !door::is_whole_seconds(value) {
            self.collector.field(field, value, "allowed: whole seconds");
        }
        let whole = seconds(value)?;
        if whole > longest {
            let allowed = format!("allowed: at most {longest}s ({in_words}), the kernel's limit");
            self.collector.field(field, value, allowed);
        }
        Some(whole)
    }

    fn conntrack(&mut self) -> Conntrack {
        let conntrack = &self.configuration.conntrack;
        let established = conntrack.tcp_established_timeout.unwrap_or_default();
        let close_wait = conntrack.tcp_close_wait_timeout.unwrap_or_default();
        let max_per_core = self.entries_per_core();
        let stream = self.timeout("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout);
        let ipvs = seconds(self.configuration.ipvs.udp_timeout);
        Conntrack {
            max_per_core: Some(max_per_core).filter(|x| *x > 0),
            min: self.entries(),
            tcp_established_timeout: self.timeout("conntrack.tcpEstablishedTimeout", established),
            tcp_close_wait_timeout: self.timeout("conntrack.tcpCloseWaitTimeout", close_wait),
            tcp_be_liberal: conntrack.tcp_be_liberal,
            udp_timeout: self.timeout("conntrack.udpTimeout", conntrack.udp_timeout),
            udp_stream_timeout: stream,
            udp_stream_at_least: ipvs.filter(|_| stream.is_none()),
        }
    }

    /// What neither names stays the host's; who names one of the two gets
    /// kube-proxy's default of the other.
    fn entries_per_core(&mut self) -> u32 {
        let conntrack = &self.configuration.conntrack;
        let asked = conntrack.min.is_some_and(|least| least > 0);
        let default = if asked { MAX_PER_CORE } else { 0 };
        let value = conntrack.max_per_core.unwrap_or(default);
        self.count("conntrack.maxPerCore", value)
    }

    fn entries(&mut self) -> u32 {
        let field = "conntrack.min";
        let value = self.configuration.conntrack.min.unwrap_or(MIN_ENTRIES);
        let least = self.count(field, value);
        let most = door::MOST_CONNTRACK_ENTRIES;
        if least > most {
            self.collector
                .field(field, least, format!("allowed: at most {most}"));
        }
        least
    }

    fn count(&mut self, field: &str, value: i32) -> u32 {
        u32::try_from(value).unwrap_or_else(|_| {
            self.collector.field(field, value, "allowed: 0 or more");
            0
        })
    }

    fn timeout(&mut self, field: &str, value: GoDuration) -> Option<u64> {
        self.whole_seconds(field, value, door::LONGEST_CONNTRACK_TIMEOUT, "248 days")
    }

    fn networks(&mut self, field: &str, texts: &[String]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(_) => self.collector.field(field, format!("{text:?}"), NETWORKS),
            }
        }
        networks
    }

    /// Networks and words side by side, as kube-proxy takes them since 1.37; and
    /// the families whose loopback address is among them.
    fn node_ports(&mut self) -> (NodePortAddresses, Vec<Family>) {
        let texts = &self.configuration.node_port_addresses;
        let says = |word: &str| texts.iter().any(|text| text == word);
        let networks: Vec<String> = texts
            .iter()
            .flat_map(|text| match text.as_str() {
                "all" | "primary" => Vec::new(),
                // Both: a family without a network would have all of its addresses.
                "localhost" => vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()],
                network => vec![network.to_owned()],
            })
            .collect();
        let networks = self.node_port_networks(&networks);
        let localhost = loopback_families(&networks);
        let addresses = match (says("primary"), networks.is_empty()) {
            _ if texts.is_empty() || says("all") => NodePortAddresses::All,
            (true, true) => NodePortAddresses::Primary,
            (true, false) => NodePortAddresses::PrimaryAnd(networks),
            (false, _) => NodePortAddresses::Cidrs(networks),
        };
        (addresses, localhost)
    }

    fn node_port_networks(&mut self, texts: &[String]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(_) => self.collector.field(
                    "nodePortAddresses",
                    format!("{text:?}"),
                    "allowed: networks, such as 10.0.0.0/8, and the words all, primary, localhost",
                ),
            }
        }
        networks
    }

    /// The words alone; `all` and `none` stand by themselves.
    fn annotations(&mut self, args: &RunArgs) -> Option<Vec<&'static str>> {
        let words: Vec<&str> = args
            .service_annotations
            .iter()
            .map(String::as_str)
            .collect();
        match words[..] {
            [] | ["all"] => return None,
            ["none"] => return Some(Vec::new()),
            _ => {}
        }
        let mut honoured = Vec::new();
        for word in words {
            match annotation_words().find(|known| *known == word) {
                Some(known) => honoured.push(known),
                None => {
                    let known: Vec<_> = annotation_words().collect();
                    let allowed = format!("allowed: all, none, or some of {}", known.join(", "));
                    let flag = "service-annotations";
                    self.collector.flag(flag, format!("{word:?}"), allowed);
                }
            }
        }
        Some(honoured)
    }

    fn reserved_ports(&mut self, args: &RunArgs) -> Vec<RangeInclusive<u16>> {
        let mut ranges = Vec::new();
        let words = args.nodeport_reserved_ports.iter();
        for word in words.filter(|word| !word.is_empty()) {
            match door::ports(word) {
                Some(range) => ranges.push(range),
                None => self.collector.flag(
                    "nodeport-reserved-ports",
                    format!("{word:?}"),
                    "allowed: ports from 1 to 65535, and ranges such as 10250-10260",
                ),
            }
        }
        ranges
    }

    /// Names of Services, and whether others may ask by annotation.
    fn untracked_services(&mut self, args: &RunArgs) -> (BTreeSet<ServiceName>, bool) {
        let mut named = BTreeSet::new();
        let mut by_annotation = false;
        let words = args.ipvs_untracked_services.iter();
        for word in words.filter(|word| !word.is_empty()) {
            match (word.as_str(), door::service_name(word)) {
                ("annotated", _) => by_annotation = true,
                (_, Some(name)) => _ = named.insert(name),
                (_, None) => self.collector.flag(
                    "ipvs-untracked-services",
                    format!("{word:?}"),
                    "allowed: Services as NAMESPACE/NAME, and the word annotated",
                ),
            }
        }
        (named, by_annotation)
    }

    fn detect_local(&mut self) -> DetectLocal {
        let configuration = self.configuration;
        let details = &configuration.detect_local;
        match configuration.detect_local_mode.as_str() {
            "ClusterCIDR" => self.cluster_cidr(),
            "NodeCIDR" => DetectLocal::NodeCidrs,
            "BridgeInterface" => DetectLocal::Bridge(details.bridge_interface.clone()),
            "InterfaceNamePrefix" => {
                DetectLocal::InterfacePrefix(details.interface_name_prefix.clone())
            }
            other => {
                let allowed =
                    "allowed: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix";
                self.collector
                    .field("detectLocalMode", format!("{other:?}"), allowed);
                DetectLocal::Unknown
            }
        }
    }

    fn cluster_cidr(&mut self) -> DetectLocal {
        let text = &self.configuration.cluster_cidr;
        if text.is_empty() {
            self.warnings.push(
                "clusterCIDR is not set: local pods are not known, so traffic from outside the cluster to a cluster address is not masqueraded".to_owned(),
            );
            return DetectLocal::Unknown;
        }
        let parts: Vec<_> = text.split(',').map(|x| x.trim().to_owned()).collect();
        let networks = self.networks("clusterCIDR", &parts);
        let families = |v4: bool| networks.iter().filter(|x| x.addr().is_ipv4() == v4).count();
        if parts.len() > 2 || families(true) > 1 || families(false) > 1 {
            let allowed = "allowed: one network, or one of each family";
            self.collector
                .field("clusterCIDR", format!("{text:?}"), allowed);
        }
        DetectLocal::Cidrs(networks)
    }

    /// By the gate `AllowServiceExternalIPs` and our list: without either none
    /// are honoured, since anybody who may write a Service could claim any
    /// address.
    fn external_ips(&mut self, args: &RunArgs) -> Vec<IpNet> {
        let gate = self.gates();
        let mut networks = Vec::new();
        for text in args.allow_external_ips.iter().filter(|x| !x.is_empty()) {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(_) => self
                    .collector
                    .flag("allow-external-ips", format!("{text:?}"), NETWORKS),
            }
        }
        match gate {
            Some(false) if !networks.is_empty() => {
                let reason = "contradicts featureGates.AllowServiceExternalIPs: false; allowed: one of the two";
                self.collector.flag(
                    "allow-external-ips",
                    args.allow_external_ips.join(","),
                    reason,
                );
            }
            Some(true) if networks.is_empty() => {
                let all = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
                networks = all.map(|x| IpNet::new_assert(x, 0)).to_vec();
            }
            _ => {}
        }
        networks
    }

    /// Whether a page that has a gate is served: unless it is switched off.
    fn page(&self, gate: &str) -> bool {
        let gates = &self.configuration.feature_gates;
        gates.get(gate).copied().unwrap_or(true)
    }

    /// The gate for externalIPs; those without meaning here are named.
    fn gates(&mut self) -> Option<bool> {
        for (name, on) in &self.configuration.feature_gates {
            if name == "PreferSameTrafficDistribution" && !on {
                let field = "featureGates.PreferSameTrafficDistribution";
                self.collector
                    .field(field, on, "allowed: true; it cannot be switched off");
            } else if !GATES.contains(&name.as_str()) {
                self.warnings
                    .push(format!("feature gate {name} has no meaning here"));
            }
        }
        self.configuration
            .feature_gates
            .get("AllowServiceExternalIPs")
            .copied()
    }
}

/// Feature gates that mean something here.
const GATES: [&str; 3] = [
    "AllowServiceExternalIPs",
    "ComponentFlagz",
    "ComponentStatusz",
];
const NETWORKS: &str = "allowed: networks such as 10.0.0.0/8 or fd00::/8";

fn is_hashing(scheduler: &str) -> bool {
    matches!(scheduler, "sh" | "mh")
}

fn flags_allowed(scheduler: &str) -> String {
    if is_hashing(scheduler) {
        format!(
            "allowed with scheduler {scheduler}: {scheduler}-port, no-{scheduler}-port, {scheduler}-fallback"
        )
    } else {
        format!(
            "scheduler {scheduler} has no flags; allowed: sh-port, no-sh-port, sh-fallback with sh, mh-port, no-mh-port, mh-fallback with mh"
        )
    }
}
