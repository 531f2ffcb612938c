//! A network in memory whose cables can be cut, a clock that is off, and folders that outlive a tracker.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    sync::{Mutex as AsyncMutex, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    roles::environment::WallClock,
    transport::{BoxFuture, Listener, Stream, Transport},
};

/// Streams that somebody dialled, and from where.
type Dials = mpsc::Sender<(DuplexStream, SocketAddr)>;

/// Who is where, and which hosts do not hear each other.
#[derive(Default)]
pub(super) struct Network {
    ports: Mutex<BTreeMap<String, (u8, Dials)>>,
    cut: Mutex<BTreeSet<(u8, u8)>>,
    /// Hosts whose streams stay open and carry nothing.
    silent: Mutex<BTreeSet<(u8, u8)>>,
    cables: Mutex<Vec<((u8, u8), CancellationToken)>>,
}

impl Network {
    pub(super) fn host(self: &Arc<Self>, number: u8) -> Arc<dyn Transport> {
        Arc::new(Host { number, network: Arc::clone(self) })
    }

    /// Lets every stream between two hosts hang, and no new one through.
    pub(super) fn silence(&self, a: u8, b: u8) {
        self.silent.lock().unwrap().insert(pair(a, b));
        self.cut(a, b);
    }

    /// Ends every stream between two hosts, and lets no new one through.
    pub(super) fn cut(&self, a: u8, b: u8) {
        self.cut.lock().unwrap().insert(pair(a, b));
        self.cables.lock().unwrap().retain(|(ends, cable)| {
            if *ends == pair(a, b) {
                cable.cancel();
            }
            *ends != pair(a, b)
        });
    }

    pub(super) fn heal(&self, a: u8, b: u8) {
        self.cut.lock().unwrap().remove(&pair(a, b));
        self.silent.lock().unwrap().remove(&pair(a, b));
    }
}

fn pair(a: u8, b: u8) -> (u8, u8) {
    (a.min(b), a.max(b))
}

struct Host {
    number: u8,
    network: Arc<Network>,
}

impl Transport for Host {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let found = self.network.ports.lock().unwrap().get(address).cloned();
            let (there, port) = found.ok_or_else(refused)?;
            let ends = pair(self.number, there);
            if self.network.cut.lock().unwrap().contains(&ends) {
                return Err(refused());
            }
            let ((ours, mut near), (mut far, theirs)) = (duplex(64 * 1024), duplex(64 * 1024));
            let cable = CancellationToken::new();
            self.network.cables.lock().unwrap().push((ends, cable.clone()));
            let network = Arc::clone(&self.network);
            tokio::spawn(async move {
                tokio::select! {
                    () = cable.cancelled() => {
                        let is_silent = network.silent.lock().unwrap().contains(&ends);
                        if is_silent {
                            std::future::pending::<()>().await;
                        }
                    }
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                }
            });
            let from = SocketAddr::from(([10, 0, 0, self.number], 50_000));
            port.send((theirs, from)).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (sender, incoming) = mpsc::channel(16);
            let mut ports = self.network.ports.lock().unwrap();
            if ports.get(address).is_some_and(|(_, port)| !port.is_closed()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            ports.insert(address.to_owned(), (self.number, sender));
            let address = address.parse().map_err(io::Error::other)?;
            Ok(Box::new(Port { address, incoming: AsyncMutex::new(incoming) }) as Box<dyn Listener>)
        })
    }

    fn facing<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<std::net::IpAddr>> {
        Box::pin(async move { Ok([10, 0, 0, self.number].into()) })
    }
}

struct Port {
    address: SocketAddr,
    incoming: AsyncMutex<mpsc::Receiver<(DuplexStream, SocketAddr)>>,
}

impl Listener for Port {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.incoming.lock().await.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Runs with tokio's clock, from some time on.
pub(super) struct OffClock {
    pub(super) start: Instant,
    pub(super) at_start_ms: u64,
}

impl WallClock for OffClock {
    fn now_ms(&self) -> u64 {
        self.at_start_ms + u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }
}
