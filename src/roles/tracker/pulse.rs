//! Five times a second: what became known of presence goes out, coalesced, and what is over falls.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::node::Node;
use crate::protocol::sync::{DevicePresence, SyncMessage};

const PERIOD: Duration = Duration::from_millis(200);
/// Weight of one message about presence: files and devices, each some 100 bytes; keeps a frame well under its limit.
const MAX_WEIGHT: usize = 5000;

/// Runs until the role stops.
pub(super) async fn run(node: Arc<Node>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = node.env.shutdown.cancelled() => return,
            now = ticks.tick() => beat(&node, now),
        }
    }
}

fn beat(node: &Node, now: Instant) {
    let mut state = node.state();
    state.presence.expire(now);
    for (link, file) in state.presence.take_changed() {
        state.clients.note_swarm(link, file);
    }
    state.clients.tell_swarms();
    if let Some(attempts) = state.throttle.take_news() {
        state.trackers.send_all(&SyncMessage::Attempts(attempts));
    }
    for message in messages(state.presence.take_untold()) {
        state.trackers.send_all(&message);
    }
}

/// Presence in messages that fit a frame.
pub(super) fn messages(said: Vec<DevicePresence>) -> Vec<SyncMessage> {
    let (mut messages, mut part, mut weight) = (Vec::new(), Vec::new(), 0);
    for one in said {
        weight += 3 + one.presence.serving.len() + one.presence.ended.len();
        part.push(one);
        if weight >= MAX_WEIGHT {
            messages.push(SyncMessage::Presence(std::mem::take(&mut part)));
            weight = 0;
        }
    }
    if !part.is_empty() {
        messages.push(SyncMessage::Presence(part));
    }
    messages
}
