//! Names of hosts, from tables: they live as long as the program.

/// A host's name.
pub(crate) type Name = &'static str;

const TRACKERS: [Name; 5] = ["tracker1", "tracker2", "tracker3", "tracker4", "tracker5"];

#[rustfmt::skip]
const PEERS: [Name; 64] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi",
    "ivan", "judy", "kim", "leo", "mallory", "nina", "olivia", "peggy",
    "quentin", "rupert", "sybil", "trent", "ursula", "victor", "wendy", "xavier",
    "yvonne", "zoe", "adam", "bella", "cyril", "dora", "emil", "fiona",
    "gustav", "hanna", "igor", "jana", "karl", "lena", "milo", "nora",
    "otto", "paula", "quirin", "rosa", "stefan", "tilda", "ulrich", "vera",
    "walter", "xenia", "yuri", "zelda", "anton", "berta", "conrad", "doris",
    "edgar", "frieda", "georg", "hilda", "isaac", "jutta", "kaspar", "lisbet",
];

/// The `index`-th tracker, from 0.
pub(crate) fn tracker_name(index: usize) -> Name {
    TRACKERS[index]
}

/// The `index`-th peer, from 0.
pub(crate) fn peer_name(index: usize) -> Name {
    PEERS[index]
}
