//! The real network: TCP through tokio.
#![expect(clippy::disallowed_methods, reason = "this is the seam that everything else goes through")]

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, lookup_host};

use super::{BoxFuture, Listener, Stream, Transport};

/// Streams that wait to be accepted; the system may hold fewer.
const BACKLOG: u32 = 1024;
/// Bytes that a socket takes beyond those that TCP has on their way: a block, which goes while the next is enciphered.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT: u32 = 128 * 1024;

/// TCP. Socket buffers stay as the system tunes them: a fixed size would cap the rate on long links.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            prepare(&stream)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for candidate in lookup_host(address).await? {
                match bind(candidate) {
                    Ok(listener) => return Ok(Box::new(listener) as Box<dyn Listener>),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    /// Connecting a UDP socket asks the system for its route and sends nothing.
    fn facing<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<IpAddr>> {
        Box::pin(async move {
            let there = lookup_host(address).await?.next().ok_or(io::ErrorKind::NotFound)?;
            let any: IpAddr = if there.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(there).await?;
            Ok(socket.local_addr()?.ip())
        })
    }
}

/// A restarted process gets its port back at once, for the connections of its past life still linger.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Nothing waits in a socket, neither for more bytes nor, where the other end is on another machine, until TCP may send them.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    if stream.peer_addr().is_ok_and(|there| !there.ip().to_canonical().is_loopback()) {
        bound_unsent(stream);
    }
    stream.set_nodelay(true)
}

/// Lets little wait until TCP may send it: what was handed to one socket cannot go by another that is faster, and whoever decides what
/// goes next does not see it. A system that cannot bound it does without.
fn bound_unsent(stream: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = stream;
}

/// Whether an error is of the one connection that was to be accepted.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

impl Listener for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            loop {
                let accepted = TcpListener::accept(self).await;
                // Gone before it was accepted, as some systems say: that is no shortage of ours.
                if accepted.as_ref().is_err_and(is_gone) {
                    continue;
                }
                let (stream, from) = accepted?;
                // It fails on a connection that is gone already: the next one, then.
                if prepare(&stream).is_ok() {
                    return Ok((Box::new(stream) as Box<dyn Stream>, from));
                }
            }
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_sent_does_not_wait_in_a_socket() {
        let receiver = TcpSocket::new_v4().expect("a socket");
        receiver.set_recv_buffer_size(64 * 1024).expect("it may be small");
        receiver.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port is free");
        let listener = receiver.listen(1).expect("it may listen");
        let sender = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it is let in");
        let _unread = listener.accept().await.expect("somebody comes");
        bound_unsent(&sender);
        let mut taken = 0;
        while let Ok(bytes) = sender.try_write(&[0; 4096]) {
            taken += bytes;
        }
        assert!((64 * 1024..768 * 1024).contains(&taken), "{taken}");
    }
}
