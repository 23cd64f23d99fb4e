//! Containers that are entries in a table. The table outlives the agent, as an engine does.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_agent::executor::{
    Class, Collected, Created, End, Engine, Error, Found, FoundState, Image, InUse, NotReady, Owner, Piece,
    PullProgress, Signalled, Step, Wanted,
};
use longshore_agent::shipper::Growth;
use longshore_agent::supervisor::Runtime;
use longshore_core::engine_event::EngineEvent;
use longshore_core::fence::Fence;
use longshore_core::id::AttemptId;
use longshore_core::init::ExitRecord;
use longshore_core::init::control::Deadlines;
use longshore_core::offer::{Grant, Offer, OfferStep};
use longshore_core::plugins::Plugin;
use longshore_core::spool::{Header, Stream};
use tokio::sync::{mpsc, watch};

#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) found: Found,
    pub(crate) starts: usize,
    pub(crate) interrupts: usize,
    pub(crate) deadlines: Deadlines,
    record: Option<ExitRecord>,
    seq: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct FakeRuntime {
    state_dir: PathBuf,
    containers: Arc<Mutex<BTreeMap<String, Container>>>,
    /// Volumes that are there.
    pub(crate) volumes: Arc<Mutex<Vec<AttemptId>>>,
    /// What was unpacked.
    pub(crate) unpacked: Arc<Mutex<Vec<u8>>>,
    changes: watch::Sender<u64>,
    /// What lies in the folder of kept files, for every step.
    pub(crate) kept: Arc<Mutex<Vec<Vec<u8>>>>,
    /// So many readings of it break off in the middle.
    pub(crate) breaks: Arc<Mutex<u32>>,
    /// Images are there as long as this is true.
    pub(crate) images: watch::Sender<bool>,
    /// Why no container can be run, if so.
    pub(crate) ill: Arc<Mutex<Option<String>>>,
    /// What becomes of plugins; nothing: it is not known yet.
    pub(crate) plugins: watch::Sender<Option<Result<(), NotReady>>>,
}

impl FakeRuntime {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            containers: Arc::default(),
            volumes: Arc::default(),
            unpacked: Arc::default(),
            changes: watch::Sender::new(0),
            kept: Arc::default(),
            breaks: Arc::default(),
            images: watch::Sender::new(true),
            ill: Arc::default(),
            plugins: watch::Sender::new(None),
        }
    }

    fn spool(&self, attempt: AttemptId, step: u32) -> PathBuf {
        self.state_dir.join(format!("attempts/{attempt}/steps/{step}/spool"))
    }

    fn change<T>(&self, container: &str, change: impl FnOnce(&mut Container) -> T) -> Option<T> {
        let done = self.containers.lock().unwrap().get_mut(container).map(change);
        self.changes.send_modify(|changes| *changes += 1);
        done
    }

    /// Waits until the containers are as looked for.
    pub(crate) async fn wait<T>(&self, mut pick: impl FnMut(&BTreeMap<String, Container>) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        let found = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = pick(&self.containers.lock().unwrap()) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.unwrap()
    }

    pub(crate) async fn started(&self, fence: Fence, step: u32) -> String {
        let name = name(fence.attempt, step);
        self.wait(|all| {
            all.get(&name).filter(|container| container.starts > 0).map(|container| container.found.id.clone())
        })
        .await
    }

    pub(crate) async fn emptied(&self) {
        self.wait(|all| all.is_empty().then_some(())).await;
    }

    pub(crate) fn container(&self, fence: Fence, step: u32) -> Option<Container> {
        self.containers.lock().unwrap().get(&name(fence.attempt, step)).cloned()
    }

    fn append(&self, fence: Fence, step: u32, stream: Stream, payload: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(self.spool(fence.attempt, step)).unwrap();
        self.change(&name(fence.attempt, step), |container| {
            let header = Header { len: payload.len().try_into().unwrap(), stream, seq: container.seq, at: 1_234_567 };
            container.seq += 1;
            file.write_all(&[&header.to_bytes()[..], payload].concat()).unwrap();
        })
        .unwrap();
    }

    /// The job prints.
    pub(crate) fn print(&self, fence: Fence, step: u32, text: &str) {
        self.append(fence, step, Stream::Stdout, text.as_bytes());
    }

    /// The job's engine reports an event.
    pub(crate) fn event(&self, fence: Fence, step: u32) {
        self.append(fence, step, Stream::Events, &EngineEvent::unreadable(7).to_json().unwrap());
    }

    /// The job ends.
    pub(crate) fn exit(&self, fence: Fence, step: u32, code: i32) {
        self.exit_with(fence, step, ExitRecord { code: Some(code), ..ExitRecord::default() });
    }

    /// The job ends and leaves this record.
    pub(crate) fn exit_with(&self, fence: Fence, step: u32, record: ExitRecord) {
        self.append(fence, step, Stream::Exit, &serde_json::to_vec(&record).unwrap());
        self.change(&name(fence.attempt, step), |container| {
            container.record = Some(record);
            container.found.state = FoundState::Ended;
        });
    }

    /// Someone kills the container.
    pub(crate) fn die(&self, fence: Fence, step: u32) {
        self.change(&name(fence.attempt, step), |container| container.found.state = FoundState::Ended);
    }

    pub(crate) fn spool_bytes(&self, fence: Fence, step: u32) -> Vec<u8> {
        std::fs::read(self.spool(fence.attempt, step)).unwrap()
    }
}

fn name(attempt: AttemptId, step: u32) -> String {
    format!("{attempt}-{step}")
}

/// Looks at the file's length at every change of the table.
pub(crate) struct Lengths(PathBuf, watch::Receiver<u64>);

impl Growth for Lengths {
    async fn longer_than(&mut self, seen: u64) -> std::io::Result<u64> {
        loop {
            self.1.borrow_and_update();
            let length = std::fs::metadata(&self.0)?.len();
            if length > seen {
                return Ok(length);
            }
            self.1.changed().await.map_err(std::io::Error::other)?;
        }
    }
}

impl Runtime for FakeRuntime {
    type Watch = Lengths;

    async fn engine(&self) -> Result<Engine, Error> {
        // A file system that is never the one of a state directory, and has no room.
        Ok(Engine { version: "fake".to_owned(), api: "1.41".to_owned(), root: Some("/proc".into()) })
    }
    async fn probe(&self) -> Result<(), Error> {
        match self.ill.lock().unwrap().clone() {
            None => Ok(()),
            Some(detail) => Err(Error::Engine { what: "run `probe`".to_owned(), detail }),
        }
    }
    async fn list(&self) -> Result<Vec<Found>, Error> {
        Ok(self.containers.lock().unwrap().values().map(|container| container.found.clone()).collect())
    }
    async fn list_volumes(&self) -> Result<Vec<AttemptId>, Error> {
        Ok(self.volumes.lock().unwrap().clone())
    }
    async fn prepare_image(
        &self,
        wanted: &Wanted,
        mut progress: impl FnMut(PullProgress) + Send,
    ) -> Result<Image, Error> {
        let reference = wanted.reference.as_str();
        progress(PullProgress::default());
        self.images.subscribe().wait_for(|there| *there).await.unwrap();
        if reference == "missing:1" {
            return Err(Error::Image {
                image: reference.to_owned(),
                cause: "is not there".to_owned(),
                class: Class::Permanent,
            });
        }
        Ok(Image { reference: reference.to_owned(), id: "sha256:1".to_owned(), user: String::new(), env: vec![] })
    }
    fn uses(&self, _: &[OfferStep]) -> InUse {
        InUse::default()
    }
    async fn collect_images(&self, _: bool) -> Collected {
        Collected::default()
    }
    async fn warm_plugins(&self, plugins: &[Plugin], report: impl Fn(String) + Send + Sync) -> Result<(), NotReady> {
        if plugins.is_empty() {
            return Ok(());
        }
        report("on their way".to_owned());
        let done = self.plugins.subscribe().wait_for(Option::is_some).await.unwrap().clone();
        done.unwrap_or(Ok(()))
    }
    async fn create(&self, step: &Step, _: &Image) -> Result<Created, Error> {
        let id = name(step.fence.attempt, step.offer.index);
        let spool = self.spool(step.fence.attempt, step.offer.index);
        std::fs::create_dir_all(spool.parent().unwrap()).unwrap();
        OpenOptions::new().create(true).append(true).open(&spool).unwrap();
        let found = Found {
            id: id.clone(),
            attempt: step.fence.attempt,
            job: step.job,
            epoch: step.fence.epoch,
            step: step.offer.index,
            state: FoundState::Created,
            helper: false,
        };
        let new = Container { found, starts: 0, interrupts: 0, deadlines: Deadlines::default(), record: None, seq: 0 };
        self.containers.lock().unwrap().entry(id.clone()).or_insert(new);
        self.volumes.lock().unwrap().push(step.fence.attempt);
        Ok(Created { id, owner: Owner { uid: 0, gid: 0 } })
    }
    async fn prepare_workspace(&self, _: &Step, _: &Created, package: Option<&Path>) -> Result<(), Error> {
        if let Some(package) = package {
            *self.unpacked.lock().unwrap() = std::fs::read(package).unwrap();
        }
        Ok(())
    }
    async fn start(
        &self,
        _: &Step,
        _: &Offer,
        created: &Created,
        _: &Image,
        grant: &Grant,
        deadlines: Deadlines,
    ) -> Result<(), Error> {
        assert_eq!(grant.secrets[0].expose(), "hunter2");
        self.change(&created.id, |container| {
            container.starts += 1;
            container.deadlines = deadlines;
            container.found.state = FoundState::Running;
        });
        Ok(())
    }
    async fn wait_end(&self, _: AttemptId, _: u32, container: &str, _: u64) -> End {
        let look = |all: &BTreeMap<String, Container>| match all.get(container) {
            Some(found) if found.record.is_some() => found.record.clone().map(|record| End::Exit(Box::new(record))),
            Some(found) if found.found.state == FoundState::Running => None,
            _ => Some(End::Gone { detail: "it was killed".to_owned() }),
        };
        self.wait(look).await
    }
    fn watch(&self, attempt: AttemptId, step: u32) -> Result<Lengths, Error> {
        Ok(Lengths(self.spool(attempt, step), self.changes.subscribe()))
    }
    fn set_deadlines(&self, attempt: AttemptId, step: u32, deadlines: Deadlines) -> Result<(), Error> {
        self.change(&name(attempt, step), |container| container.deadlines = deadlines);
        Ok(())
    }
    fn deadlines(&self, attempt: AttemptId, step: u32) -> Result<Deadlines, Error> {
        Ok(self
            .containers
            .lock()
            .unwrap()
            .get(&name(attempt, step))
            .map(|container| container.deadlines)
            .unwrap_or_default())
    }
    async fn interrupt(&self, container: &str) -> Result<Signalled, Error> {
        let sent = self.change(container, |container| {
            container.interrupts += 1;
            container.found.state == FoundState::Running
        });
        Ok(if sent == Some(true) { Signalled::Sent } else { Signalled::NotRunning })
    }
    async fn kill(&self, container: &str) -> Result<Signalled, Error> {
        self.change(container, |container| container.found.state = FoundState::Ended);
        Ok(Signalled::Sent)
    }
    async fn artifacts(&self, container: &str, _: u32, to: mpsc::Sender<Piece>) -> Result<(), Error> {
        assert_eq!(self.containers.lock().unwrap()[container].found.state, FoundState::Ended);
        let kept = self.kept.lock().unwrap().clone();
        for (index, file) in kept.iter().enumerate() {
            let broken = {
                let mut breaks = self.breaks.lock().unwrap();
                *breaks = breaks.saturating_sub(1);
                *breaks > 0
            };
            // Whoever reads may have hung up.
            drop(to.send(Piece::File { index, bytes: file.len() as u64 }).await);
            let until = if broken { file.len() / 2 } else { file.len() };
            for chunk in file[..until].chunks(1000) {
                drop(to.send(Piece::Data(bytes::Bytes::copy_from_slice(chunk))).await);
            }
            if broken {
                return Err(Error::Engine { what: "read".to_owned(), detail: "cut".to_owned() });
            }
        }
        Ok(())
    }
    async fn remove(&self, container: &str) -> Result<(), Error> {
        self.containers.lock().unwrap().remove(container);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }
    async fn remove_volume(&self, attempt: AttemptId) -> Result<(), Error> {
        self.volumes.lock().unwrap().retain(|there| *there != attempt);
        Ok(())
    }
}
