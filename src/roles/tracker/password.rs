//! Passwords: argon2id at the parameters OWASP recommends, few at a time, and at the same cost for an unknown user.

use std::sync::Mutex;

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    protocol::{
        client::Password,
        error::{ErrorCode, Failure},
        limits::MAX_PASSWORD_BYTES,
        record::Credential,
    },
    roles::environment::Environment,
};

/// Passwords hashed at the same time: each takes 19 MiB and some 20 ms of a core. The others wait in turn.
const PARALLEL: usize = 4;

/// What hashing one password costs, with argon2id on one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCost {
    memory_kib: u32,
    passes: u32,
}

impl PasswordCost {
    /// What OWASP recommends.
    pub const OWASP: Self = Self { memory_kib: 19 * 1024, passes: 2 };
    /// The least that argon2id allows: for tests and the simulation, whose passwords guard nothing.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1 };

    /// The argon2id string of a password.
    pub fn hash(self, password: &[u8], salt: &[u8; 16]) -> Result<Credential, argon2::password_hash::Error> {
        self.hasher().hash_password_with_salt(password, salt).map(|hash| Credential(hash.to_string()))
    }

    fn hasher(self) -> Argon2<'static> {
        let params = Params::new(self.memory_kib, self.passes, 1, None).expect("every cost above is within the limits");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
    }

    /// Verified in place of an unknown user's. Nobody knows a password for it: its hash is not the result of hashing one.
    fn of_nobody(self) -> String {
        let Self { memory_kib, passes } = self;
        format!(
            "$argon2id$v=19$m={memory_kib},t={passes},p=1$cDJwIG5vYm9keSBzYWx0$IG5vYm9keSBrbm93cyBhIHBhc3N3b3JkIGZvciB0aGlzISE"
        )
    }
}

/// Hashes and verifies passwords off the async threads.
pub(super) struct Passwords {
    env: Environment,
    cost: PasswordCost,
    permits: Semaphore,
    salts: Mutex<ChaCha20Rng>,
}

impl Passwords {
    pub(super) fn new(env: &Environment, cost: PasswordCost) -> Self {
        let salts = Mutex::new(env.rng("password salts", 0));
        Self { env: env.clone(), cost, permits: Semaphore::new(PARALLEL), salts }
    }

    /// The argon2id string of a new password, or `weak_password`.
    pub(super) async fn hash(&self, password: Password) -> Result<Credential, Failure> {
        check_strength(&password)?;
        let mut salt = [0; 16];
        self.salts.lock().expect("drawing a salt does not panic").fill_bytes(&mut salt);
        let bytes = secret_bytes(&password);
        let cost = self.cost;
        let hash = self.in_turn(move || cost.hash(&bytes, &salt)).await;
        hash.map_err(|error| Failure::new(ErrorCode::Io, format!("Hashing the password failed: {error}.")))
    }

    /// Whether `password` is the one of `credential`; false, at the same cost, when there is none.
    pub(super) async fn verify(&self, password: &Password, credential: Option<Credential>) -> bool {
        if password.0.len() > MAX_PASSWORD_BYTES {
            return false;
        }
        let bytes = secret_bytes(password);
        let is_known = credential.is_some();
        let hash = credential.map_or_else(|| self.cost.of_nobody(), |credential| credential.0);
        let matches = self.in_turn(move || Argon2::default().verify_password(&bytes, hash.as_str()).is_ok()).await;
        is_known && matches
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        self.env.offload(work).await
    }
}

fn secret_bytes(password: &Password) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(password.0.as_bytes().to_vec())
}

fn check_strength(password: &Password) -> Result<(), Failure> {
    let rule = match password.0.len() {
        0 => "A password must not be empty.",
        1..=MAX_PASSWORD_BYTES => return Ok(()),
        _ => "A password has at most 1024 bytes.",
    };
    Err(Failure::new(ErrorCode::WeakPassword, format!("{rule} Choose another one.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::tracker::tests::environment;

    fn password(text: &str) -> Password {
        Password(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let passwords = Passwords::new(&environment(1), PasswordCost::OWASP);
        let one = passwords.hash(password("secret")).await.unwrap();
        let two = passwords.hash(password("secret")).await.unwrap();
        assert!(one.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(one, two, "every hash has a salt of its own");
        assert!(passwords.verify(&password("secret"), Some(one.clone())).await);
        assert!(!passwords.verify(&password("Secret"), Some(one)).await);
        assert!(!passwords.verify(&password("secret"), None).await);
    }

    #[tokio::test]
    async fn empty_and_endless_passwords_are_weak() {
        let passwords = Passwords::new(&environment(1), PasswordCost::OWASP);
        for text in [String::new(), "x".repeat(MAX_PASSWORD_BYTES + 1)] {
            assert_eq!(passwords.hash(password(&text)).await.unwrap_err().code, ErrorCode::WeakPassword);
        }
        assert!(passwords.hash(password(&"x".repeat(MAX_PASSWORD_BYTES))).await.is_ok());
    }

    #[test]
    fn an_unknown_user_costs_as_much() {
        for cost in [PasswordCost::OWASP, PasswordCost::LEAST] {
            let nobody = cost.of_nobody();
            let params = Params::try_from(&argon2::PasswordHash::new(&nobody).unwrap()).unwrap();
            assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (cost.memory_kib, cost.passes, 1));
        }
    }
}
