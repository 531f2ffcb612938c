//! Answers and events for people and scripts: the only place where a reply becomes text.

pub mod clean;
pub mod json;
pub mod printer;
pub mod progress;
#[cfg(test)]
mod samples;
pub mod sentences;
pub mod text;

use super::{
    Outcome,
    command::{Command, DownloadRow, Event, table::Spec},
};
use crate::protocol::error::Failure;

/// What is being answered.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The command's name, as typed.
    pub name: &'a str,
    /// The command; `None` when the line was none.
    pub command: Option<&'a Command>,
}

/// Turns answers into text: whole lines, each with its line feed; empty where nothing is to be said.
pub trait Renderer: Send + Sync {
    /// What a command came to.
    fn answer(&self, asked: &Asked<'_>, outcome: &Result<Outcome, Failure>) -> String;

    /// The commands, or one of them.
    fn help(&self, asked: &Asked<'_>, topic: Option<&'static Spec>) -> String;

    /// The end of the session.
    fn farewell(&self, asked: &Asked<'_>) -> String;

    /// Downloads that stop with this client.
    fn stopped(&self, downloads: &[DownloadRow]) -> String;

    /// Something that happened without being asked for.
    fn event(&self, event: &Event) -> String;
}
