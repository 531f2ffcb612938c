//! Passwords: argon2id at the parameters OWASP recommends, few at a time, and at the same cost for an unknown user.

use std::sync::Mutex;

use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
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

/// Verified in place of an unknown user's. Nobody knows a password for it: its hash is not the result of hashing one.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$cDJwIG5vYm9keSBzYWx0$IG5vYm9keSBrbm93cyBhIHBhc3N3b3JkIGZvciB0aGlzISE";

/// Hashes and verifies passwords off the async threads.
pub(super) struct Passwords {
    env: Environment,
    permits: Semaphore,
    salts: Mutex<ChaCha20Rng>,
}

impl Passwords {
    pub(super) fn new(env: &Environment) -> Self {
        let salts = Mutex::new(env.rng("password salts", 0));
        Self { env: env.clone(), permits: Semaphore::new(PARALLEL), salts }
    }

    /// The argon2id string of a new password, or `weak_password`.
    pub(super) async fn hash(&self, password: Password) -> Result<Credential, Failure> {
        check_strength(&password)?;
        let mut salt = [0; 16];
        self.salts.lock().expect("drawing a salt does not panic").fill_bytes(&mut salt);
        let bytes = secret_bytes(&password);
        let work = move || Argon2::default().hash_password_with_salt(&bytes, &salt).map(|hash| hash.to_string());
        let hash = self.in_turn(work).await;
        hash.map(Credential)
            .map_err(|error| Failure::new(ErrorCode::Io, format!("Hashing the password failed: {error}.")))
    }

    /// Whether `password` is the one of `credential`; false, at the same cost, when there is none.
    pub(super) async fn verify(&self, password: &Password, credential: Option<Credential>) -> bool {
        if password.0.len() > MAX_PASSWORD_BYTES {
            return false;
        }
        let bytes = secret_bytes(password);
        let is_known = credential.is_some();
        let hash = credential.map_or_else(|| NOBODY.to_owned(), |credential| credential.0);
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
        let passwords = Passwords::new(&environment(1));
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
        let passwords = Passwords::new(&environment(1));
        for text in [String::new(), "x".repeat(MAX_PASSWORD_BYTES + 1)] {
            assert_eq!(passwords.hash(password(&text)).await.unwrap_err().code, ErrorCode::WeakPassword);
        }
        assert!(passwords.hash(password(&"x".repeat(MAX_PASSWORD_BYTES))).await.is_ok());
    }

    #[test]
    fn an_unknown_user_costs_as_much() {
        let nobody = argon2::PasswordHash::new(NOBODY).unwrap();
        let params = argon2::Params::try_from(&nobody).unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (19 * 1024, 2, 1));
    }
}
