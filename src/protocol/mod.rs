//! What travels and rests: identities, names, manifests, tickets, messages, limits, errors. No I/O; knows nothing above it.

pub mod bitfield;
pub mod client;
pub mod device;
pub mod error;
pub mod file_names;
pub mod frame;
pub mod hash;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod peer;
pub mod piece;
pub mod readmission;
pub mod record;
mod sha1_sum;
pub mod sync;
mod text;
pub mod ticket;
pub mod tracker_info;
pub mod version;
