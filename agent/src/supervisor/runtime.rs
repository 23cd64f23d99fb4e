//! The seam to whatever runs containers, so that the driver can be tested without an engine.
//!
//! [`Executor`] is the one real implementation; its module says what each call promises.

use std::path::Path;

use longshore_core::id::AttemptId;
use longshore_core::init::control::Deadlines;
use longshore_core::offer::{Grant, Offer, OfferStep};
use longshore_core::plugins::Plugin;

use tokio::sync::mpsc;

use crate::executor::{
    self, Collected, Created, End, Engine, Error, Executor, Found, Image, InUse, NotReady, Piece, PullProgress,
    Signalled, SpoolWatch, Step, Wanted,
};
use crate::shipper::Growth;

/// Runs steps in containers.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// Wakes when a spool grows.
    type Watch: Growth;

    /// What the engine says of itself.
    fn engine(&self) -> impl Future<Output = Result<Engine, Error>> + Send;
    /// Runs a container that does nothing, as a job's is run.
    fn probe(&self) -> impl Future<Output = Result<(), Error>> + Send;
    /// Every container of this agent.
    fn list(&self) -> impl Future<Output = Result<Vec<Found>, Error>> + Send;
    /// Every attempt of this agent that has a volume.
    fn list_volumes(&self) -> impl Future<Output = Result<Vec<AttemptId>, Error>> + Send;
    /// Makes an image present.
    fn prepare_image(
        &self,
        wanted: &Wanted,
        progress: impl FnMut(PullProgress) + Send,
    ) -> impl Future<Output = Result<Image, Error>> + Send;
    /// Keeps the images of these steps from being removed for as long as the answer is there.
    fn uses(&self, steps: &[OfferStep]) -> InUse;
    /// Removes images that are kept and not needed, as far as they take more room than they may.
    fn collect_images(&self, idle: bool) -> impl Future<Output = Collected> + Send;
    /// Makes a pool's plugins ready for steps that are created from now on.
    fn warm_plugins(
        &self,
        plugins: &[Plugin],
        report: impl Fn(String) + Send + Sync,
    ) -> impl Future<Output = Result<(), NotReady>> + Send;
    /// Makes a step's container, not started, with its spool and control file.
    fn create(&self, step: &Step, image: &Image) -> impl Future<Output = Result<Created, Error>> + Send;
    /// Makes the workspace ready.
    fn prepare_workspace(
        &self,
        step: &Step,
        created: &Created,
        package: Option<&Path>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    /// Starts the container and hands over what was granted.
    fn start(
        &self,
        step: &Step,
        offer: &Offer,
        created: &Created,
        image: &Image,
        grant: &Grant,
        deadlines: Deadlines,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    /// Waits until the container has ended; `boundary` is a record boundary of the spool without holes behind it.
    fn wait_end(
        &self,
        attempt: AttemptId,
        step: u32,
        container: &str,
        boundary: u64,
    ) -> impl Future<Output = End> + Send;
    /// Watches the spool of a step.
    fn watch(&self, attempt: AttemptId, step: u32) -> Result<Self::Watch, Error>;
    /// Sets a step's deadlines.
    fn set_deadlines(&self, attempt: AttemptId, step: u32, deadlines: Deadlines) -> Result<(), Error>;
    /// A step's deadlines as they stand.
    fn deadlines(&self, attempt: AttemptId, step: u32) -> Result<Deadlines, Error>;
    /// Hands one SIGINT to the container.
    fn interrupt(&self, container: &str) -> impl Future<Output = Result<Signalled, Error>> + Send;
    /// Kills the container.
    fn kill(&self, container: &str) -> impl Future<Output = Result<Signalled, Error>> + Send;
    /// Reads the files that an ended step left and that are kept.
    fn artifacts(
        &self,
        container: &str,
        step: u32,
        to: mpsc::Sender<Piece>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    /// Removes the container.
    fn remove(&self, container: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// Removes an attempt's volume.
    fn remove_volume(&self, attempt: AttemptId) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Growth for SpoolWatch {
    async fn longer_than(&mut self, seen: u64) -> std::io::Result<u64> {
        Self::longer_than(self, seen).await.map_err(std::io::Error::other)
    }
}

impl Runtime for Executor {
    type Watch = SpoolWatch;

    async fn engine(&self) -> Result<Engine, Error> {
        Self::engine(self).await
    }
    async fn probe(&self) -> Result<(), Error> {
        Self::well(self).await
    }
    async fn list(&self) -> Result<Vec<Found>, Error> {
        Self::list(self).await
    }
    async fn list_volumes(&self) -> Result<Vec<AttemptId>, Error> {
        Self::list_volumes(self).await
    }
    async fn prepare_image(&self, wanted: &Wanted, progress: impl FnMut(PullProgress) + Send) -> Result<Image, Error> {
        Self::prepare_image(self, wanted, progress).await
    }
    fn uses(&self, steps: &[OfferStep]) -> InUse {
        Self::uses(self, steps)
    }
    async fn collect_images(&self, idle: bool) -> Collected {
        Self::collect_images(self, idle).await
    }
    async fn warm_plugins(&self, plugins: &[Plugin], report: impl Fn(String) + Send + Sync) -> Result<(), NotReady> {
        Self::warm_plugins(self, plugins, report).await
    }
    async fn create(&self, step: &Step, image: &Image) -> Result<Created, Error> {
        Self::create(self, step, image).await
    }
    async fn prepare_workspace(&self, step: &Step, created: &Created, package: Option<&Path>) -> Result<(), Error> {
        Self::prepare_workspace(self, step, created, package).await
    }
    async fn start(
        &self,
        step: &Step,
        offer: &Offer,
        created: &Created,
        image: &Image,
        grant: &Grant,
        deadlines: Deadlines,
    ) -> Result<(), Error> {
        let orders = executor::handover(step, offer, grant, image)?;
        Self::start(self, step, created, &orders, deadlines).await
    }
    async fn wait_end(&self, attempt: AttemptId, step: u32, container: &str, boundary: u64) -> End {
        Self::wait_end(self, &self.step_dir(attempt, step), container, boundary).await
    }
    fn watch(&self, attempt: AttemptId, step: u32) -> Result<SpoolWatch, Error> {
        SpoolWatch::new(&self.step_dir(attempt, step))
    }
    fn set_deadlines(&self, attempt: AttemptId, step: u32, deadlines: Deadlines) -> Result<(), Error> {
        self.step_dir(attempt, step).set_deadlines(deadlines)
    }
    fn deadlines(&self, attempt: AttemptId, step: u32) -> Result<Deadlines, Error> {
        self.step_dir(attempt, step).deadlines()
    }
    async fn interrupt(&self, container: &str) -> Result<Signalled, Error> {
        Self::interrupt(self, container).await
    }
    async fn kill(&self, container: &str) -> Result<Signalled, Error> {
        Self::kill(self, container).await
    }
    async fn artifacts(&self, container: &str, step: u32, to: mpsc::Sender<Piece>) -> Result<(), Error> {
        Self::artifacts(self, container, step, to).await
    }
    async fn remove(&self, container: &str) -> Result<(), Error> {
        Self::remove(self, container).await
    }
    async fn remove_volume(&self, attempt: AttemptId) -> Result<(), Error> {
        Self::remove_volume(self, attempt).await
    }
}
