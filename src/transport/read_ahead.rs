//! Reads more than was asked for at a time: rustls alone would make a system call for every 4 KiB.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

/// Bytes read at once as long as nothing is known of what will come: a handshake fits.
const FIRST: usize = 4 * 1024;

/// A stream with a buffer before its reads. Writes pass through.
pub struct ReadAhead {
    stream: Box<dyn Stream>,
    buffer: Box<[u8]>,
    /// What of the buffer has been read and not yet been taken.
    from: usize,
    to: usize,
    /// Bytes read at once.
    size: usize,
    /// Whether the buffer stays while nothing comes.
    keeps: bool,
}

impl ReadAhead {
    /// A buffer for a handshake.
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, buffer: Box::default(), from: 0, to: 0, size: FIRST, keeps: true }
    }

    /// Reads `size` bytes at once from now on. Where the buffer is not kept, a link that waits takes no memory for it.
    pub(super) fn resize(&mut self, size: usize, keeps: bool) {
        let rest = self.to - self.from;
        let mut buffer = vec![0; size.max(rest)].into_boxed_slice();
        buffer[..rest].copy_from_slice(&self.buffer[self.from..self.to]);
        (self.buffer, self.from, self.to, self.size, self.keeps) = (buffer, 0, rest, size, keeps);
    }

    /// Reads into the empty buffer.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.len() != self.size {
            self.buffer = vec![0; self.size].into_boxed_slice();
        }
        let mut free = ReadBuf::new(&mut self.buffer);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut free);
        (self.from, self.to) = (0, free.filled().len());
        if polled.is_pending() && !self.keeps {
            self.buffer = Box::default();
        }
        polled
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.from == self.to {
            if out.remaining() >= self.size {
                return Pin::new(&mut self.stream).poll_read(cx, out);
            }
            ready!(self.poll_fill(cx))?;
        }
        let length = out.remaining().min(self.to - self.from);
        out.put_slice(&self.buffer[self.from..self.from + length]);
        self.from += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn read(stream: &mut ReadAhead, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_size_changes() {
        let (here, mut there) = tokio::io::duplex(1 << 16);
        let mut stream = ReadAhead::new(Box::new(here));
        let sent: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
        there.write_all(&sent).await.unwrap();
        let mut got = read(&mut stream, 100).await;
        stream.resize(64, false);
        got.extend(read(&mut stream, 5000).await);
        stream.resize(16 * 1024, true);
        got.extend(read(&mut stream, 14_900).await);
        assert_eq!(got, sent);
    }

    #[tokio::test]
    async fn a_link_that_waits_keeps_no_buffer_unless_it_should() {
        for (keeps, left) in [(false, 0), (true, 1024)] {
            let (here, mut there) = tokio::io::duplex(1 << 16);
            let mut stream = ReadAhead::new(Box::new(here));
            stream.resize(1024, keeps);
            there.write_all(b"hello").await.unwrap();
            assert_eq!(read(&mut stream, 5).await, b"hello");
            let mut byte = [0];
            let waits = std::future::poll_fn(|cx| {
                let polled = Pin::new(&mut stream).poll_read(cx, &mut ReadBuf::new(&mut byte));
                Poll::Ready(polled.is_pending())
            });
            assert!(waits.await);
            assert_eq!(stream.buffer.len(), left);
        }
    }
}
