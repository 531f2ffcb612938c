//! What travels and rests: identities, names, manifests, tickets, messages, limits, errors. No I/O; knows nothing above it.

pub mod bitfield;
pub mod device;
pub mod error;
pub mod hash;
pub mod ids;
pub mod manifest;
pub mod name;
pub mod piece;
pub mod version;
