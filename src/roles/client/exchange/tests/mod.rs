//! Clients that share and download for real: links, disk and hashing, on a network and with a tracker in memory, on a
//! clock that stands still while anybody has something to do.

mod stranger;
mod streams;
mod town;
mod troubled;

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use stranger::{Heard, Vice, knock, linger, refuse, rejoin, seed_badly, shattered};
use tokio::time::{Instant, sleep};
use town::{Client, Town, content, group, name};

use crate::{
    protocol::{
        device::DeviceSecret,
        error::ErrorCode,
        limits::MAX_REQUESTED_BLOCKS,
        peer::PeerMessage,
        piece::{Block, PieceIndex},
    },
    roles::client::command::{Direction, DownloadState, Event, PeerRow, Rate, Reply, ShareRow},
};

const PIECE: usize = 512 * 1024;
const MIB: u64 = 1 << 20;

async fn shares(client: &Client) -> Vec<ShareRow> {
    let Reply::Shares(rows) = client.exchange.show_shares().await else { panic!() };
    rows
}

async fn uploaded(client: &Client) -> u64 {
    shares(client).await.iter().map(|row| row.uploaded).sum()
}

async fn peers(client: &Client, file: &str) -> Vec<PeerRow> {
    let Ok(Reply::Peers(rows)) = client.exchange.show_peers(group(), name(file)).await else { panic!() };
    rows
}

/// The next event that `pick` picks.
async fn event<T>(client: &mut Client, pick: impl Fn(&Event) -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(picked) = pick(&client.events.recv().await.unwrap()) {
                return picked;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(10), wait).await.expect("the event comes")
}

#[tokio::test(start_paused = true)]
async fn files_of_all_sizes_arrive_as_they_are() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    for (file, size) in
        [("empty", 0), ("one", 1), ("a piece", PIECE), ("ä bit more", PIECE + 1), ("several", 9 * PIECE + 7)]
    {
        ann.upload(&town.write(file, size)).await;
        bob.fetch(file, size).await;
    }
    assert_eq!(bob.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn one_file_comes_from_many_peers_at_once_and_is_shared_on() {
    let town = Town::start().await;
    let (ann, bob, cid) = (town.client("ann").await, town.client("bob").await, town.client("cid").await);
    let size = 40 * PIECE + 11;
    ann.upload(&town.write("file", size)).await;
    for other in [&bob, &cid] {
        other.fetch("file", size).await;
    }
    let before = (uploaded(&ann).await, uploaded(&bob).await, uploaded(&cid).await);
    let dan = town.client("dan").await;
    dan.fetch("file", size).await;
    let after = (uploaded(&ann).await, uploaded(&bob).await, uploaded(&cid).await);
    assert!(after.0 > before.0 && after.1 > before.1 && after.2 > before.2, "{before:?} {after:?}");
    assert_eq!(shares(&dan).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_liar_is_banned_and_its_pieces_come_from_elsewhere() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let size = 30 * PIECE;
    let file = ann.upload(&town.write("file", size)).await;
    seed_badly(&town, "eve", file, Vice::Lies).await;
    bob.fetch("file", size).await;
    let eve = peers(&bob, "file").await.into_iter().find(|row| row.user.as_str() == "eve").unwrap();
    assert_eq!(eve.state, "banned");
}

#[tokio::test(start_paused = true)]
async fn with_liars_only_the_download_fails_for_integrity() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let file = ann.upload(&town.write("file", 3 * PIECE)).await;
    ann.exchange.logged_out().await;
    seed_badly(&town, "eve", file, Vice::Lies).await;
    bob.download("file").await;
    assert_eq!(bob.wait().await.unwrap_err().code, ErrorCode::Integrity);
    assert_eq!(bob.rows().await[0].state, DownloadState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_piece_of_the_right_sha1_is_not_passed_off_for_another() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let path = town.write("file", 3 * PIECE);
    std::fs::write(&path, shattered(0, 3 * PIECE)).unwrap();
    let file = ann.upload(&path).await;
    ann.exchange.logged_out().await;
    seed_badly(&town, "eve", file, Vice::Collides).await;
    bob.download("file").await;
    assert_eq!(bob.wait().await.unwrap_err().code, ErrorCode::Integrity);
    assert!(!bob.folder.join("file").exists());
}

#[tokio::test(start_paused = true)]
async fn two_files_of_one_sha1_are_two_files() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let mut files = Vec::new();
    for (index, name) in ["one", "other"].into_iter().enumerate() {
        let path = town.write(name, 2 * PIECE);
        std::fs::write(&path, shattered(index, 2 * PIECE)).unwrap();
        files.push(ann.upload(&path).await);
    }
    let [one, other] = [town.file(files[0]), town.file(files[1])];
    assert_eq!(one.sha1, other.sha1, "this is what was broken");
    assert_ne!(one.blake3, other.blake3);
    for (index, name) in ["one", "other"].into_iter().enumerate() {
        let path = bob.download(name).await;
        bob.wait().await.unwrap();
        assert!(std::fs::read(&path).unwrap() == shattered(index, 2 * PIECE), "{name} differs");
    }
}

#[tokio::test(start_paused = true)]
async fn a_liar_that_hangs_up_before_it_is_found_out_is_banned_all_the_same() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let file = ann.upload(&town.write("file", 3 * PIECE)).await;
    ann.exchange.logged_out().await;
    seed_badly(&town, "eve", file, Vice::LiesAndHangsUp).await;
    bob.download("file").await;
    assert_eq!(bob.wait().await.unwrap_err().code, ErrorCode::Integrity);
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_has_counts_though_it_is_said_before_the_ticket_is_checked() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let file = ann.upload(&town.write("file", 3 * PIECE)).await;
    ann.exchange.logged_out().await;
    seed_badly(&town, "eve", file, Vice::LiesInTwoWords).await;
    bob.download("file").await;
    assert_eq!(bob.wait().await.unwrap_err().code, ErrorCode::Integrity, "it was asked, and found out");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_thousands_of_blocks_at_once_loses_the_link() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let file = ann.upload(&town.write("file", PIECE)).await;
    sleep(Duration::from_secs(1)).await;
    let address = peers(&bob, "file").await[0].address.clone();
    let (mut reader, mut writer) = linger(&town, &DeviceSecret::from_seed([66; 32]), &address).await;
    let block = Block { piece: PieceIndex(0), offset: 0, length: 1024 };
    let mut request = async |count| writer.send(&PeerMessage::Request { file, blocks: vec![block; count] }).await;
    request(MAX_REQUESTED_BLOCKS).await.unwrap();
    let mut heard = async || reader.message::<Heard>().await;
    assert!(matches!(heard().await, Ok(Some(PeerMessage::Hello { .. }))));
    assert!(
        matches!(heard().await, Ok(Some(PeerMessage::Reject { blocks, .. })) if blocks.len() == MAX_REQUESTED_BLOCKS)
    );
    request(MAX_REQUESTED_BLOCKS + 1).await.unwrap();
    assert!(!matches!(heard().await, Ok(Some(_))), "the link has ended");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_peer_holds_nobody_up() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let size = 30 * PIECE;
    let file = ann.upload(&town.write("file", size)).await;
    seed_badly(&town, "eve", file, Vice::Stalls).await;
    let begin = Instant::now();
    bob.fetch("file", size).await;
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_download_waits_for_a_seeder_and_says_so() {
    let town = Town::start().await;
    let (ann, mut bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", PIECE)).await;
    ann.exchange.logged_out().await;
    sleep(Duration::from_secs(1)).await;
    let reply = bob.exchange.download_file(group(), name("file"), &bob.folder.clone()).await.unwrap();
    assert!(matches!(reply, Reply::DownloadStarted { waiting: true, .. }), "{reply:?}");
    let stalled = event(&mut bob, |event| match event {
        Event::DownloadStalled(row) => Some(row.clone()),
        _ => None,
    });
    assert_eq!(stalled.await.error.unwrap().code, ErrorCode::NoSeeders);
    assert_eq!(bob.rows().await[0].state, DownloadState::Downloading);
    assert_eq!(ann.exchange.logged_in().await.unwrap().shares, 1);
    bob.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_a_restart_is_not_fetched_again() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let size = 16 * PIECE;
    ann.upload(&town.write("file", size)).await;
    bob.exchange.set_limit(Direction::Down, Rate(MIB)).await;
    let path = bob.download("file").await;
    sleep(Duration::from_millis(3500)).await;
    let have = bob.rows().await[0].have;
    assert!(have > 0 && have < size as u64, "{have}");
    assert!(!path.exists());
    bob.stop().await;
    let sent = uploaded(&ann).await;

    let bob = town.client("bob").await;
    assert_eq!(bob.resumed.downloads, 1);
    bob.wait().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == content(size));
    let sent_again = uploaded(&ann).await - sent;
    assert!(sent_again <= size as u64 - have, "{sent_again} of {}", size as u64 - have);
    assert_eq!(bob.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_resting_piece_that_was_changed_is_fetched_again() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let size = 16 * PIECE;
    ann.upload(&town.write("file", size)).await;
    bob.exchange.set_limit(Direction::Down, Rate(MIB)).await;
    let path = bob.download("file").await;
    sleep(Duration::from_millis(3500)).await;
    let partial = bob.folder.join(&bob.leftovers()[0]);
    bob.stop().await;
    let mut resting = std::fs::read(&partial).unwrap();
    resting[PIECE + 5] ^= 1;
    std::fs::write(&partial, &resting).unwrap();

    let sent = uploaded(&ann).await;
    let bob = town.client("bob").await;
    bob.wait().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == content(size));
    assert!(uploaded(&ann).await - sent < size as u64);
}

#[tokio::test(start_paused = true)]
async fn limits_hold() {
    let town = Town::start().await;
    let (ann, bob, cid) = (town.client("ann").await, town.client("bob").await, town.client("cid").await);
    let size = 8 * MIB;
    ann.upload(&town.write("file", usize::try_from(size).unwrap())).await;
    ann.exchange.set_limit(Direction::Up, Rate(2 * MIB)).await;
    sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    bob.fetch("file", usize::try_from(size).unwrap()).await;
    let took = begin.elapsed().as_secs_f64();
    assert!((3.7..4.6).contains(&took), "{took}");
    ann.exchange.set_limit(Direction::Up, Rate(0)).await;
    cid.exchange.set_limit(Direction::Down, Rate(MIB)).await;
    let begin = Instant::now();
    cid.fetch("file", usize::try_from(size).unwrap()).await;
    let took = begin.elapsed().as_secs_f64();
    assert!((7.4..9.0).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_download_goes_on_at_the_lowest_limits() {
    let town = Town::start().await;
    let (ann, bob, cid) = (town.client("ann").await, town.client("bob").await, town.client("cid").await);
    for (file, size, rate, most_s) in [("small", 3 << 17, 1 << 10, 300), ("large", 10 << 17, 1 << 14, 90)] {
        ann.upload(&town.write(file, size)).await;
        bob.fetch(file, size).await;
        cid.exchange.set_limit(Direction::Down, Rate(rate)).await;
        let begin = Instant::now();
        cid.fetch(file, size).await;
        assert!(begin.elapsed() < Duration::from_secs(most_s), "{:?}", begin.elapsed());
        cid.exchange.set_limit(Direction::Down, Rate(0)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_lifted_holds_back_nothing_any_more() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", 4 * PIECE)).await;
    for (client, direction) in [(&ann, Direction::Up), (&bob, Direction::Down)] {
        client.exchange.set_limit(direction, Rate(1)).await;
    }
    bob.download("file").await;
    sleep(Duration::from_secs(20)).await;
    let begin = Instant::now();
    for (client, direction) in [(&ann, Direction::Up), (&bob, Direction::Down)] {
        client.exchange.set_limit(direction, Rate(0)).await;
    }
    bob.wait().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_never_served_and_a_restored_one_is_again() {
    let town = Town::start().await;
    let (mut ann, bob) = (town.client("ann").await, town.client("bob").await);
    let size = 4 * PIECE;
    let path = town.write("file", size);
    ann.upload(&path).await;
    std::fs::write(&path, vec![1; size]).unwrap();
    bob.download("file").await;
    let suspended = event(&mut ann, |event| match event {
        Event::ShareSuspended(share) => Some(share.path.clone()),
        _ => None,
    });
    assert_eq!(suspended.await, path);
    assert_eq!(bob.rows().await[0].have, 0);
    assert!(shares(&ann).await[0].suspended.is_some());
    std::fs::write(&path, content(size)).unwrap();
    bob.wait().await.unwrap();
    assert_eq!(shares(&ann).await[0].suspended, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_to_who_is_no_member() {
    let town = Town::start().await;
    let ann = town.client("ann").await;
    let file = ann.upload(&town.write("file", 2 * PIECE)).await;
    let address = {
        let bob = town.client("bob").await;
        sleep(Duration::from_secs(1)).await;
        peers(&bob, "file").await[0].address.clone()
    };
    let block = Block { piece: PieceIndex(0), offset: 0, length: 1024 };
    let eve = DeviceSecret::from_seed([66; 32]);
    let mallory = DeviceSecret::from_seed([67; 32]);
    // Another device's ticket, and the ticket of a member who has been removed.
    let stolen = town.ticket("bob", mallory.key());
    let outdated = town.ticket("zoe", eve.key());
    let welcome = knock(&town, &eve, &address, file, town.ticket("eve", eve.key()), block).await;
    assert!(welcome.iter().any(|message| matches!(message, PeerMessage::Join { pieces: Some(_), .. })), "{welcome:?}");
    town.cast_out("zoe");
    sleep(Duration::from_secs(1)).await;
    for ticket in [stolen, outdated] {
        let heard = knock(&town, &eve, &address, file, ticket, block).await;
        assert!(matches!(heard[0], PeerMessage::Hello { .. }), "{heard:?}");
        let PeerMessage::Leave { reason: Some(reason), .. } = &heard[1] else { panic!("{heard:?}") };
        assert_eq!(reason.code, ErrorCode::NotAMember);
        assert!(
            heard.iter().all(|it| !matches!(it, PeerMessage::Join { .. } | PeerMessage::Pieces { .. })),
            "{heard:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_former_member_is_served_no_more() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", 16 * PIECE)).await;
    ann.exchange.set_limit(Direction::Up, Rate(MIB)).await;
    bob.download("file").await;
    sleep(Duration::from_secs(3)).await;
    town.cast_out("bob");
    sleep(Duration::from_millis(500)).await;
    let have = bob.rows().await[0].have;
    assert!(have > 0);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(bob.rows().await[0].have, have);
}

#[tokio::test(start_paused = true)]
async fn who_is_logged_out_elsewhere_is_served_no_more() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", 16 * PIECE)).await;
    ann.exchange.set_limit(Direction::Up, Rate(MIB)).await;
    bob.download("file").await;
    sleep(Duration::from_secs(3)).await;
    // Bob's own link is not told: a hostile client would not heed it.
    town.end_sessions("bob");
    sleep(Duration::from_millis(500)).await;
    let have = bob.rows().await[0].have;
    assert!(have > 0);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(bob.rows().await[0].have, have);
}

#[tokio::test(start_paused = true)]
async fn a_seeder_that_comes_back_is_dialled_at_once() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", 16 * PIECE)).await;
    ann.exchange.set_limit(Direction::Up, Rate(MIB)).await;
    bob.download("file").await;
    sleep(Duration::from_secs(2)).await;
    ann.stop().await;
    // Long enough for failed dials, whose pauses grow.
    sleep(Duration::from_mins(3)).await;
    let have = bob.rows().await[0].have;
    let _ann = town.client("ann").await;
    let begin = Instant::now();
    bob.wait().await.unwrap();
    assert!(have > 0 && begin.elapsed() < Duration::from_secs(5), "{have} {:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn many_files_go_over_one_link() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let begin = Instant::now();
    for index in 0..300 {
        let file = format!("file {index}");
        ann.upload(&town.write(&file, 1 + index)).await;
        bob.fetch(&file, 1 + index).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(90), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_shows_no_ticket_keeps_no_member_out() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", PIECE)).await;
    sleep(Duration::from_secs(1)).await;
    let address = peers(&bob, "file").await[0].address.clone();
    let mut strangers = Vec::new();
    for index in 0..110 {
        strangers.push(linger(&town, &DeviceSecret::from_seed([index; 32]), &address).await);
    }
    sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    bob.fetch("file", PIECE).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_share_stays_one_while_the_process_is_out_of_descriptors() {
    let town = Town::start().await;
    let (mut ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", 3 * PIECE)).await;
    let out_of_descriptors = |is_so| ann.disk.starved.store(is_so, Ordering::SeqCst);
    out_of_descriptors(true);
    bob.download("file").await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(bob.rows().await[0].state, DownloadState::Downloading);
    assert_eq!(shares(&ann).await[0].suspended, None);
    out_of_descriptors(false);
    let begin = Instant::now();
    assert_eq!(bob.wait().await.unwrap()[0].state, DownloadState::Complete);
    assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", begin.elapsed());
    let told = std::iter::from_fn(|| ann.events.try_recv().ok());
    assert!(told.into_iter().all(|event| !matches!(event, Event::ShareSuspended(_))), "the file has not changed");
}

#[tokio::test(start_paused = true)]
async fn who_says_no_hello_is_soon_gone() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", PIECE)).await;
    sleep(Duration::from_secs(1)).await;
    let address = peers(&bob, "file").await[0].address.clone();
    let lasted = stranger::say_nothing(&town, &DeviceSecret::from_seed([66; 32]), &address).await;
    assert!(lasted < Duration::from_secs(8), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_join_refused_for_its_ticket_may_be_repeated_with_a_good_one() {
    let town = Town::start().await;
    let ann = town.client("ann").await;
    let size = 4 * PIECE;
    let file = ann.upload(&town.write("file", size)).await;
    ann.exchange.set_limit(Direction::Up, Rate(MIB)).await;
    let bob = town.client("bob").await;
    bob.download("file").await;
    sleep(Duration::from_secs(1)).await;
    let address = peers(&ann, "file").await[0].address.clone();
    let eve = DeviceSecret::from_seed([66; 32]);
    let bad = town.ticket("bob", DeviceSecret::from_seed([67; 32]).key());
    let good = town.ticket("eve", eve.key());
    town.announce("eve", eve.key(), "nowhere:1", file);
    let heard = rejoin(&town, &eve, &address, file, [good.clone(), bad, good]).await;
    let joins = heard.iter().filter(|it| matches!(it, PeerMessage::Join { pieces: Some(_), .. })).count();
    assert_eq!(joins, 2, "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn who_refuses_good_tickets_costs_the_tracker_few() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let file = ann.upload(&town.write("file", PIECE)).await;
    sleep(Duration::from_secs(1)).await;
    let address = peers(&bob, "file").await[0].address.clone();
    let eve = DeviceSecret::from_seed([66; 32]);
    let refused = refuse(&town, &eve, &address, file, town.ticket("eve", eve.key())).await;
    assert!(refused > 50, "{refused}");
    assert!(town.tickets_given() < 10, "{}", town.tickets_given());
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_was_told_of_is_found_when_the_ticket_is_shown() {
    let town = Town::start().await;
    let ann = town.client("ann").await;
    let file = ann.upload(&town.write("file", 2 * PIECE)).await;
    let address = {
        let bob = town.client("bob").await;
        sleep(Duration::from_secs(1)).await;
        peers(&bob, "file").await[0].address.clone()
    };
    let block = Block { piece: PieceIndex(0), offset: 0, length: 1024 };
    let zoe = DeviceSecret::from_seed([66; 32]);
    town.cast_out_unheard("zoe");
    let heard = knock(&town, &zoe, &address, file, town.ticket("zoe", zoe.key()), block).await;
    assert!(!heard.iter().any(|message| matches!(message, PeerMessage::Join { .. })), "it is told nothing: {heard:?}");
    let left = heard.iter().any(|message| {
        matches!(message, PeerMessage::Leave { reason: Some(reason), .. } if reason.code == ErrorCode::NotAMember)
    });
    assert!(left, "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_download_is_paused_resumed_and_cancelled() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let size = 16 * PIECE;
    ann.upload(&town.write("file", size)).await;
    ann.exchange.set_limit(Direction::Up, Rate(MIB)).await;
    let path = bob.download("file").await;
    sleep(Duration::from_secs(2)).await;
    bob.exchange.pause_download(group(), name("file")).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let paused = bob.rows().await.remove(0);
    assert_eq!((paused.state, paused.have > 0), (DownloadState::Paused, true));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bob.rows().await[0].have, paused.have);
    bob.exchange.resume_download(group(), name("file")).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert!(bob.rows().await[0].have > paused.have);
    bob.exchange.cancel_download(group(), name("file")).await.unwrap();
    assert_eq!((bob.rows().await.len(), bob.leftovers().len(), path.exists()), (0, 0, false));
    let gone = bob.exchange.pause_download(group(), name("file")).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NoSuchDownload);
}

#[tokio::test(start_paused = true)]
async fn a_link_planted_at_the_destination_leads_nowhere() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", PIECE)).await;
    let victim = bob.folder.join("victim");
    for is_there in [false, true] {
        if is_there {
            std::fs::write(&victim, b"mine").unwrap();
        }
        let link = bob.folder.join(format!("link {is_there}"));
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        let code = match bob.exchange.download_file(group(), name("file"), &link).await {
            Ok(_) => bob.wait().await.unwrap_err().code,
            Err(refused) => refused.code,
        };
        assert_eq!(code, ErrorCode::DestinationExists);
        assert_eq!(std::fs::read(&victim).ok(), is_there.then(|| b"mine".to_vec()));
        let _ = bob.exchange.cancel_download(group(), name("file")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn destinations_are_checked_and_never_overwritten() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    ann.upload(&town.write("file", 8 * PIECE)).await;
    let refused = async |to: &Path| bob.exchange.download_file(group(), name("file"), to).await.unwrap_err().code;
    let taken = bob.folder.join("taken");
    std::fs::write(&taken, b"mine").unwrap();
    assert_eq!(refused(&taken).await, ErrorCode::DestinationExists);
    std::fs::write(bob.folder.join("file"), b"mine").unwrap();
    let named = bob.exchange.download_file(group(), name("file"), &bob.folder).await.unwrap_err();
    assert!(named.message.starts_with(&*bob.folder.join("file").to_string_lossy()), "{named}");
    std::fs::remove_file(bob.folder.join("file")).unwrap();
    assert_eq!(refused(Path::new("")).await, ErrorCode::EmptyPath);
    assert_eq!(refused(&bob.folder.join("missing/file")).await, ErrorCode::Io);
    let gone = bob.exchange.download_file(group(), name("nothing"), &bob.folder).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NoSuchFile);

    ann.exchange.set_limit(Direction::Up, Rate(MIB)).await;
    let path = bob.download("file").await;
    assert_eq!(refused(&bob.folder.join("other")).await, ErrorCode::AlreadyDownloading);
    std::fs::write(&path, b"mine").unwrap();
    assert_eq!(bob.wait().await.unwrap_err().code, ErrorCode::DestinationExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    let sent = uploaded(&ann).await;
    std::fs::remove_file(&path).unwrap();
    bob.exchange.resume_download(group(), name("file")).await.unwrap();
    bob.wait().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == content(8 * PIECE));
    assert_eq!(uploaded(&ann).await, sent);
}

#[tokio::test(start_paused = true)]
async fn uploads_are_checked() {
    let town = Town::start().await;
    let ann = town.client("ann").await;
    let path = town.write("file", 100);
    ann.upload(&path).await;
    let refused = async |path: &Path| ann.exchange.upload_file(path, group()).await.unwrap_err().code;
    assert_eq!(refused(&path).await, ErrorCode::AlreadyShared);
    assert_eq!(refused(Path::new("")).await, ErrorCode::EmptyPath);
    assert_eq!(refused(town.folder.path()).await, ErrorCode::IsDirectory);
    assert_eq!(refused(&town.folder.path().join("nothing")).await, ErrorCode::NotReadable);
    ann.exchange.stop_share(group(), name("file")).await.unwrap();
    assert_eq!(ann.exchange.stop_share(group(), name("file")).await.unwrap_err().code, ErrorCode::NotShared);
    assert_eq!(shares(&ann).await, []);
    ann.upload(&path).await;
}

#[tokio::test(start_paused = true)]
async fn shares_come_back_after_a_restart() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    for file in ["same", "changed"] {
        ann.upload(&town.write(file, 2 * PIECE)).await;
    }
    ann.stop().await;
    town.write("changed", PIECE);
    let ann = town.client("ann").await;
    assert_eq!((ann.resumed.shares, ann.resumed.suspended.len()), (1, 1));
    assert!(ann.resumed.suspended[0].path.ends_with("changed"));
    bob.fetch("same", 2 * PIECE).await;
}

#[tokio::test(start_paused = true)]
async fn damage_is_named_and_repaired() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let size = 6 * PIECE + 5;
    ann.upload(&town.write("file", size)).await;
    let path = bob.download("file").await;
    bob.wait().await.unwrap();
    let sent = uploaded(&ann).await;
    let mut damaged = content(size);
    damaged[3 * PIECE + 9] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let reply = bob.exchange.verify_file(group(), name("file")).await.unwrap();
    assert_eq!(reply, Reply::Verified { pieces: 7, damaged: vec![3] });
    bob.wait().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == content(size));
    assert_eq!(uploaded(&ann).await - sent, PIECE as u64);
    assert_eq!(shares(&bob).await[0].suspended, None);
    assert_eq!(bob.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_repair_spares_a_file_that_came_after_the_damaged_one_was_compared() {
    let town = Town::start().await;
    let (ann, bob) = (town.client("ann").await, town.client("bob").await);
    let size = 3 * PIECE + 5;
    ann.upload(&town.write("file", size)).await;
    let path = bob.download("file").await;
    bob.wait().await.unwrap();
    std::fs::write(&path, content(size - 1)).unwrap();
    let (another, place) = (bob.folder.join("another"), path.clone());
    std::fs::write(&another, "somebody's").unwrap();
    bob.disk.before_exchange(move || std::fs::rename(another, place).unwrap());
    bob.exchange.verify_file(group(), name("file")).await.unwrap();
    assert_eq!(bob.wait().await.unwrap_err().code, ErrorCode::DestinationExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
    // Nothing that was fetched is lost, either.
    std::fs::rename(&path, bob.folder.join("elsewhere")).unwrap();
    let sent = uploaded(&ann).await;
    bob.exchange.resume_download(group(), name("file")).await.unwrap();
    bob.wait().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == content(size));
    assert_eq!((uploaded(&ann).await, bob.leftovers()), (sent, Vec::<String>::new()));
}
