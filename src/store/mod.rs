//! What rests: the disk seam, and the durable state of both roles on it.

pub mod client;
pub mod content;
pub mod database;
pub mod disk;
pub mod hasher;
mod small_file;
pub mod tracker;
