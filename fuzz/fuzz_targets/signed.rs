//! Signed statements, and the tickets and sessions in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| p2p_fuzz::signed(bytes));
