//! p2p: groups of people move large files among their own machines.

pub mod protocol;
