//! The seams in one value: transport, disk, wall clock, randomness, threads. Everything a role takes from the outside.

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    store::disk::{Disk, SystemDisk},
    transport::{Transport, tcp::Tcp},
};

/// Milliseconds since the Unix epoch. Read for hybrid logical clocks, tickets and display; never to measure time.
pub trait WallClock: Send + Sync + 'static {
    /// The time now.
    fn now_ms(&self) -> u64;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam that everything else goes through")]
    fn now_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Where blocking work (disk, hashing, password hashing) runs.
#[derive(Clone)]
pub enum Offload {
    /// On tokio's blocking threads.
    Threads,
    /// At once, where it was asked for: tests, where a thread's timing must not matter.
    Inline,
    /// As `Inline`, but the work takes time, as on a slow disk: what is returned passes before it, and again after it.
    Paced(Arc<dyn Fn() -> Duration + Send + Sync>),
}

/// What a role is given. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    /// The network.
    pub transport: Arc<dyn Transport>,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The wall clock.
    pub wall_clock: Arc<dyn WallClock>,
    /// Where blocking work runs.
    pub offload: Offload,
    /// Cancelled when the role should stop.
    pub shutdown: CancellationToken,
    /// All tasks of the role: it has ended when they have.
    pub tasks: TaskTracker,
    /// Descriptors that the process may have open: one for each stream and each file.
    pub descriptors: u64,
    /// Processors, as far as work is spread over them.
    pub processors: usize,
    /// Seed of all randomness of the role.
    seed: [u8; 32],
}

impl Environment {
    /// Puts the seams together. `seed` comes from the operating system, or from the simulation's own.
    pub fn new(
        transport: Arc<dyn Transport>,
        disk: Arc<dyn Disk>,
        wall_clock: Arc<dyn WallClock>,
        offload: Offload,
        seed: [u8; 32],
    ) -> Self {
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self { transport, disk, wall_clock, offload, shutdown, tasks, descriptors: u64::MAX, processors: 2, seed }
    }

    /// The real world: TCP, the system's disk, clock and randomness, and threads for blocking work.
    pub fn system() -> io::Result<Self> {
        keep_freed_memory();
        let descriptors = raise_descriptor_limit();
        let mut seed = [0; 32];
        #[expect(clippy::disallowed_methods, reason = "this is the seam that everything else goes through")]
        SystemRandom::new().fill(&mut seed).map_err(|_| io::Error::other("the system gives no randomness"))?;
        let env = Self::new(Arc::new(Tcp), Arc::new(SystemDisk), Arc::new(SystemClock), Offload::Threads, seed);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { descriptors, processors, ..env })
    }

    /// A generator of its own for each `purpose` (one name in the code each, an index where there are several).
    pub fn rng(&self, purpose: &str, index: u64) -> ChaCha20Rng {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(purpose.as_bytes()).update(&index.to_le_bytes());
        ChaCha20Rng::from_seed(*hasher.finalize().as_bytes())
    }

    /// Starts a task of this role.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// Runs blocking work and returns its result. A panic in `work` is resumed here. It is done to the end even when nobody
    /// waits for it any more, and the role has not ended before.
    pub async fn offload<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match &self.offload {
            Offload::Inline => work(),
            Offload::Threads => join(self.tasks.spawn_blocking(work)).await,
            Offload::Paced(pace) => match (pace(), pace()) {
                (Duration::ZERO, Duration::ZERO) => work(),
                (before, after) => join(self.tasks.spawn(slowly(before, work, after))).await,
            },
        }
    }

    /// Asks every task to stop, and waits until all have.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn join<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn slowly<T>(before: Duration, work: impl FnOnce() -> T, after: Duration) -> T {
    sleep(before).await;
    let value = work();
    sleep(after).await;
    value
}

/// glibc hands freed memory back to the kernel, and faults it in again at once, until it has seen one larger block freed
/// (`mallopt(3)`, `M_MMAP_THRESHOLD`). On a busy link that costs as much as the encryption: 1.1 instead of 0.6 CPU seconds a GiB.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(4 << 20)));
}

/// Every connection takes a descriptor, and the soft limit is there for programs that cannot count beyond 1024. What the
/// system refuses stays as it was: then accepting fails where the limit is reached, and says so. Returns the limit.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicBool, Ordering},
        task::Poll,
    };

    use super::*;

    /// The first poll starts the work; then nobody waits for it any more.
    async fn begun_and_forgotten(env: &Environment) -> Arc<AtomicBool> {
        let done = Arc::new(AtomicBool::new(false));
        let at_end = Arc::clone(&done);
        let mut work = pin!(env.offload(move || {
            std::thread::sleep(Duration::from_millis(50));
            at_end.store(true, Ordering::SeqCst);
        }));
        let begun = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await;
        assert!(begun && !done.load(Ordering::SeqCst), "it was done at once");
        done
    }

    #[tokio::test]
    async fn no_work_goes_on_after_the_role_has_stopped() {
        let pace = Offload::Paced(Arc::new(|| Duration::from_millis(20)));
        for offload in [Offload::Threads, pace] {
            let env = Environment { offload, ..Environment::system().unwrap() };
            let done = begun_and_forgotten(&env).await;
            env.stop().await;
            assert!(done.load(Ordering::SeqCst));
        }
    }
}
