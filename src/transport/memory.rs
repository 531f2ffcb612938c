//! A network inside the process, for tests: no sockets, so that the clock may stand still.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{DuplexStream, duplex},
    sync::{Mutex as AsyncMutex, mpsc},
};

use super::{BoxFuture, Listener, Stream, Transport};

/// Bytes under way in each direction.
const BUFFER: usize = 64 * 1024;

type Ports = Arc<Mutex<BTreeMap<u16, mpsc::Sender<DuplexStream>>>>;

/// Ports of one process.
#[derive(Default)]
pub(crate) struct Memory {
    ports: Ports,
}

struct Port {
    number: u16,
    ports: Ports,
    incoming: AsyncMutex<mpsc::Receiver<DuplexStream>>,
}

impl Transport for Memory {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let address: SocketAddr = address.parse().map_err(io::Error::other)?;
            let port = self.ports.lock().unwrap_or_else(PoisonError::into_inner).get(&address.port()).cloned();
            let (ours, theirs) = duplex(BUFFER);
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            port.ok_or_else(refused)?.send(theirs).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }

    /// At the port that the address names; at the next one, where it names none.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let named = address.parse().map_or(0, |address: SocketAddr| address.port());
            let (sender, incoming) = mpsc::channel(16);
            let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
            if ports.contains_key(&named) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let next = ports.last_key_value().map_or(1, |(last, _)| last + 1);
            let number = if named == 0 { next } else { named };
            ports.insert(number, sender);
            let port = Port { number, ports: self.ports.clone(), incoming: AsyncMutex::new(incoming) };
            Ok(Box::new(port) as Box<dyn Listener>)
        })
    }
}

impl Listener for Port {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let stream = self.incoming.lock().await.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(stream) as Box<dyn Stream>, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, self.number)))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        protocol::{
            ids::FileId,
            piece::{BLOCK_SIZE, Block, PieceIndex},
        },
        transport::{
            contract::{identity, pair, suite},
            link::{LinkError, accept, dial},
            tcp::Tcp,
            tls::Protocol,
        },
    };

    #[tokio::test]
    async fn contract_over_tcp() {
        suite(Arc::new(Tcp)).await;
    }

    #[tokio::test]
    async fn contract_in_memory() {
        suite(Arc::new(Memory::default())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_end_is_no_handshake() {
        let memory = Memory::default();
        let listener = memory.listen("").await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        let one = identity(1);
        let dialled = dial(&memory, &one, &address, Protocol::Peer, None).await;
        assert!(matches!(dialled, Err(LinkError::Timeout(_))));
        let _silent = memory.connect(&address).await.unwrap();
        let _dialled_first = listener.accept().await.unwrap();
        let accepted = accept(listener.accept().await.unwrap().0, &one).await;
        assert!(matches!(accepted, Err(LinkError::Timeout(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_takes_nothing_is_dead() {
        let (dialled, _accepted) = pair(&Memory::default(), Protocol::Peer).await;
        let (_reader, mut writer) = dialled.split();
        let block = Block { piece: PieceIndex(0), offset: 0, length: BLOCK_SIZE };
        for _ in 0..100 {
            writer.queue_block(&FileId([1; 32]), block, Bytes::from(vec![0; BLOCK_SIZE as usize]));
        }
        assert!(matches!(writer.flush().await, Err(LinkError::Timeout(_))));
    }
}
