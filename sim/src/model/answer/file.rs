//! Files, shares and downloads, as far as trackers and the client's memory have a part in them.

use std::collections::BTreeSet;

use p2p::protocol::error::ErrorCode;

use super::{
    super::{
        event::{Body, Content, Id},
        said::{FileRow, Said},
        view::File,
        world::{Download, Local, Next, or_stale},
    },
    Answers, Turn,
};

/// Bytes in a piece.
const PIECE: u64 = 512 * 1024;

impl Turn<'_> {
    pub(super) fn list_files(&self, group: &str) -> Answers {
        let (_, group, _) = self.own_group(group)?;
        let row = |file: &File| {
            let shared_by = file.shares.iter().map(|(_, user, _)| self.view.name(*user)).collect();
            FileRow { shared_by, ..row(&file.name, &file.content) }
        };
        Ok(self.shows(Said::Files(group.files.iter().map(row).collect())))
    }

    pub(super) fn file_info(&self, group: &str, file: &str) -> Answers {
        let (_, group, _) = self.own_group(group)?;
        let file = group.file(file).ok_or(ErrorCode::NoSuchFile)?;
        Ok(self.shows(Said::File(row(&file.name, &file.content))))
    }

    pub(super) fn upload_file(&self, path: &str, group_name: &str) -> Answers {
        let Some(content) = self.client().disk.get(path) else {
            let is_folder = path.ends_with('/');
            return Ok(self.says(Said::Refused(if is_folder {
                ErrorCode::IsDirectory
            } else {
                ErrorCode::NotReadable
            })));
        };
        let (id, group, instance) = self.own_group(group_name)?;
        let key = (self.user(), id, content.clone());
        let listed = group.files.iter().find(|file| file.content == *content);
        let is_own = |share: &(Id, Id, usize)| (share.1, share.2) == (self.user(), self.who.client);
        let is_known = listed.is_some_and(|file| file.shares.iter().any(is_own));
        let local = self.client().shares.get(&key);
        let is_served = is_known || local.is_some_and(|local| local.path == path);
        let mut next = Vec::new();
        if local.is_some() && is_served {
            next = self.says(Said::Refused(ErrorCode::AlreadyShared));
        }
        if local.is_some_and(|local| local.sure) && is_served {
            return Ok(next);
        }
        let mut taken = if is_known {
            // The trackers know it, this client does not: it is taken up again.
            self.says(Said::Uploaded(row(&content.name, content)))
        } else if listed.is_none() && group.file(&content.name).is_some() {
            return Ok([next, self.says(Said::Refused(ErrorCode::FileExists))].concat());
        } else {
            let (user, device) = (self.user(), self.who.client);
            self.writes(Said::Done, Body::Shared { group: id, user, device, instance, content: content.clone() })
        };
        let after = taken[0].world.view(self.who.tracker);
        let name = match &taken[0].said {
            Said::Uploaded(row) => row.name.clone(),
            _ => after.groups.get(&id).and_then(|group| called(&group.files, content)).unwrap_or_default(),
        };
        let local = Local { group: group.name.clone(), name: name.clone(), path: path.to_owned(), sure: true };
        taken[0].said = Said::Uploaded(row(&name, content));
        taken[0].world.clients[self.who.client].shares.insert(key, local);
        Ok([next, taken].concat())
    }

    /// The download and the acknowledgement of the share it becomes are taken for one with its beginning: whoever has it begun
    /// waits until both are there.
    pub(super) fn download_file(&self, group_name: &str, file: &str, to: &str) -> Answers {
        let (id, group, instance) = self.own_group(group_name)?;
        let file = group.file(file).ok_or(ErrorCode::NoSuchFile)?;
        let path = match to.strip_suffix('/') {
            Some("/home") => format!("{to}{}", file.name),
            Some(_) => return Ok(self.says(Said::Refused(ErrorCode::Io))),
            None => to.to_owned(),
        };
        if self.client().disk.contains_key(&path) {
            return Ok(self.says(Said::Refused(ErrorCode::DestinationExists)));
        }
        let (user, device) = (self.user(), self.who.client);
        let (name, content) = (file.name.clone(), file.content.clone());
        let mut next = if file.shares.iter().any(|share| (share.1, share.2) == (user, device)) {
            self.says(Said::Done)
        } else {
            self.writes(Said::Done, Body::Shared { group: id, user, device, instance, content: content.clone() })
        };
        let client = &mut next[0].world.clients[device];
        let base = path.rsplit('/').next().unwrap_or_default().to_owned();
        client.disk.insert(path.clone(), Content { name: base, ..content.clone() });
        let local = Local { group: group_name.to_owned(), name: name.clone(), path, sure: true };
        client.shares.insert((user, id, content.clone()), local);
        client.downloads.retain(|old| (old.user, old.group, &old.content) != (user, id, &content));
        let group_name = group_name.to_owned();
        client.downloads.push(Download { user, group: id, content: content.clone(), group_name, name: name.clone() });
        next[0].said = Said::Started(name.clone(), false);
        let waiting = || Next { said: Said::Started(name, true), ..next[0].clone() };
        match self.has_seeder(id, file) {
            Some(true) => {}
            Some(false) => next = vec![waiting()],
            None => next.push(waiting()),
        }
        Ok(next)
    }

    /// Whether another device serves the file now; `None` when that is not certain.
    fn has_seeder(&self, group: Id, file: &File) -> Option<bool> {
        let others = self.world.clients.iter().enumerate().filter(|(number, _)| *number != self.who.client);
        let mut certain = true;
        for (_, client) in others {
            let Some(user) = client.session.map(|session| session.user) else { continue };
            let Some(local) = client.shares.get(&(user, group, file.content.clone())) else { continue };
            if !self.view.groups[&group].members.contains_key(&user) {
                continue;
            }
            if local.sure && self.world.is_online(user, self.who.now) == Some(true) {
                return Some(true);
            }
            certain = false;
        }
        certain.then_some(false)
    }

    pub(super) fn show_downloads(&self) -> Vec<Next> {
        let rows = self.own_downloads().map(|it| ('C', it.group_name.clone(), it.name.clone())).collect();
        self.says(Said::Downloads(rows))
    }

    pub(super) fn wait(&self, download: &[&str]) -> Vec<Next> {
        let is_there = match *download {
            [group, name] => self.own_downloads().any(|it| (it.group_name.as_str(), it.name.as_str()) == (group, name)),
            _ => true,
        };
        self.says(if is_there { Said::Waited } else { Said::Refused(ErrorCode::NoSuchDownload) })
    }

    /// The downloads of the user who is logged in.
    fn own_downloads(&self) -> impl Iterator<Item = &Download> {
        let user = self.client().session.map(|session| session.user);
        self.client().downloads.iter().filter(move |download| Some(download.user) == user)
    }

    /// The shares of the user who is logged in.
    fn own_shares(&self) -> impl Iterator<Item = (&(Id, Id, Content), &Local)> {
        let user = self.client().session.map(|session| session.user);
        self.client().shares.iter().filter(move |(key, _)| Some(key.0) == user)
    }

    pub(super) fn show_shares(&self) -> Vec<Next> {
        let rows = |sure: bool| -> BTreeSet<(String, String)> {
            let own = self.own_shares().filter(|(_, local)| local.sure == sure);
            own.map(|(_, local)| (local.group.clone(), local.name.clone())).collect()
        };
        self.says(Said::Shares { sure: rows(true), perhaps: rows(false) })
    }

    pub(super) fn stop_share(&self, group: &str, name: &str) -> Vec<Next> {
        let named: Vec<_> = self.own_shares().filter(|(_, local)| local.group == group && local.name == name).collect();
        let mut next = Vec::new();
        if named.iter().all(|(_, local)| !local.sure) {
            next = self.says(Said::Refused(ErrorCode::NotShared));
        }
        for (key, _) in named {
            next.extend(self.stop(key));
        }
        next
    }

    fn stop(&self, key: &(Id, Id, Content)) -> Vec<Next> {
        let (user, group, content) = key;
        let files = self.view.groups.get(group).map(|group| &group.files);
        let listed = files.into_iter().flatten().filter(|file| file.content == *content).flat_map(|file| &file.shares);
        let own = listed.filter(|share| (share.1, share.2) == (*user, self.who.client));
        let shares: Vec<Id> = own.map(|share| share.0).collect();
        let mut next = if shares.is_empty() {
            if or_stale(ErrorCode::NotShared, self.is_caught_up()) == ErrorCode::Stale {
                return self.says(Said::Refused(ErrorCode::Stale));
            }
            self.says(Said::Done)
        } else {
            self.writes(Said::Done, Body::Unshared { shares })
        };
        next[0].world.clients[self.who.client].shares.remove(key);
        next
    }
}

fn row(name: &str, content: &Content) -> FileRow {
    FileRow::plain(name, content.size, u32::try_from(content.size.div_ceil(PIECE)).unwrap_or(u32::MAX))
}

/// What a file is called.
fn called(files: &[File], content: &Content) -> Option<String> {
    files.iter().find(|file| file.content == *content).map(|file| file.name.clone())
}
