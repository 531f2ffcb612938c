//! Version vectors, as they travel and rest.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| p2p_fuzz::version_vector(bytes));
