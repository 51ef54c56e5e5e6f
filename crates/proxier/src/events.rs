//! Kubernetes Events: what a Service's owner should know.
//!
//! Every node finds the same fault, so an Event's name is made from what it
//! says: five thousand nodes write one Event, and the second to come is told
//! that it exists, which is fine. Writing never holds the loop up: a fact waits
//! in a short queue, and when that is full it is dropped and counted.

mod body;
mod limiter;
mod recorder;

pub use body::{Fact, Severity};
pub use limiter::Limiter;
pub use recorder::{Counts, Pace, Recorder};
