//! What strangers hear behind a good handshake, whatever they say: from a tracker on both of its protocols, and from a peer that
//! serves a file. Both live as long as the process that fuzzes.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use p2p::{
    protocol::{
        client::FromTracker,
        file_names,
        frame::{MESSAGE, read_message, take_frame},
        ids::{FileId, GroupId, TrackerNo},
        peer::PeerMessage,
        record::{ChangeBody, Kept},
        tracker_info::TrackerInfo,
    },
    roles::{
        client::{
            Client, ClientConfig,
            command::{
                Rate,
                parse::{Line, parse},
            },
        },
        environment::{Environment, Offload, WallClock},
        tracker::{Limits, PasswordCost, Tracker, TrackerConfig},
    },
    store::disk::SystemDisk,
    transport::{
        Transport as _,
        tls::{Protocol, secure_dialled},
    },
};
use tokio::{io::split, runtime::Runtime, time::sleep};

use crate::{
    handshake::{PROTOCOLS, identity},
    network::{Memory, ends, hear, runtime, say},
};

const TRACKER: &str = "127.0.0.1:5000";
const PEER: &str = "127.0.0.1:6000";
/// What stands in the bytes for the group and the file that there are.
pub const GROUP: GroupId = GroupId([3; 32]);
/// The file.
pub const FILE: FileId = FileId([4; 32]);

struct Still;

impl WallClock for Still {
    fn now_ms(&self) -> u64 {
        1_800_000_000_000
    }
}

struct World {
    runtime: Runtime,
    network: Arc<Memory>,
    group: GroupId,
    file: FileId,
    _tracker: Tracker,
    _client: Client,
    _folder: tempfile::TempDir,
}

thread_local! {
    static WORLD: World = World::new();
}

/// The hello phase. The first byte: two bits for the protocol, and whether the stranger stays when all is said (4); the second is the
/// length of the parts in which it comes.
pub fn hello(bytes: &[u8]) {
    let Some((&[flags, part], script)) = bytes.split_first_chunk() else { return };
    let protocol = PROTOCOLS[usize::from(flags % 4)];
    WORLD.with(|world| {
        let script = world.meant(script);
        let stays = flags & 4 != 0;
        let heard = world.runtime.block_on(ends(world.told(protocol, &script, usize::from(part) + 1, stays)));
        match protocol {
            Protocol::Tracker => by_the_tracker(&heard),
            Protocol::Sync | Protocol::Blocks => assert!(heard.is_empty(), "a stranger is told something"),
            Protocol::Peer => by_the_peer(&heard),
        }
    });
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let runtime = runtime();
        let network = Arc::new(Memory::default());
        let env = |seed| {
            let (disk, clock) = (Arc::new(SystemDisk), Arc::new(Still));
            Environment::new(network.clone(), disk, clock, Offload::Inline, [seed; 32])
        };
        let info = TrackerInfo::parse(TRACKER.as_bytes()).expect("an address");
        let config = TrackerConfig {
            info: info.clone(),
            no: TrackerNo(1),
            data_dir: folder.path().join("tracker"),
            bind: None,
            metrics: None,
            readmit: Vec::new(),
            password_cost: PasswordCost::LEAST,
            limits: Limits::STANDARD,
        };
        let client = ClientConfig {
            listen: PEER.to_owned(),
            advertise: None,
            trackers: info.trackers,
            data_dir: folder.path().join("client"),
            download_limit: Rate(0),
            upload_limit: Rate(0),
            readmit: Vec::new(),
            max_peers: 50,
        };
        let shared = folder.path().join("film");
        std::fs::write(&shared, vec![5; 600_000]).expect("there is room for a file");
        let (tracker, client) = runtime.block_on(async {
            let tracker = Tracker::start(env(1), config).await.expect("a tracker starts");
            let client = Client::start(env(2), client).await.expect("a client starts");
            let share = format!("upload_file {} films", shared.display());
            for line in ["create_user ann secret", "login ann secret", "create_group films", &share] {
                execute(&client, line).await;
            }
            sleep(Duration::from_secs(1)).await;
            (tracker, client)
        });
        let (_, log) = tracker.log().expect("the log is whole");
        let group = log.iter().find_map(|Kept { change, .. }| match change.body {
            ChangeBody::GroupCreated { .. } => Some(GroupId::from(change.request)),
            _ => None,
        });
        let group = group.expect("there is a group");
        let file = log.iter().find_map(|Kept { change, .. }| match &change.body {
            ChangeBody::ShareBegun { manifest, .. } => Some(FileId::of(&group, &manifest.id())),
            _ => None,
        });
        let file = file.expect("there is a share");
        Self { runtime, network, group, file, _tracker: tracker, _client: client, _folder: folder }
    }

    /// The bytes, with the group and the file in them that there are.
    fn meant(&self, script: &[u8]) -> Vec<u8> {
        let mut meant = script.to_vec();
        for (sign, id) in [(GROUP.0, self.group.0), (FILE.0, self.file.0)] {
            let mut at = 0;
            while let Some(found) = meant[at..].windows(32).position(|window| window == sign) {
                meant[at + found..at + found + 32].copy_from_slice(&id);
                at += found + 32;
            }
        }
        meant
    }

    /// All that a stranger is told who says this.
    async fn told(&self, protocol: Protocol, script: &[u8], part: usize, stays: bool) -> Vec<u8> {
        let is_peers = matches!(protocol, Protocol::Peer | Protocol::Blocks);
        let address = if is_peers { PEER } else { TRACKER };
        let stream = self.network.connect(address).await.expect("somebody listens");
        let secured = secure_dialled(stream, &identity(9), protocol).await.expect("a good handshake");
        let (from, to) = split(secured.stream);
        let (heard, said) = (hear(from), say(to, script, part, stays));
        tokio::pin!(heard, said);
        tokio::select! {
            biased;
            // Who stays is sent away.
            heard = &mut heard => heard,
            () = said => heard.await,
        }
    }
}

async fn execute(client: &Client, line: &str) {
    let Ok(Line::Run(command)) = parse(line).expect("a command").line else { panic!("{line}") };
    client.execute(command).await.expect("it is an ordinary command");
}

fn messages<M: serde::de::DeserializeOwned>(heard: &[u8]) -> Vec<M> {
    let mut wire = BytesMut::from(heard);
    let mut messages = Vec::new();
    while let Some(frame) = take_frame(&mut wire, |_| Some(usize::MAX)).expect("our own frames are well made") {
        assert_eq!(frame.kind, MESSAGE, "a stranger is sent no block");
        messages.push(read_message(&frame).expect("our own messages are well made"));
    }
    assert!(wire.is_empty(), "the last message is whole");
    messages
}

fn by_the_tracker(heard: &[u8]) {
    for (index, message) in messages::<FromTracker>(heard).into_iter().enumerate() {
        match message {
            FromTracker::Hello { session, .. } => {
                assert!(index == 0 && !matches!(session, Some(Ok(_))), "nobody has a session of ours");
            }
            _ => assert!(index > 0, "hello comes first"),
        }
    }
}

fn by_the_peer(heard: &[u8]) {
    let mut names = file_names::Listener::default();
    for message in messages::<PeerMessage<file_names::FileRef>>(heard) {
        let message = names.read(message).expect("our own names are known");
        let is_told = matches!(message, PeerMessage::Hello { .. } | PeerMessage::Leave { .. } | PeerMessage::Ping);
        assert!(is_told, "a stranger hears of a file: {message:?}");
    }
}
