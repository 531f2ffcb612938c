//! Two trackers, synchronized, with a town of accounts on them: what is loaded in the scenarios about trackers.

pub(super) mod census;
pub(super) mod cluster;
pub(super) mod crowd;
pub(super) mod idle;
pub(super) mod line;
pub(super) mod lookups;
pub(super) mod meter;
pub(super) mod presence;
pub(super) mod writes;
