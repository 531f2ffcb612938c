//! Whose signature counts: the keys of the trackers, and what time it is by each one's clock.
//!
//! A key is known when the tracker file pins it, when it was the first one seen while dialling that address (and is
//! remembered ever since), or when a tracker dialled under such a key vouches for it. Only the first two decide which
//! key an address must show; a vouched one merely signs.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::mutant::Mutant;
use crate::protocol::{
    client::TrackerIdentity,
    error::{ErrorCode, Failure},
    ids::{DeviceKey, GroupId, device_key_text},
    limits::MAX_ORIGINS,
    ticket::{Signed, Ticket},
};

/// Keys and clocks of the trackers, as far as this client knows them.
#[derive(Debug, Default)]
pub struct Trust {
    by_address: BTreeMap<String, KnownKey>,
    /// What each tracker dialled said last, the latest one last.
    heard: Vec<Heard>,
}

#[derive(Clone, Copy, Debug)]
struct KnownKey {
    key: DeviceKey,
    pinned: bool,
}

#[derive(Debug)]
struct Heard {
    speaker: DeviceKey,
    at: Instant,
    now_ms: u64,
    vouched: Vec<TrackerIdentity>,
}

impl Trust {
    /// The tracker file pins this key for an address.
    pub fn pin(&mut self, address: &str, key: DeviceKey) {
        self.by_address.insert(address.to_owned(), KnownKey { key, pinned: true });
    }

    /// An earlier run saw this key first at an address; the tracker file's word counts more.
    pub fn remember(&mut self, address: &str, key: DeviceKey) {
        self.by_address.entry(address.to_owned()).or_insert(KnownKey { key, pinned: false });
    }

    /// A tracker dialled at `address` proved `key`: the one known, or the first one seen there.
    pub fn meet(&mut self, address: &str, key: DeviceKey) -> Result<(), Failure> {
        match self.by_address.get(address) {
            None => {
                self.remember(address, key);
                Ok(())
            }
            Some(_) => self.refusal(address, key).map_or(Ok(()), Err),
        }
    }

    /// Whether `key` is refused at `address`, and why.
    pub fn refusal(&self, address: &str, key: DeviceKey) -> Option<Failure> {
        let known = self.by_address.get(address).filter(|known| known.key != key)?;
        Some(changed_key(address, *known, &key))
    }

    /// A tracker dialled said its time, and whom it vouches for.
    pub fn hear(&mut self, now: Instant, speaker: DeviceKey, now_ms: u64, mut vouched: Vec<TrackerIdentity>) {
        vouched.truncate(MAX_ORIGINS);
        self.heard.retain(|heard| heard.speaker != speaker);
        self.heard.push(Heard { speaker, at: now, now_ms, vouched });
    }

    /// A tracker dialled said its time anew.
    pub fn hear_time(&mut self, now: Instant, speaker: DeviceKey, now_ms: u64) {
        if let Some(heard) = self.heard.iter_mut().find(|heard| heard.speaker == speaker) {
            (heard.at, heard.now_ms) = (now, now_ms);
        }
    }

    /// A tracker dialled vouches anew.
    pub fn hear_vouched(&mut self, speaker: DeviceKey, mut vouched: Vec<TrackerIdentity>) {
        vouched.truncate(MAX_ORIGINS);
        if let Some(heard) = self.heard.iter_mut().find(|heard| heard.speaker == speaker) {
            heard.vouched = vouched;
        }
    }

    /// Whether `key` is a tracker's.
    pub fn is_tracker(&self, key: &DeviceKey) -> bool {
        self.by_address.values().any(|known| known.key == *key)
            || self.heard.iter().flat_map(|heard| &heard.vouched).any(|identity| identity.key == *key)
    }

    /// The time by a tracker's clock, in milliseconds since the Unix epoch: from the last one that spoke of it.
    pub fn clock_ms(&self, now: Instant, key: &DeviceKey) -> Option<u64> {
        self.heard.iter().rev().find_map(|heard| heard.clock_ms(now, key))
    }

    /// Opens a member ticket that `device` shows for `group`.
    ///
    /// `wall_ms`, this machine's own clock, counts only for a signer that no tracker has spoken of yet.
    pub fn verify(
        &self,
        signed: &Signed,
        group: GroupId,
        device: DeviceKey,
        now: Instant,
        wall_ms: u64,
    ) -> Result<Ticket, Failure> {
        if !self.is_tracker(&signed.signer) && !Mutant::AcceptForgedTicket.is_on() {
            return Err(refused("no tracker known here has signed it"));
        }
        let signer_ms = self.clock_ms(now, &signed.signer).unwrap_or(wall_ms);
        let signer_ms = if Mutant::AcceptStaleTicket.is_on() { 0 } else { signer_ms };
        let ticket: Ticket = signed.open(signer_ms).map_err(|error| refused(&error.to_string()))?;
        if ticket.group != group {
            return Err(refused("it is for another group"));
        }
        if ticket.device != device && !Mutant::AcceptStolenTicket.is_on() {
            return Err(refused("it is another device's"));
        }
        Ok(ticket)
    }
}

impl Heard {
    fn clock_ms(&self, now: Instant, key: &DeviceKey) -> Option<u64> {
        let elapsed_ms = u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        let speaker_ms = self.now_ms.saturating_add(elapsed_ms);
        if self.speaker == *key {
            return Some(speaker_ms);
        }
        let identity = self.vouched.iter().find(|identity| identity.key == *key)?;
        Some(speaker_ms.saturating_add_signed(identity.clock_offset_ms))
    }
}

fn refused(why: &str) -> Failure {
    Failure::new(ErrorCode::NotAMember, format!("The member ticket is refused: {why}. Ask a tracker for a fresh one."))
}

fn changed_key(address: &str, known: KnownKey, shown: &DeviceKey) -> Failure {
    let (origin, remedy) = if known.pinned {
        ("the tracker file pins", "write its new key into the tracker file")
    } else {
        (
            "this client has known since its first contact",
            "start this client once with --readmit NO=KEY: the tracker's number in the tracker file, and the key that whoever \
             runs it tells you (p2p tracker … --show-key)",
        )
    };
    let message = format!(
        "The tracker at {address} shows the key {}, but {origin} {}. It is another machine, or somebody is in between: \
         nothing was sent to it. If the tracker was set up anew on purpose, {remedy}.",
        device_key_text(shown),
        device_key_text(&known.key),
    );
    Failure::new(ErrorCode::Protocol, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{
        device::DeviceSecret,
        ids::{MembershipId, TrackerNo, UserId},
        name::UserName,
        ticket::{TICKET_LIFE, any_session},
    };

    const HOUR_MS: u64 = 3_600_000;
    const GROUP: GroupId = GroupId([3; 32]);
    const DEVICE: DeviceKey = DeviceKey([2; 32]);

    fn ticket(issued_ms: u64, tracker: &DeviceSecret) -> Signed {
        let expires_ms = issued_ms + u64::try_from(TICKET_LIFE.as_millis()).unwrap();
        let ticket = Ticket {
            user: UserId([1; 32]),
            name: UserName::parse("ann").unwrap(),
            device: DEVICE,
            group: GROUP,
            membership: MembershipId([4; 32]),
            session: any_session(),
            issued_ms,
            expires_ms,
        };
        Signed::seal(&ticket, tracker)
    }

    fn secret(n: u8) -> DeviceSecret {
        DeviceSecret::from_seed([n; 32])
    }

    #[test]
    fn the_first_key_seen_is_kept_and_another_is_refused() {
        let mut trust = Trust::default();
        assert_eq!(trust.meet("a:1", secret(1).key()), Ok(()));
        assert_eq!(trust.meet("a:1", secret(1).key()), Ok(()));
        let failure = trust.meet("a:1", secret(2).key()).unwrap_err();
        assert!(failure.message.contains("a:1") && failure.message.contains("--readmit"), "{failure}");
    }

    #[test]
    fn the_tracker_file_counts_more_than_memory() {
        let mut trust = Trust::default();
        trust.pin("a:1", secret(1).key());
        trust.remember("a:1", secret(2).key());
        assert_eq!(trust.meet("a:1", secret(1).key()), Ok(()));
        assert!(trust.meet("a:1", secret(2).key()).unwrap_err().message.contains("tracker file"));
    }

    #[test]
    fn a_ticket_is_judged_by_its_signers_clock() {
        // This machine and both trackers disagree by hours; the second tracker signs, the first one vouches for it.
        let (now, mut trust) = (Instant::now(), Trust::default());
        let (near, far) = (secret(1), secret(2));
        trust.meet("a:1", near.key()).unwrap();
        let offset = i64::try_from(HOUR_MS).unwrap();
        let vouched = TrackerIdentity { tracker: TrackerNo(2), key: far.key(), clock_offset_ms: -offset };
        trust.hear(now, near.key(), 10 * HOUR_MS, vec![vouched]);

        let signed = ticket(9 * HOUR_MS, &far);
        assert!(trust.verify(&signed, GROUP, DEVICE, now, 20 * HOUR_MS).is_ok());
        let late = now + TICKET_LIFE;
        assert!(trust.verify(&signed, GROUP, DEVICE, late, 20 * HOUR_MS).unwrap_err().message.contains("expired"));
        trust.hear_time(late, near.key(), 10 * HOUR_MS);
        assert!(trust.verify(&signed, GROUP, DEVICE, late, 20 * HOUR_MS).is_ok());
        assert!(trust.verify(&ticket(10 * HOUR_MS, &far), GROUP, DEVICE, now, 0).is_err());
    }

    #[test]
    fn a_ticket_counts_for_its_group_device_and_a_known_signer_only() {
        let (now, mut trust) = (Instant::now(), Trust::default());
        trust.meet("a:1", secret(1).key()).unwrap();
        trust.hear(now, secret(1).key(), HOUR_MS, Vec::new());
        let good = ticket(HOUR_MS, &secret(1));
        assert!(trust.verify(&good, GROUP, DEVICE, now + Duration::from_secs(1), 0).is_ok());
        assert!(trust.verify(&good, GroupId([9; 32]), DEVICE, now, 0).is_err());
        assert!(trust.verify(&good, GROUP, DeviceKey([9; 32]), now, 0).is_err());
        assert!(trust.verify(&ticket(HOUR_MS, &secret(2)), GROUP, DEVICE, now, 0).is_err());
    }
}
