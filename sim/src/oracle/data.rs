//! Promises about bytes, checked where a liar would be: at receivers who see all that they are sent.
//!
//! A [`Witness`] holds what the shared file is. Whatever is sent to it that is not those bytes breaks a promise, as does any
//! payload, bitfield or page that reaches who is no member.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    error::Error,
    net::IpAddr,
    rc::Rc,
    time::Duration,
};

use p2p::protocol::piece::{Block, PieceIndex};

/// What one hostile receiver, or several, were told. Cheap to clone: all clones write into one.
#[derive(Clone)]
pub(crate) struct Witness {
    content: Rc<[u8]>,
    told: Rc<RefCell<Told>>,
}

#[derive(Default)]
struct Told {
    payload: u64,
    /// By server: when its last byte of payload came.
    last: BTreeMap<IpAddr, Duration>,
    /// By server: the pieces that it says it has.
    pieces: BTreeMap<IpAddr, BTreeSet<PieceIndex>>,
    secrets: Vec<String>,
    wrong: Option<String>,
}

impl Witness {
    /// Nothing yet; every block must be a part of `content`.
    pub(crate) fn of(content: &[u8]) -> Self {
        Self { content: content.into(), told: Rc::default() }
    }

    /// The bytes that were shared.
    pub(crate) fn content(&self) -> Rc<[u8]> {
        Rc::clone(&self.content)
    }

    /// A block came.
    pub(crate) fn block(&self, from: IpAddr, block: Block, bytes: &[u8]) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let mut told = self.told.borrow_mut();
        told.payload += bytes.len() as u64;
        told.last.insert(from, now);
        let begin = usize::try_from(block.piece.start() + u64::from(block.offset)).unwrap_or(usize::MAX);
        let right = begin.checked_add(bytes.len()).and_then(|end| self.content.get(begin..end));
        if right != Some(bytes) {
            told.wrong
                .get_or_insert_with(|| format!("{from} served {block:?} at {now:?} with other bytes than were shared"));
        }
    }

    /// A server said which pieces it has.
    pub(crate) fn pieces(&self, from: IpAddr, pieces: impl IntoIterator<Item = PieceIndex>) {
        self.told.borrow_mut().pieces.entry(from).or_default().extend(pieces);
    }

    /// Something was told that is for members only.
    pub(crate) fn secret(&self, what: String) {
        self.told.borrow_mut().secrets.push(what);
    }

    /// Bytes of payload that came.
    pub(crate) fn payload(&self) -> u64 {
        self.told.borrow().payload
    }

    /// When a server's last byte of payload came.
    pub(crate) fn last_from(&self, from: IpAddr) -> Option<Duration> {
        self.told.borrow().last.get(&from).copied()
    }

    /// No byte was served that was not verified.
    pub(crate) fn saw_right_bytes_only(&self) -> Result<(), Box<dyn Error>> {
        match &self.told.borrow().wrong {
            Some(wrong) => Err(format!("an unverified byte was served: {wrong}").into()),
            None => Ok(()),
        }
    }

    /// Who is no member was told nothing.
    pub(crate) fn was_told_nothing(&self) -> Result<(), Box<dyn Error>> {
        let told = self.told.borrow();
        if let Some((from, bytes)) = told.last.keys().next().map(|from| (from, told.payload)) {
            return Err(format!("{bytes} bytes of payload reached who is no member, from {from}").into());
        }
        if let Some((from, pieces)) = told.pieces.iter().next() {
            return Err(format!("{from} told who is no member that it has {pieces:?}").into());
        }
        match told.secrets.first() {
            Some(secret) => Err(format!("who is no member was told {secret}").into()),
            None => Ok(()),
        }
    }

    /// Nothing came from a server after a time.
    pub(crate) fn nothing_after(&self, from: IpAddr, time: Duration) -> Result<(), Box<dyn Error>> {
        match self.last_from(from) {
            Some(last) if last > time => Err(format!("{from} served at {last:?}, not until {time:?} only").into()),
            _ => Ok(()),
        }
    }
}
