//! The task behind the link.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Ask, LinkSetup, Shared};
use crate::{
    protocol::error::{ErrorCode, Failure},
    roles::environment::Environment,
};

pub(super) async fn run(env: Environment, _setup: LinkSetup, _shared: Arc<Shared>, mut asks: mpsc::Receiver<Ask>) {
    loop {
        tokio::select! {
            biased;
            () = env.shutdown.cancelled() => return,
            Some(ask) = asks.recv() => {
                let _ = ask.reply.send(Err(Failure::new(ErrorCode::NoTracker, "No tracker can be reached.")));
            }
        }
    }
}
