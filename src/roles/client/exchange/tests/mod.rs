//! Clients that share and download for real: links, disk and hashing, on a network and with a tracker in memory, on a
//! clock that stands still while anybody has something to do.

#[allow(dead_code, reason = "more tests follow")]
mod town;

use town::Town;

const PIECE: usize = 512 * 1024;

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
