//! Shares and downloads in a client's library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| p2p_fuzz::library_record(bytes));
