//! A network inside the process, and clocks that stand still unless all wait: whatever takes its time ends at once, or never.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use p2p::transport::{BoxFuture, Listener, Stream, Transport};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex},
    runtime::{Builder, Runtime},
    sync::{Mutex as AsyncMutex, mpsc},
    task::yield_now,
    time::timeout,
};

/// Bytes under way in each direction.
pub(crate) const BUFFER: usize = 64 * 1024;
/// Nobody waits longer for a stranger.
const PATIENCE: Duration = Duration::from_mins(2);

/// A runtime with such a clock.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("it needs nothing of the system")
}

/// What comes of something that must end.
pub(crate) async fn ends<T>(something: impl Future<Output = T>) -> T {
    timeout(PATIENCE, something).await.expect("whoever deals with a stranger comes to an end")
}

/// Says `bytes` in parts of so many, and is silent then, or goes.
pub(crate) async fn say(mut to: WriteHalf<impl Stream>, bytes: &[u8], part: usize, stays: bool) {
    for part in bytes.chunks(part.max(1)) {
        if to.write_all(part).await.is_err() || to.flush().await.is_err() {
            return;
        }
        yield_now().await;
    }
    if stays {
        std::future::pending::<()>().await;
    }
    let _ = to.shutdown().await;
}

/// All that is said, until the end.
pub(crate) async fn hear(mut from: ReadHalf<impl Stream>) -> Vec<u8> {
    let mut heard = Vec::new();
    // What was said before the line broke counts as well.
    let _ = from.read_to_end(&mut heard).await;
    heard
}

/// A transport that has one stream to give, to who dials.
pub(crate) struct Once(Mutex<Option<DuplexStream>>);

impl Once {
    pub(crate) fn new(stream: DuplexStream) -> Self {
        Self(Mutex::new(Some(stream)))
    }
}

impl Transport for Once {
    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stream = stream.map(|stream| Box::new(stream) as Box<dyn Stream>);
        Box::pin(async { stream.ok_or_else(|| io::ErrorKind::ConnectionRefused.into()) })
    }

    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

type Ports = Arc<Mutex<BTreeMap<SocketAddr, mpsc::Sender<DuplexStream>>>>;

/// Ports, at which roles listen.
#[derive(Default)]
pub(crate) struct Memory(Ports);

struct Port {
    address: SocketAddr,
    incoming: AsyncMutex<mpsc::Receiver<DuplexStream>>,
}

impl Transport for Memory {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let address: SocketAddr = address.parse().map_err(|_| refused())?;
            let port = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
            let (ours, theirs) = duplex(BUFFER);
            port.ok_or_else(refused)?.send(theirs).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let address: SocketAddr = address.parse().map_err(io::Error::other)?;
            let (sender, incoming) = mpsc::channel(16);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, sender);
            Ok(Box::new(Port { address, incoming: AsyncMutex::new(incoming) }) as Box<dyn Listener>)
        })
    }
}

impl Listener for Port {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let stream = self.incoming.lock().await.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(stream) as Box<dyn Stream>, SocketAddr::from((Ipv4Addr::LOCALHOST, 9))))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
