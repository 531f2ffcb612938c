//! Deliberate breaks of single promises, for `cargo sim mutants`: a suite that does not notice them proves nothing.
//!
//! Only a build with the feature `mutants` can be broken, by the environment variable [`VARIABLE`]; elsewhere every
//! [`Mutant::is_on`] is `false` to the compiler.

use std::sync::OnceLock;

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("a release build must not contain mutants");

/// Names the mutant that is on.
pub const VARIABLE: &str = "P2P_MUTANT";

macro_rules! mutants {
    ($($(#[doc = $about:literal])+ $mutant:ident = $name:literal,)+) => {
        /// One break.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $about])+ $mutant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$mutant),+];

            /// Its name, for [`VARIABLE`].
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$mutant => $name,)+
                }
            }

            /// What it breaks.
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$mutant => concat!($($about),+).trim_ascii(),)+
                }
            }
        }
    };
}

mutants! {
    /// fsync of databases does nothing.
    SkipFsync = "skip-fsync",
    /// A complete file gets its name before its bytes are synced.
    NameUnsynced = "name-unsynced",
    /// An fsync of a download that failed is tried again, and believed.
    SyncAgain = "sync-again",
    /// A tracker answers before the others in touch have a write.
    AnswerAlone = "answer-alone",
    /// A tracker uses a counter of its log twice.
    ReuseCounter = "reuse-counter",
    /// A tracker withholds every fifth change from the others.
    WithholdChange = "withhold-change",
    /// A tracker synchronizes with a key of no listed tracker.
    AdmitAnyTracker = "admit-any-tracker",
    /// The end of a membership is forgotten: the tombstone of a member counts for nothing.
    ForgetEnd = "forget-end",
    /// The later of two claims to a name holds it.
    LaterClaimWins = "later-claim-wins",
    /// The first password set counts for good.
    FirstPasswordWins = "first-password-wins",
    /// Who owns a group owns it even after leaving.
    OwnerStays = "owner-stays",
    /// The presence of a device that is gone stays.
    GhostPresence = "ghost-presence",
    /// Answers of a tracker that is behind are not marked stale.
    HideStale = "hide-stale",
    /// A request is repeated under another id.
    ForgetRequestId = "forget-request-id",
    /// A ticket of a stranger's making is good.
    AcceptForgedTicket = "accept-forged-ticket",
    /// A ticket of another device is good.
    AcceptStolenTicket = "accept-stolen-ticket",
    /// A ticket that has expired is good.
    AcceptStaleTicket = "accept-stale-ticket",
    /// Word that a membership has ended is not heeded by who serves.
    ServeFormerMember = "serve-former-member",
    /// Word that a session has ended is not heeded by who serves.
    ServeEndedSession = "serve-ended-session",
    /// A piece counts as verified without a look at it.
    SkipVerify = "skip-verify",
    /// A piece counts as verified when its SHA-1 is right.
    SkipBlake3 = "skip-blake3",
    /// Who sent a bad piece is asked again.
    NeverBan = "never-ban",
    /// Who stalls is waited for.
    NeverSnub = "never-snub",
    /// Pieces marked, but not recorded as durable, are trusted without reading them again.
    TrustMarks = "trust-marks",
    /// A resumed download begins anew.
    FetchAgain = "fetch-again",
}

impl Mutant {
    /// Whether this break is on.
    pub fn is_on(self) -> bool {
        cfg!(feature = "mutants") && chosen() == Some(self)
    }

    /// The mutant of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

fn chosen() -> Option<Mutant> {
    static CHOSEN: OnceLock<Option<Mutant>> = OnceLock::new();
    *CHOSEN.get_or_init(|| Mutant::named(&std::env::var(VARIABLE).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_none_is_on() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::named(mutant.name()), Some(*mutant));
            assert!(!mutant.about().is_empty());
            assert!(!mutant.is_on());
        }
    }
}
