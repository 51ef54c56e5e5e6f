//! What a listing should look like.

/// Which columns a listing has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// Forwarding, weight, connections.
    #[default]
    Default,
    /// `-S`: as `ipvsadm -R` reads it.
    Rules,
    /// `--stats`.
    Stats,
    /// `--rate`.
    Rate,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    Persistent,
    /// `--tun-info`.
    Tunnels,
}

/// What a listing should look like.
#[derive(Debug, Clone, Copy)]
pub struct ListOptions {
    /// Its columns.
    pub form: Form,
    /// `--exact`.
    pub exact: bool,
    /// Without `--nosort`.
    pub sort: bool,
    /// The line with the version, which a listing of one service lacks.
    pub heading: bool,
}
