//! From a merged configuration to [`Settings`]: kube-proxy's rules and ours.
//! Every problem is collected.

mod kernel;
mod scalars;
mod services;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::Authority;
use kube_ipvs_core::state::Family;

use super::door;
use super::duration::GoDuration;
use super::file::KubeProxyConfiguration;
use super::flags::{LogFormat, RunArgs};
use super::merge::shown_flags;
use super::problem::Collector;
use super::settings::{Action, Client, DetectLocal, Host, HttpServers, Log, Settings, Source};
use super::table::{self, Class};

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
    let source = check.source(args);
    let scheduler = check.scheduler();
    let mut settings = Settings {
        config_file: args.config.clone(),
        flags: shown_flags(args),
        action: action(args),
        hostname: check.hostname(),
        bind_address: check.bind_address(),
        node_addresses: args.node_addresses.clone(),
        source,
        client: check.client(args),
        http: check.http_servers(args),
        host: check.host(args),
        events: args.events.unwrap_or(true),
        log: check.log(args),
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
        annotations: check.annotations(args),
        vip_binding: args.vip_binding.unwrap_or_default(),
        masquerade_bit: check.masquerade_bit(),
        masquerade_all: configuration.iptables.masquerade_all,
        detect_local: check.detect_local(),
        node_ports: check.node_ports(args),
        allow_external_ips,
        untracked: check.untracked_services(args),
        unallocated: args.unallocated_cluster_ips.unwrap_or_default().into(),
        service_proxy_name: args.service_proxy_name.clone(),
        accept_in_foreign_chains: args.accept_in_foreign_chains.unwrap_or(false),
        configuration: KubeProxyConfiguration::default(),
        warnings: Vec::new(),
    };
    check.flags_of_ours(args);
    check.whole(&settings);
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

    /// What only shows where settings meet.
    fn whole(&mut self, settings: &Settings) {
        self.table(settings);
        self.ports(&settings.http);
        let writes = matches!(settings.action, Action::WriteConfig(_));
        if writes && settings.host.ipvs_timeouts.tcp.is_none() {
            self.warnings.push(
                "--ipvs-tcp-timeout=0 cannot be written to a file, where 0s is the default; write 15m for the kernel's"
                    .to_owned(),
            );
        }
    }

    fn http_servers(&mut self, args: &RunArgs) -> HttpServers {
        let configuration = self.configuration;
        HttpServers {
            healthz: self.address("healthzBindAddress", &configuration.healthz_bind_address),
            metrics: self.address("metricsBindAddress", &configuration.metrics_bind_address),
            hard_fail: configuration.bind_address_hard_fail,
            service_metrics: args.service_metrics.unwrap_or(false),
            flagz: self.page("ComponentFlagz"),
            statusz: self.page("ComponentStatusz"),
        }
    }

    fn host(&mut self, args: &RunArgs) -> Host {
        Host {
            strict_arp: self.configuration.ipvs.strict_arp,
            run_estimation: args.ipvs_run_estimation,
            ipvs_timeouts: self.ipvs_timeouts(),
            conntrack: self.conntrack(),
        }
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

    /// Two servers cannot have one socket.
    fn ports(&mut self, servers: &HttpServers) {
        let (health, metrics) = (servers.healthz, servers.metrics);
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

    fn log(&mut self, args: &RunArgs) -> Log {
        Log {
            format: self.log_format(args),
            verbosity: self.configuration.logging.verbosity,
        }
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

    /// Whether a page that has a gate is served: unless it is switched off.
    fn page(&self, gate: &str) -> bool {
        let gates = &self.configuration.feature_gates;
        gates.get(gate).copied().unwrap_or(true)
    }
}

const NETWORKS: &str = "allowed: networks such as 10.0.0.0/8 or fd00::/8";
