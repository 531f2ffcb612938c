//! A small proxy at each tracker's listed address, which cuts links between trackers and leaves those of clients alone.
//!
//! Which is which stands in the clear in the first bytes of a link: the TLS hello names the protocol (ALPN).

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// What becomes of the links between trackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// They work.
    Whole,
    /// Nothing arrives any more, and nobody is told: what is sent waits, as on a network that has lost its way.
    Silent,
    /// They are reset, and new ones refused.
    Reset,
}

/// The network between the trackers of a world.
#[derive(Clone)]
pub(crate) struct Network(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    cut: Cut,
    /// Both ends of every link between trackers, to be reset.
    links: Vec<TcpStream>,
}

impl Network {
    /// A network that is whole.
    pub(crate) fn new() -> Self {
        let state = State { cut: Cut::Whole, links: Vec::new() };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Cuts, or heals, all links between trackers.
    pub(crate) fn set(&self, cut: Cut) {
        let mut state = self.state();
        state.cut = cut;
        if cut == Cut::Reset {
            state.links.drain(..).for_each(|link| drop(link.shutdown(Shutdown::Both)));
        }
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Waits while nothing arrives; whether the link may go on then.
    fn pass(&self) -> bool {
        let state = self.0.changed.wait_while(self.state(), |state| state.cut == Cut::Silent).unwrap();
        state.cut == Cut::Whole
    }

    /// Notes a link between trackers; fails where links are reset.
    fn enter(&self, ends: [&TcpStream; 2]) -> io::Result<()> {
        let mut state = self.state();
        if state.cut == Cut::Reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        for end in ends {
            state.links.push(end.try_clone()?);
        }
        Ok(())
    }
}

/// Stands at `listed` and passes on to a tracker behind it.
pub(crate) struct Gate {
    admits_clients: Arc<AtomicBool>,
}

impl Gate {
    /// Opens the gate at `listed`, before a tracker that is bound to `bound`.
    pub(crate) fn open(network: &Network, listed: &str, bound: &str) -> Self {
        let listener = TcpListener::bind(listed).unwrap();
        let admits_clients = Arc::new(AtomicBool::new(true));
        let (network, bound, admits) = (network.clone(), bound.to_owned(), Arc::clone(&admits_clients));
        thread::spawn(move || {
            for link in listener.incoming().map_while(Result::ok) {
                let (network, bound, admits) = (network.clone(), bound.clone(), Arc::clone(&admits));
                // A link that ends, ends: whoever dialled notices.
                thread::spawn(move || drop(carry(&network, link, &bound, &admits)));
            }
        });
        Self { admits_clients }
    }

    /// Whether clients that come now are let in; those that are in stay.
    pub(crate) fn admit_clients(&self, admitted: bool) {
        self.admits_clients.store(admitted, Ordering::SeqCst);
    }
}

/// Carries one link to its end.
fn carry(network: &Network, mut dialler: TcpStream, bound: &str, admits_clients: &AtomicBool) -> io::Result<()> {
    let hello = hello(&mut dialler)?;
    let is_sync = names(&hello, b"p2p-sync/1");
    let may_enter = if is_sync { network.pass() } else { admits_clients.load(Ordering::SeqCst) };
    if !may_enter {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let mut tracker = TcpStream::connect(bound)?;
    let network = is_sync.then_some(network);
    if let Some(network) = network {
        network.enter([&dialler, &tracker])?;
    }
    tracker.write_all(&hello)?;
    let (to_dialler, from_tracker) = (dialler.try_clone()?, tracker.try_clone()?);
    thread::scope(|scope| {
        scope.spawn(move || pump(network, from_tracker, to_dialler));
        pump(network, dialler, tracker);
    });
    Ok(())
}

/// The first bytes of a link, up to where they name its protocol.
fn hello(link: &mut TcpStream) -> io::Result<Vec<u8>> {
    let (mut hello, mut part) = (Vec::new(), [0; 4096]);
    while !names(&hello, b"p2p-sync/1") && !names(&hello, b"p2p-tracker/1") {
        match link.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => hello.extend_from_slice(&part[..count]),
        }
    }
    Ok(hello)
}

fn names(hello: &[u8], protocol: &[u8]) -> bool {
    hello.windows(protocol.len()).any(|window| window == protocol)
}

/// Passes bytes on in one direction, until that direction ends; ends both when the link is reset or broken.
fn pump(network: Option<&Network>, mut from: TcpStream, mut to: TcpStream) {
    let mut part = vec![0; 16 * 1024];
    let end = loop {
        match from.read(&mut part) {
            Ok(0) => break Shutdown::Write,
            Ok(count) if network.is_none_or(Network::pass) && to.write_all(&part[..count]).is_ok() => {}
            _ => {
                let _ = from.shutdown(Shutdown::Both);
                break Shutdown::Both;
            }
        }
    };
    let _ = to.shutdown(end);
}
