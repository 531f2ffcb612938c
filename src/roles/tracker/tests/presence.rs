//! Presence by itself.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::{
    protocol::{
        client::{Presence, Serving},
        ids::{DeviceKey, FileId, GroupId, UserId},
        sync::DevicePresence,
    },
    roles::tracker::presence::{GRACE, Home, PresenceMap},
};

const GROUP: GroupId = GroupId([9; 32]);
const TRACKER: DeviceKey = DeviceKey([200; 32]);

fn device(n: u8) -> DeviceKey {
    DeviceKey([n; 32])
}

fn user(n: u8) -> UserId {
    UserId([n; 32])
}

fn file(n: u8) -> FileId {
    FileId([n; 32])
}

fn serving(reset: bool, files: &[(u8, u8)], ended: &[u8]) -> Presence {
    let serving = files.iter().map(|(n, percent)| Serving { group: GROUP, file: file(*n), percent: *percent });
    Presence {
        reset,
        address: "10.0.0.1:7000".into(),
        serving: serving.collect(),
        ended: ended.iter().copied().map(file).collect(),
    }
}

fn swarm(map: &PresenceMap, n: u8) -> Vec<(DeviceKey, u8)> {
    map.servers(file(n)).map(|server| (server.device, server.percent)).collect()
}

/// Tells another tracker all there is to tell.
fn stream(from: &mut PresenceMap, to: &mut PresenceMap) {
    for said in from.take_untold() {
        to.hear(TRACKER, &said);
    }
}

#[test]
fn a_swarm_is_who_serves_now() {
    let mut map = PresenceMap::default();
    map.enter(device(1), Home::Here(1), user(1));
    map.enter(device(2), Home::Here(2), user(2));
    map.update(device(1), Home::Here(1), &serving(true, &[(1, 100)], &[]));
    map.update(device(2), Home::Here(2), &serving(true, &[(1, 20), (2, 0)], &[]));
    assert_eq!(swarm(&map, 1), [(device(1), 100), (device(2), 20)]);
    map.update(device(2), Home::Here(2), &serving(false, &[(2, 7)], &[1]));
    assert_eq!(swarm(&map, 1), [(device(1), 100)]);
    assert_eq!(swarm(&map, 2), [(device(2), 7)]);
    map.leave(device(1), Home::Here(1));
    assert!(swarm(&map, 1).is_empty() && !map.is_online(&user(1)) && map.is_online(&user(2)));
}

#[test]
fn a_change_is_told_once_to_those_in_the_swarm() {
    let mut map = PresenceMap::default();
    map.enter(device(1), Home::Here(1), user(1));
    map.update(device(1), Home::Here(1), &serving(true, &[(1, 0)], &[]));
    map.enter(device(2), Home::Here(2), user(2));
    map.update(device(2), Home::Here(2), &serving(true, &[(1, 100)], &[]));
    assert_eq!(map.take_changed(), [(1, file(1)), (2, file(1))]);
    map.update(device(1), Home::Here(1), &serving(false, &[(1, 50)], &[]));
    assert!(map.take_changed().is_empty(), "progress is between the peers");
    map.update(device(1), Home::Here(1), &serving(false, &[(1, 100)], &[]));
    assert_eq!(map.take_changed().len(), 2);
}

#[test]
fn a_device_that_moved_is_where_it_went() {
    let mut map = PresenceMap::default();
    map.enter(device(1), Home::Here(1), user(1));
    map.update(device(1), Home::Here(1), &serving(true, &[(1, 10)], &[]));
    let presence = serving(true, &[(1, 30)], &[]);
    map.hear(TRACKER, &DevicePresence { device: device(1), user: Some(user(1)), presence });
    assert_eq!(swarm(&map, 1), [(device(1), 30)]);
    map.leave(device(1), Home::Here(1));
    assert_eq!(swarm(&map, 1), [(device(1), 30)]);
    assert!(map.is_online(&user(1)));
}

#[test]
fn seats_at_a_lost_tracker_fall_unless_it_names_them_again() {
    let (mut map, now) = (PresenceMap::default(), Instant::now());
    for n in [1, 2] {
        let presence = serving(true, &[(1, 100)], &[]);
        map.hear(TRACKER, &DevicePresence { device: device(n), user: Some(user(n)), presence });
    }
    map.doubt(TRACKER, now);
    let presence = serving(true, &[(1, 100)], &[]);
    map.hear(TRACKER, &DevicePresence { device: device(2), user: Some(user(2)), presence });
    map.expire(now + GRACE - Duration::from_millis(1));
    assert_eq!(swarm(&map, 1).len(), 2);
    map.expire(now + GRACE);
    assert_eq!(swarm(&map, 1), [(device(2), 100)]);
}

#[test]
fn many_files_travel_in_several_messages() {
    let mut map = PresenceMap::default();
    map.enter(device(1), Home::Here(1), user(1));
    for part in 0..3u32 {
        let files = (0..1000u32).map(|n| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&(part * 10_000 + n).to_le_bytes());
            Serving { group: GROUP, file: FileId(id), percent: 100 }
        });
        let presence =
            Presence { reset: part == 0, address: String::new(), serving: files.collect(), ended: Vec::new() };
        map.update(device(1), Home::Here(1), &presence);
    }
    let whole = map.whole();
    assert_eq!(whole.iter().map(|said| said.presence.reset).collect::<Vec<_>>(), [true, false, false]);
}

proptest! {
    #[test]
    fn another_tracker_sees_what_this_one_sees(
        steps in prop::collection::vec((1u8..4, 0u8..6, 0u8..5, 0u8..=100, any::<bool>()), 0..60)
    ) {
        let (mut here, mut there) = (PresenceMap::default(), PresenceMap::default());
        for (who, step, what, percent, tell) in steps {
            let home = Home::Here(u64::from(who));
            match step {
                0 => here.leave(device(who), home),
                1 => here.enter(device(who), home, user(who % 2)),
                2 => here.update(device(who), home, &serving(true, &[(what, percent)], &[])),
                3 => here.update(device(who), home, &serving(false, &[], &[what])),
                _ => here.update(device(who), home, &serving(false, &[(what, percent)], &[])),
            }
            if tell {
                stream(&mut here, &mut there);
            }
        }
        stream(&mut here, &mut there);
        for n in 0..5 {
            prop_assert_eq!(swarm(&here, n), swarm(&there, n));
            prop_assert_eq!(here.is_online(&user(n)), there.is_online(&user(n)));
        }
        let mut fresh = PresenceMap::default();
        for said in here.whole() {
            fresh.hear(TRACKER, &said);
        }
        for n in 0..5 {
            prop_assert_eq!(swarm(&here, n), swarm(&fresh, n));
        }
    }
}
