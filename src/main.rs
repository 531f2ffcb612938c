//! The `p2p` binary.

fn main() {}
