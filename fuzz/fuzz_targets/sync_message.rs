//! What trackers send each other, and the catalog made of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| p2p_fuzz::sync_message(bytes));
