//! The API source and the Events against the fake API server, over loopback:
//! no root, no IPVS. `cargo test -p kube-ipvs-tests --test source`.

mod access;
mod events;
mod faults;
mod listing;
mod load;
mod outage;
mod pods;
mod protected;
mod rbac;
mod relay;
mod restore;
mod servers;
mod transcript;
mod words;
