//! Passwords: argon2id at the parameters OWASP recommends, few at a time, and at the same cost for an unknown user.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::{
        Error,
        phc::{Output, ParamsString, Salt},
    },
};
use rand_chacha::{ChaCha20Rng, rand_core::Rng as _};
use tokio::sync::oneshot;
use zeroize::{Zeroize as _, Zeroizing};

use super::hash_queue::{Entered, HashQueue, Purpose};
use crate::{
    protocol::{
        client::Password,
        error::{ErrorCode, Failure},
        limits::MAX_PASSWORD_BYTES,
        record::Credential,
    },
    roles::{doors::network, environment::Environment},
};

/// The most that verifying a password may cost: of what other trackers say an account has, more is nobody's password.
const MOST_KIB: u32 = 64 * 1024;
const MOST_PASSES: u32 = 8;
const MOST_LANES: u32 = 4;

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
    pub fn hash(self, password: &[u8], salt: &[u8; 16]) -> Result<Credential, Error> {
        self.hash_in(&mut Vec::new(), password, salt)
    }

    fn hash_in(self, memory: &mut Vec<Block>, password: &[u8], salt: &[u8; 16]) -> Result<Credential, Error> {
        let params = Params::new(self.memory_kib, self.passes, 1, None).expect("every cost above is within the limits");
        let (algorithm, version, salt) = (Algorithm::Argon2id, Version::V0x13, Salt::new(salt)?);
        let written = ParamsString::try_from(&params)?;
        let output = output(&Argon2::new(algorithm, version, params), password, &salt, memory)?;
        let hash = PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: written,
            salt: Some(salt),
            hash: Some(output),
        };
        Ok(Credential(hash.to_string()))
    }

    /// Verified in place of an unknown user's. Nobody knows a password for it: its hash is not the result of hashing one.
    fn of_nobody(self) -> String {
        let Self { memory_kib, passes } = self;
        format!(
            "$argon2id$v=19$m={memory_kib},t={passes},p=1$cDJwIG5vYm9keSBzYWx0$IG5vYm9keSBrbm93cyBhIHBhc3N3b3JkIGZvciB0aGlzISE"
        )
    }
}

type Queue = HashQueue<oneshot::Sender<Turn>>;

/// Memory that is hashed in, used again: an allocator keeps as much for every thread that has ever hashed. Wiped after each use.
type Memory = Arc<Mutex<Vec<Block>>>;

/// Leave to hash, one after the other, and the memory for it; the next one's when it is dropped.
pub(super) struct Turn {
    queue: Option<Arc<Mutex<Queue>>>,
    memory: Memory,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(queue) = self.queue.take() else { return };
        while let Some(next) = locked(&queue).leave() {
            match next.send(Self { queue: Some(Arc::clone(&queue)), memory: Arc::clone(&self.memory) }) {
                Ok(()) => return,
                // It waits no longer.
                Err(mut unused) => unused.queue = None,
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hashes and verifies passwords off the async threads, on half of the cores.
pub(super) struct Passwords {
    env: Environment,
    cost: PasswordCost,
    queue: Arc<Mutex<Queue>>,
    salts: Mutex<ChaCha20Rng>,
}

impl Passwords {
    pub(super) fn new(env: &Environment, cost: PasswordCost) -> Self {
        let salts = Mutex::new(env.rng("password salts", 0));
        let queue = Arc::new(Mutex::new(HashQueue::new((env.processors / 2).max(1))));
        Self { env: env.clone(), cost, queue, salts }
    }

    /// Waits for a turn to hash; `too_many_attempts` where too many wait already.
    pub(super) async fn turn(&self, purpose: Purpose, from: IpAddr) -> Result<Turn, Failure> {
        let (turn, turned) = oneshot::channel();
        let entered = locked(&self.queue).enter(purpose, network(from), turn);
        match entered {
            Entered::Admitted(_) => {
                return Ok(Turn { queue: Some(Arc::clone(&self.queue)), memory: Memory::default() });
            }
            // Whoever is displaced finds that its turn will not come.
            Entered::Waits { displaced } => drop(displaced),
            Entered::Refused => return Err(busy()),
        }
        turned.await.map_err(|_| busy())
    }

    /// The argon2id string of a new password, or `weak_password`.
    pub(super) async fn hash(&self, turn: &Turn, password: Password) -> Result<Credential, Failure> {
        check_strength(&password)?;
        let mut salt = [0; 16];
        self.salts.lock().expect("drawing a salt does not panic").fill_bytes(&mut salt);
        let bytes = secret_bytes(&password);
        let (cost, memory) = (self.cost, Arc::clone(&turn.memory));
        let hash = self.env.offload(move || cost.hash_in(&mut locked(&memory), &bytes, &salt)).await;
        hash.map_err(|error| Failure::new(ErrorCode::Io, format!("Hashing the password failed: {error}.")))
    }

    /// Whether `password` is the one of `credential`; false, at the same cost, when there is none.
    pub(super) async fn verify(&self, turn: &Turn, password: &Password, credential: Option<Credential>) -> bool {
        if password.0.len() > MAX_PASSWORD_BYTES {
            return false;
        }
        let bytes = secret_bytes(password);
        let credential = credential.filter(is_affordable);
        let is_known = credential.is_some();
        let hash = credential.map_or_else(|| self.cost.of_nobody(), |credential| credential.0);
        let memory = Arc::clone(&turn.memory);
        let matches = self.env.offload(move || matches(&bytes, &hash, &mut locked(&memory)).unwrap_or(false)).await;
        is_known && matches
    }
}

/// What argon2 makes of a password, in memory that is wiped afterwards.
fn output(hasher: &Argon2<'_>, password: &[u8], salt: &[u8], memory: &mut Vec<Block>) -> Result<Output, Error> {
    let params = hasher.params();
    memory.resize(params.block_count(), Block::new());
    let mut buffer = Zeroizing::new([0; Output::MAX_LENGTH]);
    let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let bytes = buffer.get_mut(..length).ok_or(Error::OutputSize)?;
    let result = hasher.hash_password_into_with_memory(password, salt, bytes, memory.as_mut_slice());
    memory.iter_mut().for_each(Block::zeroize);
    result?;
    Ok(Output::new(bytes)?)
}

/// Whether a password is the one of an argon2 string.
fn matches(password: &[u8], hash: &str, memory: &mut Vec<Block>) -> Result<bool, Error> {
    let known = PasswordHash::new(hash)?;
    let algorithm = Algorithm::try_from(known.algorithm.as_str())?;
    let version = known.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let hasher = Argon2::new(algorithm, version, Params::try_from(&known)?);
    let (Some(salt), Some(expected)) = (known.salt, known.hash) else { return Ok(false) };
    // Values of this type are compared in constant time.
    Ok(output(&hasher, password, &salt, memory)? == expected)
}

fn busy() -> Failure {
    tracing::trace!(target: "coverage", reached = "tracker: too many passwords to hash");
    Failure::new(ErrorCode::TooManyAttempts, "Too many log in or register at this moment. Try again in a few seconds.")
}

/// Whether a hash costs no more to verify than one of ours could.
fn is_affordable(credential: &Credential) -> bool {
    let params = PasswordHash::new(&credential.0).ok().and_then(|hash| Params::try_from(&hash).ok());
    params.is_some_and(|params| {
        params.m_cost() <= MOST_KIB && params.t_cost() <= MOST_PASSES && params.p_cost() <= MOST_LANES
    })
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
        let turn = passwords.turn(Purpose::Login, [10, 0, 0, 1].into()).await.unwrap();
        let one = passwords.hash(&turn, password("secret")).await.unwrap();
        let two = passwords.hash(&turn, password("secret")).await.unwrap();
        assert!(one.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(one, two, "every hash has a salt of its own");
        assert!(passwords.verify(&turn, &password("secret"), Some(one.clone())).await);
        assert!(!passwords.verify(&turn, &password("Secret"), Some(one)).await);
        assert!(!passwords.verify(&turn, &password("secret"), None).await);
    }

    #[tokio::test]
    async fn whoever_hashes_next_does_so_in_the_same_memory_that_was_wiped() {
        let passwords = Passwords::new(&environment(1), PasswordCost::OWASP);
        let turn = || passwords.turn(Purpose::Login, [10, 0, 0, 1].into());
        let first = turn().await.unwrap();
        let memory = Arc::clone(&first.memory);
        let begun_and_done = async {
            passwords.hash(&first, password("secret")).await.unwrap();
            assert_eq!(locked(&memory).len(), 19 * 1024);
            assert!(locked(&memory).iter().all(|block| block.as_ref().iter().all(|word| *word == 0)));
            drop(first);
        };
        let (second, ()) = tokio::join!(turn(), begun_and_done);
        assert!(Arc::ptr_eq(&second.unwrap().memory, &memory));
    }

    #[tokio::test]
    async fn empty_and_endless_passwords_are_weak() {
        let passwords = Passwords::new(&environment(1), PasswordCost::OWASP);
        let turn = passwords.turn(Purpose::Login, [10, 0, 0, 1].into()).await.unwrap();
        for text in [String::new(), "x".repeat(MAX_PASSWORD_BYTES + 1)] {
            assert_eq!(passwords.hash(&turn, password(&text)).await.unwrap_err().code, ErrorCode::WeakPassword);
        }
        assert!(passwords.hash(&turn, password(&"x".repeat(MAX_PASSWORD_BYTES))).await.is_ok());
    }

    #[test]
    fn a_hash_from_another_tracker_that_would_cost_too_much_is_nobodys() {
        let hash = |m: u32, t: u32, p: u32| {
            let tail = PasswordCost::LEAST.of_nobody().split_once("p=1").unwrap().1.to_owned();
            Credential(format!("$argon2id$v=19$m={m},t={t},p={p}{tail}"))
        };
        let most = (MOST_KIB, MOST_PASSES, MOST_LANES);
        assert!(is_affordable(&hash(most.0, most.1, most.2)) && is_affordable(&hash(19 * 1024, 2, 1)));
        for (m, t, p) in
            [(most.0 + 1, 1, 1), (1 << 31, 1, 1), (8, most.1 + 1, 1), (64, 1, most.2 + 1), (64, u32::MAX, 1)]
        {
            assert!(!is_affordable(&hash(m, t, p)), "{m} {t} {p}");
        }
        assert!(!is_affordable(&Credential("no hash".to_owned())));
    }

    #[tokio::test]
    async fn the_right_password_for_a_hash_that_costs_too_much_is_wrong() {
        let passwords = Passwords::new(&environment(1), PasswordCost::LEAST);
        let turn = passwords.turn(Purpose::Login, [10, 0, 0, 1].into()).await.unwrap();
        let dear = PasswordCost { memory_kib: 8, passes: MOST_PASSES + 1 }.hash(b"secret", &[1; 16]).unwrap();
        assert!(!passwords.verify(&turn, &password("secret"), Some(dear)).await);
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
