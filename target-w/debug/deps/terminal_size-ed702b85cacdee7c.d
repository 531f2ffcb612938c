/tmp/six/target-w/debug/deps/terminal_size-ed702b85cacdee7c.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/terminal_size-0.4.4/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/terminal_size-0.4.4/src/unix.rs

/tmp/six/target-w/debug/deps/libterminal_size-ed702b85cacdee7c.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/terminal_size-0.4.4/src/lib.rs /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/terminal_size-0.4.4/src/unix.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/terminal_size-0.4.4/src/lib.rs:
/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/terminal_size-0.4.4/src/unix.rs:
