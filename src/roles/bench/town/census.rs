//! Who lives in a town, and the changes that say so: accounts, groups, memberships, shares. The same for the same numbers.

use crate::{
    protocol::{
        hash::{Blake3Hash, PieceHash, Sha1Hash},
        ids::{DeviceKey, FileId, GroupId, MembershipId, RequestId, TrackerNo, UserId, hash_parts},
        manifest::ManifestHeader,
        name::{FileName, GroupName, UserName},
        record::{Change, ChangeBody, Credential},
        version::{Dot, Timestamp},
    },
    store::tracker::{ManifestPage, StoreError, TrackerStore},
};

/// Accounts that the load uses: members of every group, owners of none.
pub(in super::super) const VISITORS: u32 = 2;
/// The password of every account.
pub(in super::super) const PASSWORD: &str = "password";
/// Members of a group, its visitors not counted.
pub(in super::super) const MEMBERS: u32 = 20;
/// Sessions that serve one file.
pub(in super::super) const SWARM: u32 = 4;
/// Bytes of every shared file: one piece, so one page of its manifest.
pub(in super::super) const FILE_SIZE: u64 = 300_000;
/// Changes in one transaction.
const BATCH: usize = 10_000;

/// How many there are of what.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Census {
    /// Residents: accounts besides the visitors. [`MEMBERS`] of them found each group.
    pub(in super::super) residents: u32,
    pub(in super::super) groups: u32,
    pub(in super::super) shares: u32,
}

impl Census {
    /// One group and ten residents for every hundred shares.
    pub(in super::super) fn of_shares(shares: u32) -> Self {
        let groups = (shares / 100).max(2);
        Self { residents: (shares / 10).max(groups).max(MEMBERS), groups, shares }
    }

    /// Residents in groups of [`MEMBERS`], each in one, and nothing shared.
    pub(in super::super) fn of_sessions(sessions: u32) -> Self {
        Self { residents: sessions, groups: sessions / MEMBERS, shares: 0 }
    }

    /// The resident who is member `k` of a group; the first owns it.
    pub(in super::super) fn member(&self, group: u32, k: u32) -> u32 {
        let stride = (self.residents / self.groups).max(1);
        VISITORS + (group * stride + k) % self.residents
    }

    /// Which group, and which member of it, shares something.
    pub(in super::super) fn sharer(&self, share: u32) -> (u32, u32) {
        (share % self.groups, share / self.groups % MEMBERS)
    }
}

/// An account: visitors come first, then residents.
pub(in super::super) fn user(account: u32) -> UserId {
    request(b"account", account, 0).into()
}

pub(in super::super) fn user_name(account: u32) -> UserName {
    UserName::parse(&format!("user-{account}")).expect("letters, a dash and digits make a name")
}

pub(in super::super) fn group(number: u32) -> GroupId {
    request(b"group", number, 0).into()
}

pub(in super::super) fn group_name(number: u32) -> GroupName {
    GroupName::parse(&format!("group-{number}")).expect("letters, a dash and digits make a name")
}

pub(in super::super) fn file_name(share: u32) -> FileName {
    FileName::parse(&format!("file-{share}.bin")).expect("letters, a dash and digits make a name")
}

/// The device of an account.
pub(in super::super) fn device(account: u32) -> DeviceKey {
    DeviceKey(draw(b"device", account, 0))
}

/// A file that is served and not shared: what presence alone is about.
pub(in super::super) fn served_file(number: u32) -> FileId {
    FileId(draw(b"file", number, 0))
}

/// When an account was registered: which password a session was opened with.
pub(in super::super) fn registered(account: u32, base_ms: u64) -> Timestamp {
    stamp(u64::from(account) + 1, base_ms)
}

fn stamp(counter: u64, base_ms: u64) -> Timestamp {
    Timestamp { wall_ms: base_ms + counter / 1000, logical: u32::try_from(counter % 1000).unwrap_or(0) }
}

fn request(kind: &[u8], one: u32, other: u32) -> RequestId {
    RequestId(draw(kind, one, other))
}

fn draw(kind: &[u8], one: u32, other: u32) -> [u8; 32] {
    hash_parts("p2p bench", &[kind, &one.to_le_bytes(), &other.to_le_bytes()])
}

/// The manifest of a shared file, and its only page. Nothing reads its content, so the hashes are of nothing.
fn manifest(share: u32) -> (ManifestHeader, Vec<u8>) {
    let hash = draw(b"content", share, 0);
    let mut sha1 = [0; 20];
    sha1.copy_from_slice(&hash[..20]);
    let piece = PieceHash { sha1: Sha1Hash(sha1), blake3: Blake3Hash(hash) };
    let (header, mut pages) = ManifestHeader::describe(file_name(share), FILE_SIZE, Sha1Hash(sha1), &[piece]);
    (header, pages.pop().unwrap_or_default())
}

/// Writes the log of a tracker that has taken all that a town says; `credential` is everybody's, `base_ms` when it began.
pub(in super::super) fn write(
    census: &Census,
    store: &TrackerStore,
    origin: DeviceKey,
    credential: &Credential,
    base_ms: u64,
) -> Result<(), StoreError> {
    let mut log = Chronicle { store, origin, base_ms, counter: 0, changes: Vec::new(), pages: Vec::new() };
    for account in 0..census.residents + VISITORS {
        let (name, credential) = (user_name(account), credential.clone());
        log.add(request(b"account", account, 0), ChangeBody::UserCreated { name, credential })?;
    }
    for number in 0..census.groups {
        log.found(census, number)?;
    }
    for share in 0..census.shares {
        log.share(census, share)?;
    }
    log.write()
}

/// A log as it is written.
struct Chronicle<'a> {
    store: &'a TrackerStore,
    origin: DeviceKey,
    base_ms: u64,
    counter: u64,
    changes: Vec<Change>,
    pages: Vec<ManifestPage>,
}

impl Chronicle<'_> {
    fn add(&mut self, request: RequestId, body: ChangeBody) -> Result<Dot, StoreError> {
        if self.changes.len() >= BATCH {
            self.write()?;
        }
        self.counter += 1;
        let dot = Dot { origin: self.origin, counter: self.counter };
        let at = stamp(self.counter, self.base_ms);
        self.changes.push(Change { dot, at, taken_by: TrackerNo(1), request, body });
        Ok(dot)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.store.put_pages(&std::mem::take(&mut self.pages))?;
        self.store.append(&std::mem::take(&mut self.changes))
    }

    /// A group with all its members.
    fn found(&mut self, census: &Census, number: u32) -> Result<(), StoreError> {
        let (id, owner) = (group(number), user(census.member(number, 0)));
        let created = ChangeBody::GroupCreated { name: group_name(number), owner };
        let created = self.add(request(b"group", number, 0), created)?;
        for member in (1..MEMBERS).map(|k| census.member(number, k)).chain(0..VISITORS) {
            let membership = request(b"join", number, member);
            let asks = ChangeBody::MembershipRequested { group: id, user: user(member) };
            let asked = self.add(membership, asks)?;
            let (membership, rests_on) = (membership.into(), vec![created, asked]);
            let accepts = ChangeBody::MembershipAccepted { group: id, membership, by: owner, rests_on };
            self.add(request(b"accept", number, member), accepts)?;
        }
        Ok(())
    }

    fn share(&mut self, census: &Census, share: u32) -> Result<(), StoreError> {
        let (number, k) = census.sharer(share);
        let (sharer, group) = (census.member(number, k), group(number));
        let membership = if k == 0 { MembershipId::from(group) } else { request(b"join", number, sharer).into() };
        let (manifest, bytes) = manifest(share);
        self.pages.push(ManifestPage { manifest: manifest.id(), page: 0, bytes });
        let body = ChangeBody::ShareBegun { group, user: user(sharer), device: device(sharer), membership, manifest };
        self.add(request(b"share", share, 0), body)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::{Database, backends::InMemoryBackend};

    use super::*;
    use crate::{protocol::client::Standing, replica::Catalog};

    /// The catalog that a town's log makes.
    fn catalog(census: &Census) -> Catalog {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let store = TrackerStore::new(database).unwrap();
        write(census, &store, DeviceKey([1; 32]), &Credential("hash".to_owned()), 1_000_000).unwrap();
        let mut catalog = Catalog::new();
        store.read(|kept| catalog.restore(&kept)).unwrap();
        catalog
    }

    #[test]
    fn everybody_is_what_the_census_says() {
        let census = Census { residents: 200, groups: 20, shares: 1000 };
        let catalog = catalog(&census);
        for number in 0..census.groups {
            let id = catalog.group_named(&group_name(number)).unwrap();
            assert_eq!(id, group(number));
            assert_eq!(catalog.owner(&id), Some(user(census.member(number, 0))));
            assert_eq!(catalog.members_of(&id).count(), (MEMBERS + VISITORS) as usize);
            assert_eq!(catalog.standing(&id, &user(VISITORS - 1)), Standing::Member);
            assert_eq!(catalog.list_files(&id, 0).entries.len(), 50);
        }
        let registered = registered(7, 1_000_000);
        assert_eq!(catalog.credential(&user(7)).unwrap().0.at, registered);
        assert_eq!(catalog.user_named(&user_name(7)), Some(user(7)));
    }

    #[test]
    fn every_session_is_in_one_group() {
        let census = Census::of_sessions(100);
        let members = (0..census.groups).flat_map(|group| (0..MEMBERS).map(move |k| census.member(group, k)));
        assert!(members.eq(VISITORS..VISITORS + 100));
    }
}
