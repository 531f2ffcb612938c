//! The simulated network: turmoil's TCP behind the transport seam, with a trace of what went over it.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use p2p::transport::{BoxFuture, Listener, Stream, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// Bytes in one segment at most, as on a link with large frames: a block takes several, and a partition can cut it.
const SEGMENT: usize = 32 * 1024;

/// The network card of one host.
pub(crate) struct SimNetwork {
    ip: IpAddr,
    received: Arc<AtomicU64>,
}

impl SimNetwork {
    /// The network as the host with this address sees it; counts the bytes that arrive.
    pub(crate) fn new(ip: IpAddr, received: Arc<AtomicU64>) -> Self {
        Self { ip, received }
    }
}

impl Transport for SimNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await;
            tracing::debug!(address, ok = stream.is_ok(), "dialled");
            Ok(Box::new(Traced::new(stream?, &self.received)?) as Box<dyn Stream>)
        })
    }

    /// turmoil binds every address of the host, or the loopback.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let asked: SocketAddr = address.parse().map_err(io::Error::other)?;
            if ![self.ip, IpAddr::from([0, 0, 0, 0]), IpAddr::from([127, 0, 0, 1])].contains(&asked.ip()) {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let (bound, shown) =
                if asked.ip().is_loopback() { (asked.ip(), asked.ip()) } else { (IpAddr::from([0, 0, 0, 0]), self.ip) };
            let listener = TcpListener::bind((bound, asked.port())).await?;
            Ok(Box::new(SimListener { listener, ip: shown, received: self.received.clone() }) as Box<dyn Listener>)
        })
    }
}

struct SimListener {
    listener: TcpListener,
    ip: IpAddr,
    received: Arc<AtomicU64>,
}

impl Listener for SimListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            tracing::debug!(%from, "accepted");
            Ok((Box::new(Traced::new(stream, &self.received)?) as Box<dyn Stream>, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(self.ip, self.listener.local_addr()?.port()))
    }
}

/// A stream whose every read and write shows in the trace by its size: contents are encrypted, and differ from run to run.
struct Traced {
    stream: TcpStream,
    peer: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Traced {
    fn new(stream: TcpStream, received: &Arc<AtomicU64>) -> io::Result<Self> {
        Ok(Self { peer: stream.peer_addr()?, stream, received: received.clone() })
    }
}

impl AsyncRead for Traced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_ready() {
            let (peer, bytes) = (self.peer, buffer.filled().len() - before);
            self.received.fetch_add(bytes as u64, Ordering::Relaxed);
            tracing::trace!(%peer, bytes, "received");
        }
        result
    }
}

impl AsyncWrite for Traced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let part = &bytes[..bytes.len().min(SEGMENT)];
        let result = Pin::new(&mut self.stream).poll_write(cx, part);
        if let Poll::Ready(Ok(bytes)) = &result {
            let peer = self.peer;
            tracing::trace!(%peer, bytes, "sent");
        }
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut segment = Vec::with_capacity(SEGMENT);
        for slice in slices {
            segment.extend_from_slice(&slice[..slice.len().min(SEGMENT - segment.len())]);
        }
        self.poll_write(cx, &segment)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
