//! Runs in processes of their own, as many at once as there are cores: a run that hangs, aborts or overflows its stack is a
//! failure like any other, and the memory of each can be measured.

use std::{
    cell::{Cell, RefCell},
    env, io,
    ops::ControlFlow,
    path::PathBuf,
    pin::Pin,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, timeout},
};

use crate::{
    scenario::Scenario,
    worker::{Job, Verdict},
};

/// A run that takes longer, by the wall clock, hangs.
const PATIENCE: Duration = Duration::from_mins(2);
/// A process is replaced after so many runs: what one leaves behind must not add up.
const RUNS_OF_A_PROCESS: u32 = 32;

/// What runs are done with.
pub(crate) struct Runner {
    program: PathBuf,
    /// Variables of the processes' environment.
    variables: Vec<(String, String)>,
    /// How many at once.
    parallel: usize,
    /// Shown on our stderr as it happens, chosen as in `RUST_LOG`.
    shown: Option<String>,
}

impl Runner {
    /// With this very program, one run at a time for each core.
    pub(crate) fn new() -> io::Result<Self> {
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { program: own_program()?, variables: Vec::new(), parallel, shown: None })
    }

    /// Shows what happens, one run at a time.
    pub(crate) fn showing(self, filter: &str) -> Self {
        Self { shown: Some(filter.into()), parallel: 1, ..self }
    }

    /// Sets a variable of the processes' environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// How many runs go at once.
    pub(crate) fn parallel(self, parallel: usize) -> Self {
        Self { parallel, ..self }
    }

    /// Does the jobs, and hands over each verdict until it is told to stop.
    pub(crate) async fn run(
        &self,
        jobs: impl Iterator<Item = Job>,
        each: impl FnMut(&Job, Verdict) -> io::Result<ControlFlow<()>>,
    ) -> io::Result<()> {
        let (jobs, each, stopped) = (RefCell::new(jobs), RefCell::new(each), Cell::new(false));
        let lane = || async {
            let mut worker = None;
            while !stopped.get() {
                let Some(job) = jobs.borrow_mut().next() else { break };
                let verdict = self.judge(&job, &mut worker).await?;
                if (each.borrow_mut())(&job, verdict)?.is_break() {
                    stopped.set(true);
                }
            }
            Ok(())
        };
        all((0..self.parallel).map(|_| lane())).await
    }

    /// One run, in a process that may have done others.
    async fn judge(&self, job: &Job, worker: &mut Option<Worker>) -> io::Result<Verdict> {
        worker.take_if(|worker| worker.runs >= RUNS_OF_A_PROCESS || worker.scenario != job.scenario);
        let used = worker.is_some();
        let verdict = self.ask(job, worker).await?;
        if used && beyond_memory(job, &verdict) {
            // The process may still hold what earlier runs have freed.
            worker.take();
            return self.ask(job, worker).await;
        }
        Ok(verdict)
    }

    async fn ask(&self, job: &Job, worker: &mut Option<Worker>) -> io::Result<Verdict> {
        let stderr = if self.shown.is_some() { Stdio::inherit() } else { Stdio::null() };
        let mut asked = match worker.take() {
            Some(worker) => worker,
            None => self.worker(job, self.shown.as_deref(), stderr)?,
        };
        let verdict = asked.ask(job).await?;
        // Who failed has perhaps gone, or left something behind.
        if verdict.failure.is_none() {
            *worker = Some(asked);
        }
        Ok(verdict)
    }

    /// One run, in a fresh process.
    pub(crate) async fn once(&self, job: &Job) -> io::Result<Verdict> {
        self.ask(job, &mut None).await
    }

    /// One run in a fresh process, and its trace.
    pub(crate) async fn traced(&self, job: &Job, filter: &str) -> io::Result<(Verdict, String)> {
        let mut worker = self.worker(job, Some(filter), Stdio::piped())?;
        let mut stderr = worker.child.stderr.take().ok_or_else(|| io::Error::other("a process without stderr"))?;
        let mut trace = Vec::new();
        let judged = async {
            let verdict = worker.ask(job).await;
            worker.end().await;
            verdict
        };
        let (verdict, read) = tokio::join!(judged, stderr.read_to_end(&mut trace));
        read?;
        Ok((verdict?, String::from_utf8_lossy(&trace).into_owned()))
    }

    fn worker(&self, job: &Job, filter: Option<&str>, stderr: Stdio) -> io::Result<Worker> {
        let mut command = Command::new(&self.program);
        command.arg("worker").args(filter).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true);
        // An interrupt is for us alone: we end them.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let gone = || io::Error::other("a process without stdin or stdout");
        let (to, from) = (child.stdin.take().ok_or_else(gone)?, child.stdout.take().ok_or_else(gone)?);
        let from = BufReader::new(from).lines();
        Ok(Worker { child, to: Some(to), from, scenario: job.scenario.clone(), runs: 0 })
    }
}

/// The program that runs now, even if another one was built in its place since.
fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { env::current_exe() }
}

/// Whether a run took more memory than its scenario may.
fn beyond_memory(job: &Job, verdict: &Verdict) -> bool {
    let most = Scenario::named(&job.scenario).map_or(u64::MAX, |scenario| scenario.most_mib(job.seed));
    verdict.peak_mib.is_some_and(|peak| peak > most)
}

/// A process that does runs.
struct Worker {
    child: Child,
    to: Option<ChildStdin>,
    from: Lines<BufReader<ChildStdout>>,
    scenario: String,
    runs: u32,
}

impl Worker {
    async fn ask(&mut self, job: &Job) -> io::Result<Verdict> {
        let begun = Instant::now();
        self.runs += 1;
        let mut verdict = match timeout(PATIENCE, self.exchange(job)).await {
            Ok(Some(line)) => serde_json::from_str(&line)?,
            Ok(None) => failure(format!("the process of the run has died: {}", self.child.wait().await?)),
            Err(_) => {
                self.child.kill().await?;
                failure(format!("hangs: no end after {} s", PATIENCE.as_secs()))
            }
        };
        if verdict.failure.is_none() && beyond_memory(job, &verdict) {
            let peak = verdict.peak_mib.unwrap_or_default();
            verdict.failure = Some(format!("memory: {peak} MiB at the peak, more than the scenario may take"));
        }
        verdict.wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(verdict)
    }

    /// The answer; none from a process that has died.
    async fn exchange(&mut self, job: &Job) -> Option<String> {
        let line = serde_json::to_string(job).ok()? + "\n";
        self.to.as_mut()?.write_all(line.as_bytes()).await.ok()?;
        self.from.next_line().await.ok()?
    }

    /// Without stdin it ends by itself.
    async fn end(&mut self) {
        self.to.take();
        // Its verdict is there; how it ends tells nothing more.
        let _ = self.child.wait().await;
    }
}

fn failure(why: String) -> Verdict {
    Verdict { failure: Some(why), ..Verdict::default() }
}

/// Drives all of these at once, on this thread, until each has ended; the first error ends it.
async fn all<F: Future<Output = io::Result<()>>>(lanes: impl Iterator<Item = F>) -> io::Result<()> {
    let mut lanes: Vec<Pin<Box<F>>> = lanes.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        let mut result = Ok(());
        lanes.retain_mut(|lane| match lane.as_mut().poll(cx) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(ended) => {
                if ended.is_err() {
                    result = ended;
                }
                false
            }
        });
        if result.is_err() || lanes.is_empty() { std::task::Poll::Ready(result) } else { std::task::Poll::Pending }
    })
    .await
}
