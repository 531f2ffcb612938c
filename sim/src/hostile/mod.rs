//! Hosts that keep no rule but those of the network: they hold keys and shake hands, and above TLS write their own bytes.
//!
//! A [`Hostile`] is a machine without software; the script gives it one act after the other, each a future that runs on that
//! machine with a [`Node`]: its key, its port, its disk. Whoever has to be a member for the harm it does speaks the client's
//! protocol by hand ([`account`]). What hostile hosts are told they write down in a [`crate::oracle::data::Witness`].

pub(crate) mod account;
pub(crate) mod leecher;
pub(crate) mod seeder;
pub(crate) mod stranger;
pub(crate) mod tracker;
pub(crate) mod wire;

use std::{cell::RefCell, error::Error, future::Future, net::IpAddr, pin::Pin, rc::Rc, time::Duration};

use p2p::{
    protocol::device::DeviceSecret,
    roles::environment::Environment,
    transport::{
        Listener, Stream,
        link::LinkError,
        tls::{Identity, Protocol},
    },
};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use self::wire::Wire;
use crate::cluster::Cluster;

/// The port at which a hostile host plays a peer.
const PORT: u16 = 6000;
/// Longest time for an act that the script waits for.
const PATIENCE: Duration = Duration::from_mins(15);
/// Longest time for a dial.
const DIAL: Duration = Duration::from_secs(5);

/// What an act ends with.
pub(crate) type Acted<T> = Result<T, Box<dyn Error>>;

type Act = Box<dyn FnOnce(Node) -> Pin<Box<dyn Future<Output = ()>>>>;

/// A machine that does what the script says.
#[derive(Clone)]
pub(crate) struct Hostile {
    name: &'static str,
    ip: IpAddr,
    acts: mpsc::Sender<Act>,
}

/// The machine from within. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) env: Environment,
    pub(crate) ip: IpAddr,
    pub(crate) secret: Rc<DeviceSecret>,
    pub(crate) identity: Identity,
    rng: Rc<RefCell<ChaCha20Rng>>,
}

/// Plugs in a machine that has no software of ours.
pub(crate) fn hostile(cluster: &mut Cluster, name: &'static str) -> Hostile {
    let ip = cluster.machine(name, 0).ip();
    let (acts, incoming) = mpsc::channel::<Act>(16);
    let incoming = Rc::new(tokio::sync::Mutex::new(incoming));
    cluster.start(name, move |env| {
        let incoming = incoming.clone();
        async move {
            let node = Node::new(env, ip);
            let mut incoming = incoming.lock().await;
            while let Some(act) = incoming.recv().await {
                background(act(node.clone()));
            }
            std::future::pending().await
        }
    });
    Hostile { name, ip, acts }
}

impl Hostile {
    /// Has the machine do something, and waits for what comes of it.
    pub(crate) async fn does<T, F, Fut>(&self, act: F) -> Acted<T>
    where
        T: 'static,
        F: FnOnce(Node) -> Fut + 'static,
        Fut: Future<Output = Acted<T>>,
    {
        let (done, result) = oneshot::channel();
        self.order(async move |node| drop(done.send(act(node).await))).await?;
        let result = timeout(PATIENCE, result).await.map_err(|_| format!("{}: stuck", self.name))?;
        result.map_err(|_| format!("{}: gone", self.name))?.map_err(|error| format!("{}: {error}", self.name).into())
    }

    /// Has the machine begin something; how it ends is of no interest.
    pub(crate) async fn begins<F, Fut>(&self, act: F) -> Acted<()>
    where
        F: FnOnce(Node) -> Fut + 'static,
        Fut: Future<Output = Acted<()>>,
    {
        let name = self.name;
        self.order(async move |node| {
            let end = act(node).await.map_err(|error| error.to_string());
            tracing::debug!(hostile = name, ?end, "an act has ended");
        })
        .await
    }

    async fn order<F, Fut>(&self, act: F) -> Acted<()>
    where
        F: FnOnce(Node) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let act: Act = Box::new(move |node| Box::pin(act(node)));
        self.acts.send(act).await.map_err(|_| format!("{}: its machine is gone", self.name).into())
    }

    /// The machine's address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The host's name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

impl Node {
    /// The machine with this address.
    pub(crate) fn new(env: Environment, ip: IpAddr) -> Self {
        let mut rng = env.rng("hostile", 0);
        let secret = new_key(&mut rng);
        Self { ip, identity: Identity::new(&secret), secret: Rc::new(secret), rng: Rc::new(RefCell::new(rng)), env }
    }

    /// The same machine with another key.
    pub(crate) fn disguised(&self) -> Self {
        let secret = new_key(&mut self.rng.borrow_mut());
        Self { identity: Identity::new(&secret), secret: Rc::new(secret), ..self.clone() }
    }

    /// A number below `end`.
    pub(crate) fn draw(&self, end: u64) -> u64 {
        self.rng.borrow_mut().next_u64() % end
    }

    /// Random bytes.
    pub(crate) fn rubbish(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.rng.borrow_mut().fill_bytes(&mut bytes);
        bytes
    }

    /// The port at which this machine plays a peer.
    pub(crate) fn address(&self) -> String {
        format!("{}:{PORT}", self.ip)
    }

    /// Opens that port.
    pub(crate) async fn listen(&self) -> Acted<Box<dyn Listener>> {
        Ok(self.env.transport.listen(&self.address()).await?)
    }

    /// Dials without a handshake.
    pub(crate) async fn connect(&self, address: &str) -> Acted<Box<dyn Stream>> {
        Ok(timeout(DIAL, self.env.transport.connect(address)).await??)
    }

    /// Dials and shakes hands.
    pub(crate) async fn dial(&self, address: &str, protocol: Protocol) -> Acted<Wire> {
        let stream = self.connect(address).await?;
        let wire = timeout(DIAL, Wire::dialled(stream, &self.identity, protocol)).await;
        Ok(wire.map_err(|_| LinkError::Timeout("the handshake"))??)
    }
}

/// Runs a task on the machine whose act this is called from.
#[expect(clippy::disallowed_methods, reason = "the hostile are no role: nobody waits for their end")]
pub(crate) fn background(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

fn new_key(rng: &mut ChaCha20Rng) -> DeviceSecret {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    DeviceSecret::from_seed(seed)
}
