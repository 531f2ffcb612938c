/tmp/six/target-w/debug/deps/equivalent-9d76e0ced2f4fa0b.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/equivalent-1.0.3/src/lib.rs

/tmp/six/target-w/debug/deps/libequivalent-9d76e0ced2f4fa0b.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/equivalent-1.0.3/src/lib.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/equivalent-1.0.3/src/lib.rs:
