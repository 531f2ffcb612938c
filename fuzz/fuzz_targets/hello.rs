//! What strangers hear behind a good handshake.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| p2p_fuzz::hello(bytes));
