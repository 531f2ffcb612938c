//! Whoever dials our ports without being one of us: bytes of its own on a socket, or behind a good handshake.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use p2p::{
    protocol::{
        client::{Answer, FromTracker, Password, Request, ToTracker, VERSION},
        device::DeviceSecret,
        error::Failure,
        name::UserName,
        ticket::Signed,
        version::VersionVector,
    },
    transport::{
        BoxFuture, Listener, Stream, Transport,
        link::{LinkReader, LinkWriter, dial},
        tcp::Tcp,
        tls::{Identity, Protocol, Secured, secure_dialled},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpSocket,
    time::{Instant, sleep, timeout},
};

/// A device key of its own for each number.
pub(crate) fn identity(number: u8) -> Identity {
    Identity::new(&DeviceSecret::from_seed([number; 32]))
}

/// A stream behind a good handshake, on which any bytes may be written; none from who has no room for it.
pub(crate) async fn handshake(address: &str, protocol: Protocol, number: u8) -> Option<Secured> {
    let stream = Tcp.connect(address).await.ok()?;
    secure_dialled(stream, &identity(number), protocol).await.ok()
}

/// Writes a byte a second until the other end closes; how long that took, `None` when it took longer than `most`.
pub(crate) async fn trickle<S>(mut stream: S, bytes: Vec<u8>, most: Duration) -> Option<Duration>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let begun = Instant::now();
    let until_closed = async {
        let mut bytes = bytes.into_iter().chain(std::iter::repeat(0));
        let mut answer = [0; 4096];
        loop {
            let byte = [bytes.next().unwrap_or_default()];
            if stream.write_all(&byte).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            tokio::select! {
                read = stream.read(&mut answer) => if !matches!(read, Ok(1..)) { return },
                () = sleep(Duration::from_secs(1)) => {}
            }
        }
    };
    timeout(most, until_closed).await.ok().map(|()| begun.elapsed())
}

/// Dials from one of the addresses of loopback: each counts as a network of its own.
struct From(Ipv4Addr);

impl Transport for From {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((self.0, 0)))?;
            let stream = socket.connect(address.parse().map_err(io::Error::other)?).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// A client's link to a tracker, spoken by hand.
pub(crate) struct ByHand {
    reader: LinkReader,
    writer: LinkWriter,
    seq: u64,
}

impl ByHand {
    pub(crate) async fn dial(address: &str, number: u8, session: Option<Signed>) -> Self {
        Self::dial_by(&Tcp, address, number, session).await
    }

    /// Without a session, from an address of loopback.
    pub(crate) async fn dial_from(from: Ipv4Addr, address: &str, number: u8) -> Self {
        Self::dial_by(&From(from), address, number, None).await
    }

    async fn dial_by(transport: &dyn Transport, address: &str, number: u8, session: Option<Signed>) -> Self {
        let link = dial(transport, &identity(number), address, Protocol::Tracker, None).await.unwrap();
        let (mut reader, mut writer) = link.split();
        writer.send(&ToTracker::Hello { version: VERSION, session, seen: VersionVector::default() }).await.unwrap();
        let hello = reader.message::<FromTracker>().await.unwrap();
        assert!(matches!(hello, Some(FromTracker::Hello { .. })), "{hello:?}");
        Self { reader, writer, seq: 0 }
    }

    /// Registers a user and logs in; returns the session.
    pub(crate) async fn register(&mut self, name: &str) -> Signed {
        let (user, password) = (UserName::parse(name).unwrap(), Password(format!("secret-{name}")));
        self.ask(Request::CreateUser { user: user.clone(), password: password.clone() }).await.unwrap();
        match self.ask(Request::Login { user, password }).await {
            Ok(Answer::LoggedIn { session, .. }) => session,
            other => panic!("{other:?}"),
        }
    }

    /// Sends so many requests at once, and waits for all their answers.
    pub(crate) async fn ask_many(&mut self, request: &Request, count: u32) {
        for _ in 0..count {
            self.put(request.clone());
        }
        self.writer.flush().await.unwrap();
        for _ in 0..count {
            self.told().await.unwrap();
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&mut self, request: Request) -> Result<Answer, Failure> {
        self.put(request);
        self.writer.flush().await.unwrap();
        self.told().await
    }

    fn put(&mut self, request: Request) {
        self.seq += 1;
        let nonce = u128::from(self.seq).to_le_bytes();
        self.writer.queue(&ToTracker::Request { seq: self.seq, nonce, seen: VersionVector::default(), request });
    }

    async fn told(&mut self) -> Result<Answer, Failure> {
        loop {
            if let Some(FromTracker::Answer { result, .. }) = self.reader.message().await.unwrap() {
                return result;
            }
        }
    }
}
