//! Starting a container and handing its orders to init.

use longshore_core::init::Handover;
use longshore_core::init::control::Deadlines;

use super::{Created, Error, Executor, Step};

impl Executor {
    /// Starts the container and hands init its orders, over a socket that is there for this moment alone.
    ///
    /// On an error the container was killed if it ran; [`Error::may_have_run`] says whether the step may have begun.
    pub async fn start(&self, step: &Step, created: &Created, orders: &Handover, deadlines: Deadlines) -> Result<(), Error> {
        let _ = (step, created, orders, deadlines);
        todo!()
    }
}
