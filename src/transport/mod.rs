//! The network seam: byte streams to dial and accept, over TCP or simulated; TLS and frames on top of either.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
};

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(test)]
mod contract;
pub mod link;
#[cfg(test)]
pub(crate) mod memory;
mod read_ahead;
pub mod tcp;
pub mod tls;

/// A future in a box, as the seam's methods return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream between two processes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// A network: TCP, or the simulated one. No deadline of its own: the caller sets one on every call.
pub trait Transport: Send + Sync + 'static {
    /// Dials `address` (`host:port`, IPv6 in brackets).
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// Listens at `address`; port 0 lets the system choose.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// The address of this machine that faces `address`: what others there may dial when a port is bound to all of them.
    /// A network that does not know says `Unsupported`.
    fn facing<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<IpAddr>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// An open port.
pub trait Listener: Send + Sync + 'static {
    /// The next stream that somebody dialled, and from where. Cancel-safe. An error does not close the port: it says that
    /// this process has run out of descriptors or the like, so pause before the next call.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;

    /// The address bound, with the port the system chose.
    fn local_address(&self) -> io::Result<SocketAddr>;
}
