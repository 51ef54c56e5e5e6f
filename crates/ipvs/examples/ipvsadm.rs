//! A tiny ipvsadm: `-A -E -D -a -e -d -Ln -C` for IPv4, IPv6 and firewall marks.
//!
//! ```text
//! ipvsadm -A -t 10.96.0.10:80 -s rr
//! ipvsadm -a -t 10.96.0.10:80 -r 10.244.1.7:8080 -m -w 1
//! ipvsadm -L
//! ```

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::{ArgGroup, Parser};
use ipvs_netlink::{
    Client, Destination, DestinationId, Error, Family, ForwardingMethod, Netmask, Scheduler,
    Service, ServiceId,
};

#[derive(Parser)]
#[command(group = ArgGroup::new("command").required(true))]
#[command(group = ArgGroup::new("service"))]
#[command(group = ArgGroup::new("forward"))]
struct Options {
    #[arg(short = 'A', long, group = "command", requires = "service")]
    add_service: bool,
    #[arg(short = 'E', long, group = "command", requires = "service")]
    edit_service: bool,
    #[arg(short = 'D', long, group = "command", requires = "service")]
    delete_service: bool,
    #[arg(
        short = 'a',
        long,
        group = "command",
        requires = "service",
        requires = "real_server"
    )]
    add_server: bool,
    #[arg(
        short = 'e',
        long,
        group = "command",
        requires = "service",
        requires = "real_server"
    )]
    edit_server: bool,
    #[arg(
        short = 'd',
        long,
        group = "command",
        requires = "service",
        requires = "real_server"
    )]
    delete_server: bool,
    #[arg(short = 'C', long, group = "command")]
    clear: bool,
    #[arg(short = 'L', long, group = "command")]
    list: bool,

    #[arg(short, long, group = "service", value_name = "ADDRESS:PORT")]
    tcp_service: Option<SocketAddr>,
    #[arg(short, long, group = "service", value_name = "ADDRESS:PORT")]
    udp_service: Option<SocketAddr>,
    #[arg(long, group = "service", value_name = "ADDRESS:PORT")]
    sctp_service: Option<SocketAddr>,
    #[arg(short, long, group = "service", value_name = "MARK")]
    fwmark_service: Option<u32>,
    #[arg(short = '6', long, requires = "fwmark_service")]
    ipv6: bool,

    #[arg(short, long, default_value = "wlc")]
    scheduler: Scheduler,
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "360")]
    persistent: Option<u32>,
    #[arg(short, long, value_name = "ADDRESS:PORT")]
    real_server: Option<SocketAddr>,
    #[arg(short, long, default_value_t = 1)]
    weight: u32,
    #[arg(short, long, group = "forward")]
    gatewaying: bool,
    #[arg(short, long, group = "forward")]
    ipip: bool,
    #[arg(short, long, group = "forward")]
    masquerading: bool,
    /// Accepted; names are never looked up.
    #[arg(short, long)]
    numeric: bool,
}

impl Options {
    fn id(&self) -> Result<ServiceId> {
        let by_address = |make: fn(std::net::IpAddr, u16) -> ServiceId, socket: SocketAddr| {
            make(socket.ip(), socket.port())
        };
        let family = if self.ipv6 { Family::V6 } else { Family::V4 };
        None.or(self.tcp_service.map(|s| by_address(ServiceId::tcp, s)))
            .or(self.udp_service.map(|s| by_address(ServiceId::udp, s)))
            .or(self.sctp_service.map(|s| by_address(ServiceId::sctp, s)))
            .or(self
                .fwmark_service
                .map(|mark| ServiceId::fwmark(mark, family)))
            .context("no service given")
    }

    fn service(&self) -> Result<Service> {
        let id = self.id()?;
        let service = Service::new(id, self.scheduler.clone());
        Ok(match self.persistent {
            Some(seconds) => service.persistent(seconds, Netmask::host(id.family())),
            None => service,
        })
    }

    fn destination(&self) -> Result<Destination> {
        let server = self.real_server.context("no real server given")?;
        Ok(Destination {
            forwarding: match (self.masquerading, self.ipip) {
                (true, _) => ForwardingMethod::Masquerade,
                (_, true) => ForwardingMethod::Tunnel,
                _ => ForwardingMethod::DirectRoute,
            },
            weight: self.weight,
            ..Destination::new(DestinationId::new(server.ip(), server.port()))
        })
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut client = Client::open().map_err(explain)?;
    run(&options, &mut client)
}

fn run(options: &Options, client: &mut Client) -> Result<()> {
    if options.list {
        return list(client);
    }
    if options.clear {
        return client.flush().map_err(explain);
    }
    if options.add_service {
        return client.add_service(&options.service()?).map_err(explain);
    }
    if options.edit_service {
        return client.edit_service(&options.service()?).map_err(explain);
    }
    let id = options.id()?;
    if options.delete_service {
        return client.remove_service(&id).map_err(explain);
    }
    let destination = options.destination()?;
    if options.add_server {
        client.add_destination(&id, &destination)
    } else if options.edit_server {
        client.edit_destination(&id, &destination)
    } else {
        client.remove_destination(&id, &destination.id)
    }
    .map_err(explain)
}

fn list(client: &mut Client) -> Result<()> {
    let info = client.info().map_err(explain)?;
    println!(
        "IP Virtual Server version {} (size={})",
        info.version, info.conn_tab_size
    );
    println!("Prot LocalAddress:Port Scheduler Flags");
    println!("  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn");
    let mut services = client.services().map_err(explain)?;
    services.sort_by_key(|service| service.id);
    for service in services {
        print_service(&service);
        for destination in client.destinations(&service.id).map_err(explain)? {
            println!(
                "  -> {:<28} {:<7} {:<6} {:<10} {:<10}",
                destination.id.to_string(),
                destination.forwarding,
                destination.weight,
                destination.active_connections,
                destination.inactive_connections,
            );
        }
    }
    Ok(())
}

fn print_service(service: &Service) {
    match service.id {
        ServiceId::Address {
            address,
            port,
            protocol,
        } => print!("{protocol:<4} {}", SocketAddr::new(address, port)),
        id => print!("{}", id.to_string().replacen(' ', "  ", 1)),
    }
    print!(" {}", service.scheduler);
    if service.timeout > 0 {
        print!(" persistent {}", service.timeout);
    }
    println!();
}

/// The error with its remedy.
fn explain(error: Error) -> anyhow::Error {
    match error.hint() {
        Some(hint) => anyhow::anyhow!("{error}; {hint}"),
        None => error.into(),
    }
}
