//! What clients send to trackers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| p2p_fuzz::to_tracker(bytes));
