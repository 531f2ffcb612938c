//! One scenario over a range: a report for each size, and a chart of them all.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use super::{
    BenchError, Common,
    plot::{Axis, Chart, Line, line_chart},
    report::Report,
    tell,
};

/// What scenarios can be told that go over a range.
#[derive(Clone, Debug, clap::Args)]
pub struct Swept {
    /// Where, and how it is told.
    #[command(flatten)]
    pub common: Common,
    /// Draw what was measured over the range, as an SVG file
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// What a line is called, and what of a report it shows.
pub(super) type Curve<R> = (&'static str, fn(&R) -> f64);

/// What a chart shows of reports.
pub(super) struct Curves<R: 'static> {
    pub(super) title: &'static str,
    /// What was varied.
    pub(super) x: &'static str,
    /// What was measured.
    pub(super) y: Axis<'static>,
    /// A value to be reached, and what it is called.
    pub(super) target: Option<(f64, &'static str)>,
    pub(super) lines: &'static [Curve<R>],
}

/// Measures each count in turn and tells each report as soon as it is there; draws them in the end. The answer is whether all
/// were right.
pub(super) async fn over<R: Report>(
    counts: &[u32],
    told: &Swept,
    curves: &Curves<R>,
    measure: impl AsyncFn(u32) -> Result<R, BenchError>,
) -> Result<bool, BenchError> {
    #[expect(clippy::disallowed_methods, reason = "drawn beside the measurement, outside of every role")]
    let draw = |svg: &str| match &told.plot {
        Some(path) => fs::write(path, svg).map_err(BenchError::io(format!("write {}", path.display()))),
        None => Ok(()),
    };
    // Measuring takes long: whether the file can be written is found out first.
    draw("")?;
    let (mut reports, mut is_right) = (Vec::new(), true);
    for (index, count) in counts.iter().enumerate() {
        let report = measure(*count).await?;
        if index > 0 && !told.common.json {
            writeln!(io::stdout()).map_err(BenchError::io("write the report"))?;
        }
        is_right &= tell(&report, told.common.json)?;
        reports.push((f64::from(*count), report));
    }
    draw(&curves.draw(reports))?;
    Ok(is_right)
}

impl<R> Curves<R> {
    fn draw(&self, mut reports: Vec<(f64, R)>) -> String {
        reports.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let points_of = |of: fn(&R) -> f64| -> Vec<_> { reports.iter().map(|(x, report)| (*x, of(report))).collect() };
        let points: Vec<_> = self.lines.iter().map(|(name, of)| (*name, points_of(*of))).collect();
        let lines: Vec<_> = points.iter().map(|(name, points)| Line { name, points }).collect();
        let x = Axis { label: self.x, is_log: true, from: None };
        line_chart(&Chart { title: self.title, x, y: self.y, lines: &lines, target: self.target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_goes_from_left_to_right() {
        const Y: Axis<'static> = Axis { label: "seconds", is_log: false, from: Some(0.0) };
        let lines: &[Curve<f64>] = &[("once", |it| *it), ("twice", |it| 2.0 * it)];
        let curves = Curves { title: "t", x: "peers", y: Y, target: None, lines };
        let one = curves.draw(vec![(1.0, 5.0), (16.0, 6.0), (4.0, 7.0)]);
        assert_eq!(one, curves.draw(vec![(4.0, 7.0), (1.0, 5.0), (16.0, 6.0)]));
        assert!(one.contains("once") && one.contains("twice") && one.contains("seconds"), "{one}");
    }
}
