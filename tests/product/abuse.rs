//! People who mean harm, at every port: who is honest does not notice, and no process dies of it.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use p2p::{
    protocol::{
        client::{Request, ToTracker},
        frame::put_message,
        peer::PeerMessage,
        version::VersionVector,
    },
    transport::{Transport as _, tcp::Tcp, tls::Protocol},
};
use rustix::process::{Resource, Rlimit, prlimit};
use tokio::{io::AsyncWriteExt as _, runtime::Runtime};

use crate::common::{Client, Process, World, eventually, free_address, noise, row, stranger, write_noise};

/// Connections with garbage, in all.
const CONNECTIONS: u32 = 10_000;
/// Longest time for anybody who trickles.
const PATIENCE: Duration = Duration::from_mins(1);
/// Descriptors left to who is to run out of them.
const SPARE: u64 = 4;
/// Times that commands are timed without a flood and beside it.
const ROUNDS: usize = 21;

/// The first bytes of a TLS hello, a request of another protocol, noise, and nothing.
fn garbage(number: u32) -> Vec<u8> {
    match number % 4 {
        0 => vec![0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3],
        1 => b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n".to_vec(),
        2 => noise(number.into(), 2000),
        _ => Vec::new(),
    }
}

/// Connects so often, with some of the connections open at a time; counts those that stood.
fn pour_garbage(address: &str, count: u32, stood: &AtomicU32) {
    let mut open = std::collections::VecDeque::new();
    for number in 0..count {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        // Whoever is cut off in the middle of it was let in before.
        let _ = stream.write_all(&garbage(number));
        stood.fetch_add(1, SeqCst);
        open.push_back(stream);
        if open.len() > 50 {
            open.pop_front();
        }
    }
}

/// Good handshakes, and rubbish after each. In the crowd some are not let in.
fn pour_rubbish_frames(address: &str, count: u8, protocol: Protocol) {
    Runtime::new().unwrap().block_on(async {
        for number in 0..count {
            if let Some(mut secured) = stranger::handshake(address, protocol, number).await {
                let _ = secured.stream.write_all(&noise(number.into(), 500)).await;
            }
        }
    });
}

#[test]
fn ten_thousand_garbage_connections_do_not_stop_an_honest_user() {
    let world = World::new(2);
    let [mut alice, mut bob] = world.group("g", ["alice", "bob"]);
    let content = write_noise(&world.path("film"), 1, 3 << 20);
    alice.ok(&format!("upload_file {} g", world.path("film").display()));
    let targets = [world.address(0).to_owned(), world.address(1).to_owned(), alice.address().to_owned()];
    let stood = AtomicU32::new(0);
    thread::scope(|scope| {
        let stood = &stood;
        let mut pourers = Vec::new();
        for target in &targets {
            pourers.push(scope.spawn(move || pour_garbage(target, CONNECTIONS / 3 + 100, stood)));
        }
        for (target, protocol) in targets.iter().zip([Protocol::Tracker, Protocol::Sync, Protocol::Peer]) {
            pourers.push(scope.spawn(move || pour_rubbish_frames(target, 50, protocol)));
        }
        let mut rounds = 0;
        while pourers.iter().any(|pourer| !pourer.is_finished()) || rounds == 0 {
            alice.ok(&format!("create_group round-{rounds}"));
            bob.ok("list_groups");
            let copies = world.folder(&format!("copies-{rounds}"));
            if rounds == 0 {
                assert!(bob.fetch("g", "film", &copies) == content);
            }
            rounds += 1;
        }
    });
    assert!(stood.load(SeqCst) >= CONNECTIONS, "{stood:?}");
    // Whoever comes now is let in at once.
    let mut carol = world.user("carol");
    carol.join(&mut alice, "g");
    assert!(carol.fetch("g", "film", &world.folder("carol")) == content);
}

fn message<M: serde::Serialize>(message: &M) -> Vec<u8> {
    let mut frame = bytes::BytesMut::new();
    put_message(message, &mut frame);
    frame.to_vec()
}

/// The header of a frame that never comes.
fn promise() -> Vec<u8> {
    message(&"x".repeat(20_000))[..10].to_vec()
}

#[test]
fn who_sends_a_byte_a_second_is_cut_off_on_every_protocol() {
    let mut world = World::without_trackers(2);
    let metrics = free_address();
    world.start_tracker_with(0, &["--metrics", &metrics]);
    world.start_tracker(1);
    let [mut alice, bob] = world.group("g", ["alice", "bob"]);
    let (tracker, peer) = (world.address(0).to_owned(), bob.address().to_owned());
    let runtime = Runtime::new().unwrap();
    let hello =
        ToTracker::Hello { version: p2p::protocol::client::VERSION, session: None, seen: VersionVector::default() };
    let peer_hello: PeerMessage = PeerMessage::Hello { version: p2p::protocol::peer::VERSION };
    let cases = [
        ("the client protocol, before hello", &tracker, Protocol::Tracker, Vec::new()),
        ("the client protocol, after hello", &tracker, Protocol::Tracker, message(&hello)),
        ("the sync protocol", &tracker, Protocol::Sync, Vec::new()),
        ("the peer protocol, before hello", &peer, Protocol::Peer, Vec::new()),
        ("the peer protocol, after hello", &peer, Protocol::Peer, message(&peer_hello)),
        ("a stream of blocks", &peer, Protocol::Blocks, Vec::new()),
    ];
    let mut slow: Vec<_> = (1..)
        .zip(cases)
        .map(|(number, (what, address, protocol, first))| {
            let address = address.clone();
            let ends = async move {
                let mut stream = stranger::handshake(&address, protocol, number).await.unwrap().stream;
                let _ = stream.write_all(&first).await;
                stranger::trickle(stream, promise(), PATIENCE).await
            };
            (what, runtime.spawn(ends))
        })
        .collect();
    for (what, address) in
        [("a tracker's handshake", tracker), ("a peer's handshake", peer), ("the page of figures", metrics)]
    {
        let ends = async move { stranger::trickle(Tcp.connect(&address).await.unwrap(), garbage(0), PATIENCE).await };
        slow.push((what, runtime.spawn(ends)));
    }
    for (what, ends) in slow {
        let lasted = runtime.block_on(ends).unwrap();
        assert!(lasted.is_some_and(|lasted| lasted < Duration::from_secs(30)), "{what}: {lasted:?}");
        alice.ok("list_groups");
    }
}

/// One user over four links, with as many requests under way as a link takes, as long as `is_on`.
async fn flood(address: String, is_on: Arc<AtomicBool>, is_over: Arc<AtomicBool>, answers: Arc<AtomicU32>) {
    let mut first = stranger::ByHand::dial(&address, 99, None).await;
    let session = first.register("mallory").await;
    let mut links = vec![first];
    for _ in 0..3 {
        links.push(stranger::ByHand::dial(&address, 99, Some(session.clone())).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for mut link in links {
        let (is_on, is_over, answers) = (Arc::clone(&is_on), Arc::clone(&is_over), Arc::clone(&answers));
        tasks.spawn(async move {
            while !is_over.load(SeqCst) {
                let count = if is_on.load(SeqCst) { 32 } else { 1 };
                link.ask_many(&Request::ListGroups { skip: 0 }, count).await;
                answers.fetch_add(count, SeqCst);
                if count == 1 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
    }
    tasks.join_all().await;
}

/// How long so many commands take, one after the other.
fn time(client: &mut Client, commands: u32) -> Duration {
    let begun = Instant::now();
    for _ in 0..commands {
        client.ok("list_groups");
    }
    begun.elapsed()
}

#[test]
fn a_flood_by_one_user_leaves_others_four_fifths_of_their_throughput() {
    let world = World::new(1);
    let mut alice = world.user("alice");
    for n in 0..20 {
        alice.ok(&format!("create_group group-{n}"));
    }
    let runtime = Runtime::new().unwrap();
    let [is_on, is_over] = [true, false].map(|is_so| Arc::new(AtomicBool::new(is_so)));
    let answers = Arc::new(AtomicU32::new(0));
    let address = world.address(0).to_owned();
    let begun = Instant::now();
    let flooding = runtime.spawn(flood(address, Arc::clone(&is_on), Arc::clone(&is_over), Arc::clone(&answers)));
    // What was saved up is spent first: 2,000 units, and a listing costs four.
    eventually("the flood is held to its rate", || (answers.load(SeqCst) > 600).then_some(()));
    // What else the machine does disturbs rounds with and without the flood alike, so that the median tells.
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            is_on.store(false, SeqCst);
            let alone = time(&mut alice, 40);
            is_on.store(true, SeqCst);
            let beside = time(&mut alice, 40);
            alone.as_secs_f64() / beside.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    is_over.store(true, SeqCst);
    runtime.block_on(flooding).unwrap();
    let most = 2000.0 + 1000.0 * begun.elapsed().as_secs_f64() + 500.0;
    assert!(f64::from(answers.load(SeqCst)) * 4.0 <= most, "{answers:?} answers, {most} units");
    assert!(ratios[ROUNDS / 2] >= 0.8, "{ratios:?}");
}

fn descriptors(process: &Process) -> u64 {
    fs::read_dir(format!("/proc/{}/fd", process.id().as_raw_nonzero())).unwrap().count() as u64
}

/// Connects to a process, which may have a few descriptors beside the least that it was seen to have open, until it says that it has
/// none left; returns the connections.
fn starve(process: &Process, address: &str) -> Vec<TcpStream> {
    let (mut held, mut least) = (Vec::new(), u64::MAX);
    eventually("it is out of descriptors", || {
        // What it had open for a moment only is not counted: some time there was less.
        least = least.min(descriptors(process));
        let limit = Rlimit { current: Some(least + SPARE), maximum: Some(least + SPARE) };
        prlimit(Some(process.id()), Resource::Nofile, limit).unwrap();
        held.extend(hold_open(address, 50));
        process.log().contains("cannot accept").then_some(())
    });
    held
}

/// Opens connections until there are so many, and keeps them.
fn hold_open(address: &str, count: usize) -> Vec<TcpStream> {
    (0..count).map_while(|_| TcpStream::connect(address).ok()).collect()
}

#[test]
fn a_tracker_and_a_client_out_of_descriptors_live_on_and_serve_again() {
    let mut world = World::new(1);
    let mut alice = Client::start(&world, "alice", &[], &["--log", "warn"]);
    alice.register();
    alice.ok("create_group g");
    let content = write_noise(&world.path("film"), 1, 3 << 20);
    alice.ok(&format!("upload_file {} g", world.path("film").display()));
    let address = world.address(0).to_owned();
    let mut held = starve(world.tracker(0), &address);
    held.extend(starve(&alice.process, alice.address()));
    let told = alice.event("she is told", |event| event["event"] == "cannot_accept");
    assert!(told["error"]["message"].as_str().is_some_and(|message| message.contains("ulimit")), "{told}");
    // Nothing is asked of them while it lasts, but to live.
    held.extend([address.as_str(), alice.address()].iter().flat_map(|address| hold_open(address, 200)));
    thread::sleep(Duration::from_secs(2));
    assert!(world.tracker(0).is_running() && alice.process.is_running());
    drop(held);
    alice.until("the tracker answers again", "list_groups", |answer| answer["ok"] == true);
    let mut bob = world.user("bob");
    bob.join(&mut alice, "g");
    assert!(bob.fetch("g", "film", &world.folder("bob")) == content);
    assert!(row(&alice.ok("show_shares"), "shares", "film")["suspended"].is_null());
}
