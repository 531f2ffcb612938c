//! The transport's contract, the same that TCP fulfils, over the simulated network.

use std::sync::Arc;

use p2p::transport::{Listener, Stream, Transport, link, tls};

use crate::{net::SimNetwork, scenario::alone};

#[path = "../../src/transport/contract.rs"]
mod suite;

#[test]
fn contract_in_simulation() {
    let _alone = alone();
    for seed in 0..3 {
        let mut sim = turmoil::Builder::new().rng_seed(seed).build();
        let ip = sim.lookup("host");
        sim.client("host", async move {
            suite::suite(Arc::new(SimNetwork::new(ip, Arc::default()))).await;
            Ok(())
        });
        sim.run().unwrap();
    }
}
