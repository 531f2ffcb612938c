//! A client's link to a tracker, as thin as can be: what is measured is the tracker.

use std::collections::BTreeMap;

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{super::BenchError, meter::Tally};
use crate::{
    protocol::{
        client::{Answer, FromTracker, Presence, Request, ToTracker, VERSION},
        device::DeviceSecret,
        error::Failure,
        ids::DeviceKey,
        ticket::Signed,
        version::VersionVector,
    },
    transport::{
        Transport,
        link::{LinkError, LinkReader, LinkWriter, dial},
        tls::{Identity, Protocol},
    },
};

/// Orders that wait at a desk; as many as a tracker takes of one client at a time.
pub(in super::super) const WINDOW: usize = 32;

/// A link with a session on it.
pub(in super::super) struct Line {
    reader: LinkReader,
    writer: LinkWriter,
    name: String,
    device: DeviceKey,
    seq: u64,
}

/// An answer.
pub(in super::super) struct Told {
    pub(in super::super) seq: u64,
    pub(in super::super) seen: VersionVector,
    pub(in super::super) stale: bool,
    pub(in super::super) result: Result<Answer, Failure>,
}

impl Line {
    /// Dials a tracker and goes on with a session, which it has to honour.
    pub(in super::super) async fn open(
        transport: &dyn Transport,
        (address, key): (&str, DeviceKey),
        secret: &DeviceSecret,
        session: Signed,
    ) -> Result<Self, BenchError> {
        let identity = Identity::new(secret);
        let failed = |error: LinkError| lost(address, error);
        let link = dial(transport, &identity, address, Protocol::Tracker, Some(key)).await.map_err(failed)?;
        let device = identity.device();
        let (mut reader, mut writer) = link.split();
        let hello = ToTracker::Hello { version: VERSION, session: Some(session), seen: VersionVector::default() };
        writer.send(&hello).await.map_err(failed)?;
        match reader.message().await.map_err(failed)? {
            Some(FromTracker::Hello { session: Some(Ok(_)), .. }) => {
                Ok(Self { reader, writer, name: address.to_owned(), device, seq: 0 })
            }
            other => Err(BenchError::Refused {
                name: address.to_owned(),
                command: "hello".to_owned(),
                answer: format!("{other:?}"),
            }),
        }
    }

    /// The device that this end proved to be.
    pub(in super::super) fn device(&self) -> DeviceKey {
        self.device
    }

    /// Queues a request; returns its number.
    pub(in super::super) fn put(&mut self, seen: VersionVector, request: Request) -> u64 {
        self.seq += 1;
        let nonce = u128::from(self.seq).to_le_bytes();
        self.writer.queue(&ToTracker::Request { seq: self.seq, nonce, seen, request });
        self.seq
    }

    /// Queues what this device serves.
    pub(in super::super) fn say(&mut self, presence: Presence) {
        self.writer.queue(&ToTracker::Presence(presence));
    }

    /// Sends what is queued.
    pub(in super::super) async fn flush(&mut self) -> Result<(), BenchError> {
        self.writer.flush().await.map_err(|error| lost(&self.name, error))
    }

    /// The next answer. Cancel-safe.
    pub(in super::super) async fn told(&mut self) -> Result<Told, BenchError> {
        loop {
            let message = self.reader.message().await.and_then(|message| message.ok_or(LinkError::Closed));
            match message.map_err(|error| lost(&self.name, error))? {
                FromTracker::Answer { seq, seen, stale, result } => return Ok(Told { seq, seen, stale, result }),
                FromTracker::Notice(_) | FromTracker::Pong { .. } | FromTracker::Hello { .. } => {}
            }
        }
    }

    /// Asks one thing, with nothing else under way; a refusal is an error.
    pub(in super::super) async fn ask(&mut self, request: Request) -> Result<Answer, BenchError> {
        let command = format!("{request:?}");
        self.put(VersionVector::default(), request);
        self.flush().await?;
        self.told().await?.result.map_err(|failure| refused(&self.name, command, &failure))
    }

    /// Asks until `end`, with [`WINDOW`] questions under way: `put` queues one and says what it is about, `is_right` looks at
    /// the answer.
    pub(in super::super) async fn keep_asking<T>(
        &mut self,
        end: Instant,
        mut put: impl FnMut(&mut Self) -> (u64, T),
        mut is_right: impl FnMut(T, Told) -> bool,
    ) -> Result<Tally, BenchError> {
        let (mut tally, mut asked) = (Tally::default(), BTreeMap::new());
        loop {
            let is_over = Instant::now() >= end;
            while !is_over && asked.len() < WINDOW {
                let (seq, about) = put(self);
                asked.insert(seq, (about, Instant::now()));
            }
            self.flush().await?;
            if asked.is_empty() {
                return Ok(tally);
            }
            // Half of the window at once: otherwise every question would be a record and a system call of its own.
            while asked.len() > if is_over { 0 } else { WINDOW / 2 } {
                let told = self.told().await?;
                match asked.remove(&told.seq) {
                    Some((about, since)) => tally.count(since, is_right(about, told)),
                    None => tally.wrong += 1,
                }
            }
        }
    }

    /// Gives a sign of life, and takes whatever comes.
    pub(in super::super) async fn ping(&mut self) -> Result<(), BenchError> {
        self.writer.send(&ToTracker::Ping).await.map_err(|error| lost(&self.name, error))?;
        let message = self.reader.message::<FromTracker>().await;
        message.map(|_| ()).map_err(|error| lost(&self.name, error))
    }
}

/// A tracker was lost in the middle of a measurement.
fn lost(address: &str, error: LinkError) -> BenchError {
    BenchError::io(format!("speak with the tracker at {address}"))(std::io::Error::other(error))
}

fn refused(name: &str, command: String, failure: &Failure) -> BenchError {
    BenchError::Refused { name: name.to_owned(), command, answer: failure.message.clone() }
}

/// Shares a line among many who each wait for their own answer. It closes when all of them are gone.
#[derive(Clone)]
pub(in super::super) struct Desk(mpsc::Sender<Order>);

struct Order {
    seen: VersionVector,
    request: Request,
    reply: oneshot::Sender<Told>,
}

impl Desk {
    /// A desk, and what has to run for it.
    pub(in super::super) fn new(line: Line) -> (Self, impl Future<Output = Result<(), BenchError>>) {
        let (orders, queue) = mpsc::channel(WINDOW);
        (Self(orders), serve(line, queue))
    }

    /// Asks, having seen `seen`, which becomes what the answer shows beside it; a refusal is an error.
    pub(in super::super) async fn ask(&self, seen: &mut VersionVector, request: Request) -> Result<Answer, BenchError> {
        let command = format!("{request:?}");
        let (reply, told) = oneshot::channel();
        let order = Order { seen: seen.clone(), request, reply };
        let gone = || BenchError::io("speak with a tracker")(std::io::ErrorKind::BrokenPipe.into());
        self.0.send(order).await.map_err(|_| gone())?;
        let told = told.await.map_err(|_| gone())?;
        seen.merge(&told.seen);
        told.result.map_err(|failure| refused("a tracker", command, &failure))
    }
}

async fn serve(mut line: Line, mut orders: mpsc::Receiver<Order>) -> Result<(), BenchError> {
    let mut waiting = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            order = orders.recv(), if waiting.len() < WINDOW => {
                let Some(order) = order else { return Ok(()) };
                let mut next = Some(order);
                while let Some(Order { seen, request, reply }) = next {
                    waiting.insert(line.put(seen, request), reply);
                    next = if waiting.len() < WINDOW { orders.try_recv().ok() } else { None };
                }
                line.flush().await?;
            }
            told = line.told(), if !waiting.is_empty() => {
                let told = told?;
                if let Some(reply) = waiting.remove(&told.seq) {
                    let _ = reply.send(told);
                }
            }
        }
    }
}
