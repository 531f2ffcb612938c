//! The TLS handshake with strangers, and with somebody in between.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| p2p_fuzz::handshake(bytes));
