//! The TLS handshake with whoever shows a key that is not theirs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| p2p_fuzz::handshake_key(bytes));
