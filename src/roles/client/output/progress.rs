//! Progress of hashing and downloads: live bars on a terminal, silence elsewhere.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{
    super::command::{DownloadRow, DownloadState},
    clean::clean,
    sentences::progress,
};
use crate::roles::units::percent;

/// Most columns of a name beside a bar.
const NAME_WIDTH: usize = 28;

/// Bars below the text that a command prints, while it runs.
pub struct Bars {
    multi: MultiProgress,
    shown: BTreeMap<String, ProgressBar>,
    style: ProgressStyle,
}

impl Bars {
    /// Bars on the terminal, or none.
    pub fn new(visible: bool, colour: bool) -> Self {
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = if colour { "{wide_bar:.cyan/blue}" } else { "{wide_bar}" };
        let template = format!("{{prefix}} {bar} {{msg}}");
        let style = ProgressStyle::with_template(&template).expect("the template is well formed");
        let style = style.progress_chars("━╸─");
        Self { multi: MultiProgress::with_draw_target(target), shown: BTreeMap::new(), style }
    }

    /// Whether anybody sees them.
    pub fn is_visible(&self) -> bool {
        !self.multi.is_hidden()
    }

    /// Hashing of a file has come so far; the bar goes when it is done.
    pub fn hashing(&mut self, path: &Path, done: u64, total: u64) {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let message = format!("hashing {:3} %", percent(done, total));
        let key = format!("hashing {}", path.display());
        self.show(&key, &name, (done, total), &message);
        if done >= total {
            self.remove(&key);
        }
    }

    /// The downloads as they are now: a bar for each that goes on.
    pub fn downloads(&mut self, rows: &[DownloadRow]) {
        for row in rows {
            let key = format!("download [{}] {}", row.group, row.name);
            if row.state == DownloadState::Downloading {
                self.show(&key, row.name.as_str(), (row.have, row.size), &progress(row));
            } else {
                self.remove(&key);
            }
        }
    }

    /// Something named `name` has come so far; `key` tells it from others.
    pub fn show(&mut self, key: &str, name: &str, (done, total): (u64, u64), message: &str) {
        let bar = self.shown.entry(key.to_owned()).or_insert_with(|| {
            let bar = self.multi.add(ProgressBar::new(total).with_style(self.style.clone()));
            bar.with_prefix(fitted(name, NAME_WIDTH))
        });
        bar.set_message(clean(message).into_owned());
        bar.set_position(done);
    }

    /// Takes a bar away.
    pub fn remove(&mut self, key: &str) {
        if let Some(bar) = self.shown.remove(key) {
            bar.finish_and_clear();
        }
    }

    /// Takes all bars away.
    pub fn clear(&mut self) {
        self.shown.values().for_each(ProgressBar::finish_and_clear);
        self.shown.clear();
    }

    /// Writes something while no bar is in the way.
    pub fn suspend(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.multi.suspend(write)
    }
}

/// How often bars are drawn anew.
pub const REDRAW: Duration = Duration::from_millis(200);

/// One download as a line of exactly `width` columns: name, bar, percent, rate, peers, time left.
pub fn bar_line(row: &DownloadRow, width: usize) -> String {
    let name = fitted(row.name.as_str(), NAME_WIDTH.min(width / 3));
    let tail = clean(&progress(row)).into_owned();
    let room = width.saturating_sub(name.width() + tail.width() + 2);
    if room < 4 {
        return fitted(&format!("{name} {tail}"), width);
    }
    let filled = usize::try_from(percent(row.have, row.size)).map_or(room, |percent| room * percent / 100);
    format!("{name} {}{} {tail}", "━".repeat(filled), "─".repeat(room - filled))
}

/// `text` cut or filled up to `width` columns.
pub fn fitted(text: &str, width: usize) -> String {
    let text = clean(text);
    let mut shown = String::new();
    let mut used = 0;
    for c in text.chars() {
        let columns = c.width().unwrap_or(0);
        if used + columns > width {
            break;
        }
        used += columns;
        shown.push(c);
    }
    shown.extend(std::iter::repeat_n(' ', width.saturating_sub(shown.width())));
    shown
}

/// Tells when a count has passed another quarter: progress for those who read lines.
#[derive(Debug, Default)]
pub struct Milestones(BTreeMap<String, u64>);

impl Milestones {
    /// Whether `done` of `total` is in another quarter than the last time, or at the end.
    pub fn passed(&mut self, key: &str, done: u64, total: u64) -> bool {
        let quarter = percent(done, total) / 25;
        self.0.insert(key.to_owned(), quarter) != Some(quarter)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples, *};

    #[test]
    fn a_bar_line_has_exactly_the_width_asked_for() {
        for row in samples::downloads() {
            for width in [20, 40, 79, 110] {
                assert_eq!(bar_line(&row, width).width(), width, "{width}: {:?}", bar_line(&row, width));
            }
        }
    }

    #[test]
    fn names_are_cut_and_filled_by_columns() {
        assert_eq!(fitted("name", 6), "name  ");
        assert_eq!(fitted("long name", 6), "long n");
        assert_eq!(fitted("文件文件", 5), "文件 ");
    }

    #[test]
    fn milestones_are_quarters_each_once() {
        let mut milestones = Milestones::default();
        let passed: Vec<_> = (0..=10).filter(|&done| milestones.passed("a", done, 10)).collect();
        assert_eq!(passed, [0, 3, 5, 8, 10]);
        assert!(milestones.passed("b", 0, 0), "an empty file is done at once");
    }
}
