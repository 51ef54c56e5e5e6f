//! The daemons that tell other hosts of connections.

use super::Client;
use crate::constants::{IPVS_CMD_ATTR_DAEMON, IPVS_CMD_GET_DAEMON, IPVS_CMD_NEW_DAEMON};
use crate::query::list;
use crate::{Daemon, DaemonState, Error, Operation, Request};

impl Client {
    /// The daemons that run, two at most; equivalent to `ipvsadm -L --daemon`.
    ///
    /// # Errors
    ///
    /// EPERM.
    pub fn daemons(&mut self) -> Result<Vec<Daemon>, Error> {
        let query = self.query(Operation::ListDaemons, IPVS_CMD_GET_DAEMON, true);
        let answer = (IPVS_CMD_NEW_DAEMON, IPVS_CMD_ATTR_DAEMON);
        list(&mut self.connection, &query, answer, |_| {}, Daemon::parse)
    }

    /// Start a daemon; equivalent to `ipvsadm --start-daemon`.
    ///
    /// # Errors
    ///
    /// EEXIST if one of the kind runs; ENODEV if there is no such interface.
    pub fn start_daemon(&mut self, daemon: &Daemon) -> Result<(), Error> {
        self.request(&Request::StartDaemon(daemon.clone()))
    }

    /// Stop a daemon; equivalent to `ipvsadm --stop-daemon`.
    ///
    /// The kernel stops one whose thread had not run yet like any other, but
    /// never answers: it ends in `EINTR`, and `netlink_rcv_skb` keeps that to
    /// itself. So after a time-out the list of daemons decides.
    ///
    /// # Errors
    ///
    /// ESRCH if none of the kind runs.
    pub fn stop_daemon(&mut self, state: DaemonState) -> Result<(), Error> {
        let unanswered = match self.request(&Request::StopDaemon(state)) {
            Err(error @ Error::TimedOut { .. }) => error,
            answered => return answered,
        };
        let running = self.daemons()?;
        if running.iter().any(|daemon| daemon.state == state) {
            return Err(unanswered);
        }
        Ok(())
    }
}
