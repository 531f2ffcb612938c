//! What goes wrong in the data plane, as people and scripts see it.

use std::{io, path::Path};

use crate::{
    protocol::error::{ErrorCode, Failure},
    store::{content::ContentError, hasher::HashError},
};

/// Why content cannot be written to `destination`.
pub(super) fn content(error: &ContentError, destination: &Path) -> Failure {
    let path = destination.display();
    let (code, message) = match error {
        ContentError::DestinationExists => (
            ErrorCode::DestinationExists,
            format!("{path} exists already. Move it away and resume_download, or download to another destination."),
        ),
        ContentError::NoFolder => (
            ErrorCode::Io,
            format!("The folder of {path} does not exist. Make it first, or choose another destination."),
        ),
        ContentError::NoSpace => {
            (ErrorCode::NoSpace, format!("The disk of {path} is full. Make room, then resume_download."))
        }
        ContentError::Lost => (
            ErrorCode::Io,
            format!("The partial file of {path} is gone, or another is in its place. resume_download begins anew."),
        ),
        ContentError::Occupied(partial) => (
            ErrorCode::Io,
            format!(
                "Another file is at {}, where what was fetched of {path} was kept. Move it away, then resume_download.",
                partial.display()
            ),
        ),
        ContentError::Io(error) => return writing(error, destination),
    };
    Failure::new(code, message)
}

fn writing(error: &io::Error, destination: &Path) -> Failure {
    let path = destination.display();
    let message = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("{path} cannot be written: {error}. Choose a folder that you may write to.")
        }
        _ => format!("{path} cannot be written: {error}. Check the disk, then resume_download."),
    };
    Failure::new(ErrorCode::Io, message)
}

/// Why the file at `path` cannot be hashed.
pub(super) fn hashing(error: &HashError, path: &Path) -> Failure {
    let path = path.display();
    match error {
        HashError::Directory => {
            Failure::new(ErrorCode::IsDirectory, format!("{path} is a folder. Upload its files one by one."))
        }
        HashError::TooLarge => Failure::new(
            ErrorCode::NotReadable,
            format!("{path} is larger than 2 TiB, the most that a shared file may have. Share it in parts."),
        ),
        HashError::Changed => Failure::new(
            ErrorCode::FileChanged,
            format!("{path} changed while it was read. Upload it again when it rests."),
        ),
        HashError::Io(error) => Failure::new(
            ErrorCode::NotReadable,
            format!("{path} cannot be read: {error}. Check the path and its permissions."),
        ),
    }
}

/// Why no peer can connect for now.
pub(super) fn accepting(error: &io::Error) -> Failure {
    let message = format!(
        "{error}. Transfers that are under way go on, and it is tried again all the time. If this lasts, start the client with \
         fewer --max-peers, or let it open more files (ulimit -n)."
    );
    Failure::new(ErrorCode::Io, message)
}

/// The client's own database failed.
pub(super) fn database(error: &redb::Error) -> Failure {
    Failure::new(ErrorCode::Io, format!("The client's database failed: {error}. Check the disk of its data directory."))
}
