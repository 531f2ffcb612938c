//! Sessions and member tickets: short signed statements by a tracker that anybody who knows its key can check.
//!
//! The threat: a peer that is no member, no longer a member, or another device claims to be one. A ticket names user,
//! device, group and expiry, and is signed with the tracker's Ed25519 device key under its own context string; the
//! device is proved by the TLS link it is shown on; and it names the session it was given in, so that a logout reaches those who
//! serve by it. To forge one costs a tracker's key; a stolen one is worthless on
//! another link, and dies by itself. Times are the issuing tracker's, in milliseconds since the Unix epoch: who checks
//! passes that tracker's time as it knows it, so that machines whose clocks disagree still understand each other.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    device::{DeviceSecret, is_signed_by},
    frame::decode,
    ids::{DeviceKey, GroupId, MembershipId, RequestId, SessionId, UserId},
    name::UserName,
    version::{Dot, Timestamp},
};
use crate::mutant::Mutant;

/// How long a member ticket lives.
pub const TICKET_LIFE: Duration = Duration::from_mins(10);
/// How long a session lives without being renewed by a login.
pub const SESSION_LIFE: Duration = Duration::from_hours(30 * 24);
/// Error allowed in one machine's knowledge of another's clock.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Which password of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CredentialId {
    /// Stamp of the change that set it.
    pub at: Timestamp,
    /// The request that set it; `None` for that of the registration.
    pub request: Option<RequestId>,
}

impl CredentialId {
    /// Whether `now` is a later password. A request that was repeated at another tracker has a stamp at each until they meet,
    /// and set the same password.
    pub fn is_replaced_by(&self, now: &Self) -> bool {
        self.at < now.at && self.request != now.request
    }
}

/// Which session, and enough to tell whether it is over: its record may be forgotten once it is, or may have yet to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionRef {
    /// The session.
    pub id: SessionId,
    /// The change that opened it: who knows this change and no such session knows that it is over.
    pub opened: Dot,
    /// The password it was opened with: a later one ends it, whatever the clocks say.
    pub opened_with: CredentialId,
}

/// That a user is logged in on a device. Any tracker of the cluster honours it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The user.
    pub user: UserId,
    /// What the user was called when it was issued, for a tracker that has yet to hear of the account.
    pub name: UserName,
    /// The only device it counts on.
    pub device: DeviceKey,
    /// Which one.
    pub session: SessionRef,
    /// When it was issued.
    pub issued_ms: u64,
    /// When it ends.
    pub expires_ms: u64,
}

/// That a user, on a device, is a member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The user.
    pub user: UserId,
    /// The user's name, for display.
    pub name: UserName,
    /// The only device it counts on.
    pub device: DeviceKey,
    /// The group.
    pub group: GroupId,
    /// The membership it rests on.
    pub membership: MembershipId,
    /// The session it was given in: it ends with it.
    pub session: SessionRef,
    /// When it was issued.
    pub issued_ms: u64,
    /// When it ends.
    pub expires_ms: u64,
}

/// What can be signed: a kind of statement with a context of its own and a time.
pub trait Statement: Serialize + DeserializeOwned {
    /// Separates the signatures of one kind of statement from those of all others.
    const CONTEXT: &'static [u8];

    /// From and until when it holds, by the issuer's clock.
    fn validity_ms(&self) -> (u64, u64);
}

impl Statement for Session {
    const CONTEXT: &'static [u8] = b"p2p 2026 session\0";

    /// No beginning: a tracker that has just started does not know yet how far its signer's clock is ahead, and it is the
    /// password's stamp that ends a session early.
    fn validity_ms(&self) -> (u64, u64) {
        (0, self.expires_ms)
    }
}

impl Statement for Ticket {
    const CONTEXT: &'static [u8] = b"p2p 2026 member ticket\0";

    fn validity_ms(&self) -> (u64, u64) {
        (self.issued_ms, self.expires_ms)
    }
}

/// A statement as its signer encoded it, with the signature. Opaque until it is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The tracker that signed.
    pub signer: DeviceKey,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
}

/// Why a signed statement is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The signature is not the signer's, or the body is no such statement.
    #[error("it is not what its tracker signed")]
    Forged,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// It was issued later than now.
    #[error("it is from the future")]
    Future,
}

impl Signed {
    /// Signs `statement` with a tracker's key.
    pub fn seal<S: Statement>(statement: &S, secret: &DeviceSecret) -> Self {
        let body = rmp_serde::to_vec(statement).expect("a statement holds only plain values");
        let signature = secret.sign(&signed_bytes::<S>(&body)).to_vec();
        Self { signer: secret.key(), body, signature }
    }

    /// Checks the signature and the time (the signer's, milliseconds since the Unix epoch) and reads the statement.
    ///
    /// Whether the signer is a tracker of this cluster is for the caller to know.
    pub fn open<S: Statement>(&self, signer_now_ms: u64) -> Result<S, TicketError> {
        if !is_signed_by(&self.signer, &signed_bytes::<S>(&self.body), &self.signature) {
            return Err(TicketError::Forged);
        }
        let statement: S = decode(&self.body).map_err(|_| TicketError::Forged)?;
        let tolerance_ms = u64::try_from(CLOCK_TOLERANCE.as_millis()).unwrap_or(u64::MAX);
        let (from, until) = statement.validity_ms();
        if signer_now_ms >= until {
            return Err(TicketError::Expired);
        }
        if from > signer_now_ms.saturating_add(tolerance_ms) && !Mutant::AcceptStaleTicket.is_on() {
            return Err(TicketError::Future);
        }
        Ok(statement)
    }
}

fn signed_bytes<S: Statement>(body: &[u8]) -> Vec<u8> {
    [S::CONTEXT, body].concat()
}

/// A session for tests in which it does not matter which.
#[cfg(test)]
pub(crate) fn any_session() -> SessionRef {
    let opened = Dot { origin: DeviceKey([5; 32]), counter: 6 };
    SessionRef { id: SessionId([7; 32]), opened, opened_with: CredentialId::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            user: UserId([1; 32]),
            name: UserName::parse("ann").unwrap(),
            device: DeviceKey([2; 32]),
            group: GroupId([3; 32]),
            membership: MembershipId([4; 32]),
            session: any_session(),
            issued_ms: 1_000_000,
            expires_ms: 1_600_000,
        }
    }

    #[test]
    fn a_ticket_opens_within_its_life_only() {
        let signed = Signed::seal(&ticket(), &DeviceSecret::from_seed([9; 32]));
        assert_eq!(signed.open::<Ticket>(1_000_000), Ok(ticket()));
        assert_eq!(signed.open::<Ticket>(1_599_999), Ok(ticket()));
        assert_eq!(signed.open::<Ticket>(1_600_000), Err(TicketError::Expired));
        assert_eq!(signed.open::<Ticket>(900_000), Err(TicketError::Future));
    }

    #[test]
    fn a_changed_or_mistaken_statement_is_forged() {
        let signed = Signed::seal(&ticket(), &DeviceSecret::from_seed([9; 32]));
        let mut changed = signed.clone();
        *changed.body.last_mut().unwrap() ^= 1;
        assert_eq!(changed.open::<Ticket>(1_000_000), Err(TicketError::Forged));
        assert_eq!(signed.open::<Session>(1_000_000), Err(TicketError::Forged));
        let other = Signed { signer: DeviceSecret::from_seed([8; 32]).key(), ..signed };
        assert_eq!(other.open::<Ticket>(1_000_000), Err(TicketError::Forged));
    }

    proptest! {
        #[test]
        fn a_ticket_opens_by_its_signers_clock_alone(issued_ms: u64, life_ms in 1u64..1_000_000, now: u64, near in 0u64..2_000_000) {
            let issued = ticket();
            let expires_ms = issued_ms.saturating_add(life_ms);
            let signed = Signed::seal(&Ticket { issued_ms, expires_ms, ..issued }, &DeviceSecret::from_seed([9; 32]));
            for now in [now, issued_ms.saturating_sub(1_000_000).saturating_add(near)] {
                let opened = signed.open::<Ticket>(now);
                if now >= expires_ms {
                    prop_assert_eq!(opened, Err(TicketError::Expired));
                } else if issued_ms > now.saturating_add(30_000) {
                    prop_assert_eq!(opened, Err(TicketError::Future));
                } else {
                    prop_assert_eq!(opened.map(|ticket| ticket.issued_ms), Ok(issued_ms));
                }
            }
        }

        #[test]
        fn any_byte_changed_makes_it_forged(at: prop::sample::Index, flip in 1u8..) {
            let signed = Signed::seal(&ticket(), &DeviceSecret::from_seed([9; 32]));
            let Signed { mut signer, mut body, mut signature } = signed;
            let at = at.index(32 + body.len() + signature.len());
            let byte = signer.0.iter_mut().chain(&mut body).chain(&mut signature).nth(at).unwrap();
            *byte ^= flip;
            prop_assert_eq!(Signed { signer, body, signature }.open::<Ticket>(1_000_000), Err(TicketError::Forged));
        }

        #[test]
        fn rubbish_is_forged(body in prop::collection::vec(any::<u8>(), 0..200), signature in prop::collection::vec(any::<u8>(), 0..80), is_signed: bool) {
            let secret = DeviceSecret::from_seed([9; 32]);
            let own = secret.sign(&signed_bytes::<Session>(&body)).to_vec();
            let signed = Signed { signer: secret.key(), body, signature: if is_signed { own } else { signature } };
            prop_assert_eq!(signed.open::<Session>(0), Err(TicketError::Forged));
        }
    }
}
