//! The trackers of the story: their list, their disks, and what is done to them.

use std::{
    cell::RefCell,
    error::Error,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use p2p::{
    protocol::{ids::TrackerNo, tracker_info::TrackerInfo},
    roles::tracker::Tracker,
    store::disk::Disk as _,
};
use rand_chacha::ChaCha20Rng;
use tokio::time::{Instant, sleep};

use crate::scenario::below;
use crate::{
    cluster::{Cluster, Cut, Faults, Name, Outcome},
    coverage::reached,
    disk::{Crash, SimDisk, Trouble},
    oracle::{Oracle, Watch},
    role::{DATA_DIR, run_tracker, tracker_config},
};

/// Trackers tell each other what is stable and forget within this time, when nothing is in the way.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(40);
/// How soon a tracker that came meets another.
pub(super) const MET_WITHIN: Duration = Duration::from_secs(30);
/// How long a moment is waited for to do harm.
const MOMENT_WITHIN: Duration = Duration::from_secs(8);
/// How often somebody looks for it.
const GLANCE: Duration = Duration::from_millis(10);

/// The files of a disk.
pub(super) type Backup = Vec<(PathBuf, Vec<u8>)>;

/// When harm is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    Any,
    /// While a snapshot is on its way.
    Fetching,
    /// While the disk is about to change.
    Rewriting,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Harm {
    Crash(Name, Crash),
    Cut(Name, Name, Cut),
    Disk(Name, Trouble),
}

/// The trackers, and what is done to them.
pub(super) struct Scene {
    pub(super) faults: Faults,
    pub(super) oracle: Oracle,
    watch: Watch,
    /// Every tracker that there will be.
    pub(super) names: Vec<Name>,
    pub(super) whole: TrackerInfo,
    /// The list as whoever starts now reads it.
    pub(super) list: Rc<RefCell<TrackerInfo>>,
}

impl Scene {
    /// Trackers of which the first `listed` are on the list; the others run as soon as they are.
    pub(super) fn new(cluster: &mut Cluster, names: Vec<Name>, listed: usize) -> Self {
        let hosts: Vec<_> = names.iter().map(|name| cluster.machine(name, 0)).collect();
        let lines: Vec<_> = hosts.iter().map(|host| format!("{}:5000", host.ip())).collect();
        let whole = TrackerInfo::parse(lines.join("\n").as_bytes()).expect("addresses, one a line");
        let first = TrackerInfo { trackers: whole.trackers[..listed].to_vec() };
        let list = Rc::new(RefCell::new(first));
        for (host, no) in hosts.into_iter().zip(1..) {
            let (list, watch) = (list.clone(), cluster.watch());
            cluster.start(host.name(), move |env| {
                let (host, watch, info) = (host.clone(), watch.clone(), list.borrow().clone());
                async move {
                    if info.tracker(TrackerNo(no)).is_none() {
                        return Ok(());
                    }
                    watch.is_for_tracker(host.name());
                    run_tracker(env, host, tracker_config(&info, no), watch).await
                }
            });
        }
        let (oracle, faults, watch) = (Oracle::new(cluster), cluster.faults(), cluster.watch());
        Self { faults, oracle, watch, names, whole, list }
    }

    pub(super) fn others(&self, name: Name) -> Vec<Name> {
        self.names.iter().copied().filter(|other| *other != name).collect()
    }

    /// The trackers on the list.
    pub(super) fn present(&self) -> Vec<Name> {
        self.names[..self.list.borrow().trackers.len()].to_vec()
    }

    pub(super) fn running(&self, name: Name) -> Option<Arc<Tracker>> {
        self.watch.trackers().into_iter().find(|seat| seat.name == name)?.running
    }

    pub(super) async fn within(&self, limit: Duration, is_so: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        while !is_so() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(GLANCE).await;
        }
        true
    }

    /// Waits for this moment, as long as it is likely to come.
    pub(super) async fn until(&self, name: Name, moment: Moment) {
        let is_now = || {
            self.running(name).is_some_and(|tracker| match moment {
                Moment::Any => true,
                Moment::Fetching => tracker.is_fetching_snapshot(),
                Moment::Rewriting => tracker.is_rewriting_log(),
            })
        };
        self.within(MOMENT_WITHIN, is_now).await;
    }

    pub(super) async fn meets(&self, name: Name) -> Outcome {
        let has_met = || {
            self.running(name).is_some_and(|tracker| {
                let trackers = tracker.witness().trackers;
                trackers.iter().filter(|status| status.reachable).count() > 1
            })
        };
        if self.within(MET_WITHIN, has_met).await { Ok(()) } else { Err(format!("{name} meets nobody").into()) }
    }

    /// Does harm and, some time later, ends it.
    pub(super) async fn harm(&mut self, harm: Harm, lasting: Duration) -> Outcome {
        match harm {
            Harm::Crash(name, how) => {
                self.says_what_is_lost(name);
                self.oracle.crash(name, how).await?;
                sleep(lasting).await;
                self.faults.mend_disk(name).await;
                self.faults.restart(name).await;
            }
            Harm::Cut(from, to, cut) => {
                self.faults.cut(from, to, cut).await;
                sleep(lasting).await;
                self.faults.heal(from, to).await;
            }
            Harm::Disk(name, trouble) => {
                self.faults.disk(name, trouble).await;
                sleep(lasting).await;
                self.faults.mend_disk(name).await;
                self.begins_anew(name).await?;
            }
        }
        Ok(())
    }

    pub(super) fn says_what_is_lost(&self, name: Name) {
        let Some(tracker) = self.running(name) else { return };
        match (tracker.is_fetching_snapshot(), tracker.is_rewriting_log()) {
            (true, true) => reached("newcomer: died while it took a snapshot in"),
            (true, false) => reached("newcomer: died while it fetched a snapshot"),
            (false, true) => reached("newcomer: died while it forgot"),
            (false, false) => {}
        }
    }

    /// Stops in order, and starts again.
    pub(super) async fn begins_anew(&self, name: Name) -> Outcome {
        self.is_halted(name).await?;
        self.faults.restart(name).await;
        Ok(())
    }

    pub(super) async fn is_halted(&self, name: Name) -> Outcome {
        self.faults.halt(name).await;
        let is_down = self.within(Duration::from_secs(6), || self.running(name).is_none()).await;
        if is_down { Ok(()) } else { Err(format!("{name} does not stop").into()) }
    }

    /// Without power, or stopped in order.
    pub(super) async fn goes_down(&mut self, name: Name, rng: &mut ChaCha20Rng) -> Outcome {
        if below(rng, 2) == 0 {
            self.oracle.crash(name, Crash::Power).await?;
        }
        self.is_halted(name).await
    }

    pub(super) async fn back_up(&mut self, name: Name) -> Result<Backup, Box<dyn Error>> {
        self.is_halted(name).await?;
        let disk = self.disk(name);
        let folder = Path::new(DATA_DIR);
        let paths = disk.list(folder)?.into_iter().map(|file| folder.join(file));
        let files = paths.map(|path| Ok((path.clone(), disk.contents(&path)?)));
        let files = files.collect::<Result<Vec<_>, io::Error>>()?;
        self.faults.restart(name).await;
        self.oracle.settle().await?;
        Ok(files)
    }

    /// Another disk, with these files.
    pub(super) fn replace_disk(&self, name: Name, files: &[(PathBuf, Vec<u8>)]) -> Outcome {
        let (disk, folder) = (self.disk(name), Path::new(DATA_DIR));
        for file in disk.list(folder)? {
            disk.remove(&folder.join(file))?;
        }
        disk.sync_dir(folder)?;
        for (path, bytes) in files {
            disk.put(path, bytes)?;
        }
        Ok(())
    }

    pub(super) fn disk(&self, name: Name) -> SimDisk {
        let seat = self.watch.trackers().into_iter().find(|seat| seat.name == name);
        seat.expect("a tracker's host").disk
    }

    /// Waits until every tracker has forgotten what it can of what is known now.
    pub(super) async fn all_forget(&mut self) -> Outcome {
        for name in self.present() {
            self.faults.mend_disk(name).await;
        }
        self.oracle.settle().await?;
        let known = self.running(self.names[0]).ok_or("it is down")?.witness().known;
        let deadline = Instant::now() + FORGOTTEN_WITHIN;
        loop {
            self.oracle.glance()?;
            let has_forgotten = |name: &Name| {
                let log = self.running(name).and_then(|tracker| tracker.log().ok());
                log.is_some_and(|(past, _)| past.folded.includes(&known))
            };
            if self.present().iter().all(has_forgotten) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("not every tracker has forgotten what is over below {known:?}").into());
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}
