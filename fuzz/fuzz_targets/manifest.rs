//! Manifest headers and pages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| p2p_fuzz::manifest(bytes));
