//! Writes the man pages of `kube-ipvs` and of its commands into a directory:
//! `cargo run --example man -- DIRECTORY`.

use clap::CommandFactory;
use kube_ipvs::cli::Cli;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.ok_or_else(|| std::io::Error::other("name a directory"))?;
    clap_mangen::generate_to(Cli::command(), directory)
}
