//! Lists of what there is.

use netlink_packet_core::DecodeError;

use super::Client;
use crate::constants::*;
use crate::query::{list, once_each, survey};
use crate::request::write_id;
use crate::wire::Writer;
use crate::{
    Destination, DestinationId, DestinationSettings, Error, Operation, Service, ServiceId,
    ServiceSettings,
};

/// How often a listing that was interrupted is asked for again.
const DISTURBED: usize = 9;

impl Client {
    /// All services, in the kernel's order; equivalent to `ipvsadm -Ln --nosort`
    /// without the destinations.
    ///
    /// A list of more than about a hundred services is no snapshot. The kernel
    /// makes it in pieces, finds its place again by counting, and does not say
    /// so when services came or went meanwhile. Kernels that keep one table for
    /// all network namespaces (6.1 does) even count those of the others. An
    /// entry that comes twice gives this away; one that is left out does not.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] if the table is seen to change: look again. EPERM.
    pub fn services(&mut self) -> Result<Vec<Service>, Error> {
        self.undisturbed(|client| {
            let query = client.query(Operation::ListServices, IPVS_CMD_GET_SERVICE, true);
            let answer = (IPVS_CMD_NEW_SERVICE, IPVS_CMD_ATTR_SERVICE);
            let connection = &mut client.connection;
            let services = list(connection, &query, answer, |_| {}, Service::parse)?;
            once_each(services, |service| service.id, query.operation)
        })
    }

    /// Makes a listing, ten times at most: services of other namespaces that come or
    /// go disturb it.
    ///
    /// # Errors
    ///
    /// Those of the listing; [`Error::Interrupted`] if it was so each time.
    pub fn undisturbed<T>(
        &mut self,
        mut listing: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..DISTURBED {
            match listing(self) {
                Err(Error::Interrupted { .. }) => {}
                answer => return answer,
            }
        }
        listing(self)
    }

    /// The settings of all services, in the kernel's order: what
    /// [`services`](Self::services) gives for a part of the work, once. Each is given
    /// as it comes, so one that comes twice is too: to be made
    /// [`undisturbed`](Self::undisturbed).
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] if the kernel says that the table changed; EPERM.
    pub fn survey_services(
        &mut self,
        mut each: impl FnMut(ServiceSettings<'_>),
    ) -> Result<(), Error> {
        let query = self.query(Operation::ListServices, IPVS_CMD_GET_SERVICE, true);
        let answer = (IPVS_CMD_NEW_SERVICE, IPVS_CMD_ATTR_SERVICE);
        survey(
            &mut self.connection,
            &query,
            answer,
            |_| {},
            |nest| {
                each(ServiceSettings::parse(nest)?);
                Ok(())
            },
        )
    }

    /// The destinations of a service, in the kernel's order. No snapshot either.
    ///
    /// # Errors
    ///
    /// ESRCH if there is no such service: the kernel gives an empty list for it,
    /// so an empty list is looked into. [`Error::Interrupted`].
    pub fn destinations(&mut self, id: &ServiceId) -> Result<Vec<Destination>, Error> {
        let parse = |nest: &[u8]| Destination::parse(nest, id.family());
        self.list_destinations(id, parse, |destination| destination.id)
    }

    /// The settings of the destinations of a service: what
    /// [`destinations`](Self::destinations) gives for a part of the work.
    ///
    /// # Errors
    ///
    /// As [`destinations`](Self::destinations).
    pub fn destination_settings(
        &mut self,
        id: &ServiceId,
    ) -> Result<Vec<DestinationSettings>, Error> {
        let parse = |nest: &[u8]| DestinationSettings::parse(nest, id.family());
        self.list_destinations(id, parse, |settings| settings.id)
    }

    fn list_destinations<T>(
        &mut self,
        id: &ServiceId,
        parse: impl Fn(&[u8]) -> Result<T, DecodeError>,
        name: impl Fn(&T) -> DestinationId,
    ) -> Result<Vec<T>, Error> {
        let operation = Operation::ListDestinations(*id);
        let query = self.query(operation, IPVS_CMD_GET_DEST, true);
        let answer = (IPVS_CMD_NEW_DEST, IPVS_CMD_ATTR_DEST);
        let write = |out: &mut Writer<'_>| write_id(out, id);
        let destinations = list(&mut self.connection, &query, answer, write, parse)?;
        if destinations.is_empty() {
            self.look_at(id, query.operation.clone())?;
        }
        once_each(destinations, name, query.operation)
    }
}
