//! Line charts as SVG, for what was measured over a range.

use std::iter;

/// Size of the picture, in its own units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// Where the lines are: left, top, right, bottom. Right of them stand their names.
const LEFT: f64 = 70.0;
const TOP: f64 = 44.0;
const RIGHT: f64 = 570.0;
const BOTTOM: f64 = 380.0;
/// Ticks of one axis stand at least this far apart.
const TICK_GAP: f64 = 36.0;
/// Colours that most colour-blind people can tell apart (Okabe and Ito), the strong ones first.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// What a chart shows.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// Stands above it.
    pub title: &'a str,
    /// What was varied.
    pub x: Axis<'a>,
    /// What was measured.
    pub y: Axis<'a>,
    /// The measurements.
    pub lines: &'a [Line<'a>],
    /// A value of `y` that is to be reached, and what it is called.
    pub target: Option<(f64, &'a str)>,
}

/// One direction of a chart.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// What it is, with its unit.
    pub label: &'a str,
    /// Equal steps are equal factors: all values must be positive. Ticks stand at the values there are.
    pub is_log: bool,
    /// A value that the axis begins with, where nothing is less.
    pub from: Option<f64>,
}

/// Measurements that belong together.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// What they are of.
    pub name: &'a str,
    /// Where they were taken and what they came to, from left to right.
    pub points: &'a [(f64, f64)],
}

/// The SVG file of a chart.
pub fn line_chart(chart: &Chart) -> String {
    let points = || chart.lines.iter().flat_map(|line| line.points.iter().copied());
    let x = Scale::new(chart.x, points().map(|(x, _)| x).collect(), LEFT, RIGHT);
    let target = chart.target.map(|(value, _)| value);
    let y = Scale::new(chart.y, points().map(|(_, y)| y).chain(target).collect(), BOTTOM, TOP);
    let mut svg = vec![head()];
    svg.push(text((f64::midpoint(LEFT, RIGHT), TOP - 18.0), "middle", "font-size=\"15\"", chart.title));
    svg.extend(x_axis(&x, chart.x.label));
    svg.extend(y_axis(&y, chart.y.label));
    svg.extend(chart.target.map(|(value, _)| path(&[(LEFT, y.at(value)), (RIGHT, y.at(value))], TARGET)));
    svg.extend(chart.lines.iter().zip(COLOURS.iter().cycle()).flat_map(|(line, colour)| drawn(line, colour, &x, &y)));
    svg.extend(legend(chart));
    svg.push("</svg>\n".to_owned());
    svg.concat()
}

const TARGET: &str = "stroke=\"#555\" stroke-dasharray=\"6 4\"";
const GRID: &str = "stroke=\"#ddd\"";

/// Where the values of an axis are in the picture.
struct Scale {
    is_log: bool,
    from: f64,
    to: f64,
    begin: f64,
    end: f64,
    ticks: Vec<f64>,
}

impl Scale {
    fn new(axis: Axis, mut values: Vec<f64>, begin: f64, end: f64) -> Self {
        values.extend(axis.from);
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (least, most) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(1.0));
        let mut scale = Self { is_log: axis.is_log, from: least, to: most, begin, end, ticks: values };
        if !axis.is_log {
            let step = step(most - least);
            (scale.from, scale.to) = ((least / step).floor() * step, (most / step).ceil() * step);
            scale.ticks = iter::successors(Some(0.0), |count| Some(count + 1.0))
                .map(|count| scale.from + count * step)
                .take_while(|tick| *tick <= scale.to + step / 2.0)
                .collect();
        }
        if scale.from >= scale.to {
            scale.to = scale.from + 1.0;
        }
        scale.thin_out();
        scale
    }

    fn at(&self, value: f64) -> f64 {
        let place = |value: f64| if self.is_log { value.ln() } else { value };
        let part = (place(value) - place(self.from)) / (place(self.to) - place(self.from));
        self.begin + part * (self.end - self.begin)
    }

    /// Leaves out ticks too near to the one before.
    fn thin_out(&mut self) {
        let mut last: Option<f64> = None;
        let all = std::mem::take(&mut self.ticks);
        for tick in all {
            let at = self.at(tick);
            if last.is_none_or(|last| (at - last).abs() >= TICK_GAP) {
                last = Some(at);
                self.ticks.push(tick);
            }
        }
    }
}

/// A round number (1, 2 or 5 and zeros) of which four to ten make up `span`.
fn step(span: f64) -> f64 {
    if span <= 0.0 {
        return 1.0;
    }
    let rough = span / 8.0;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough).unwrap_or(rough)
}

fn head() -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    )
}

fn x_axis(scale: &Scale, label: &str) -> Vec<String> {
    let tick = |value: &f64| {
        let at = scale.at(*value);
        [path(&[(at, TOP), (at, BOTTOM)], GRID), text((at, BOTTOM + 18.0), "middle", "", &number(*value))].concat()
    };
    let mut axis: Vec<String> = scale.ticks.iter().map(tick).collect();
    axis.push(text((f64::midpoint(LEFT, RIGHT), BOTTOM + 42.0), "middle", "", label));
    axis
}

fn y_axis(scale: &Scale, label: &str) -> Vec<String> {
    let tick = |value: &f64| {
        let at = scale.at(*value);
        [path(&[(LEFT, at), (RIGHT, at)], GRID), text((LEFT - 8.0, at + 4.0), "end", "", &number(*value))].concat()
    };
    let mut axis: Vec<String> = scale.ticks.iter().map(tick).collect();
    let middle = f64::midpoint(TOP, BOTTOM);
    axis.push(text((18.0, middle), "middle", &format!("transform=\"rotate(-90 18 {middle})\""), label));
    axis
}

fn drawn(line: &Line, colour: &str, x: &Scale, y: &Scale) -> Vec<String> {
    let places: Vec<(f64, f64)> = line.points.iter().map(|(from, to)| (x.at(*from), y.at(*to))).collect();
    let dot = |(x, y): &(f64, f64)| format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>\n");
    let stroke = format!("stroke=\"{colour}\" stroke-width=\"2\"");
    iter::once(path(&places, &stroke)).chain(places.iter().map(dot)).collect()
}

/// The lines' names, beside them.
fn legend(chart: &Chart) -> Vec<String> {
    let lines = chart.lines.iter().zip(COLOURS.iter().cycle());
    let named = lines.map(|(line, colour)| (line.name, format!("stroke=\"{colour}\" stroke-width=\"2\"")));
    let all = named.chain(chart.target.map(|(_, name)| (name, TARGET.to_owned())));
    let heights = iter::successors(Some(TOP + 8.0), |at| Some(at + 20.0));
    let row = |((name, stroke), at): ((&str, String), f64)| {
        let begin = RIGHT + 14.0;
        [path(&[(begin, at), (begin + 24.0, at)], &stroke), text((begin + 30.0, at + 4.0), "start", "", name)].concat()
    };
    all.zip(heights).map(row).collect()
}

fn path(places: &[(f64, f64)], stroke: &str) -> String {
    let places: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!("<polyline points=\"{}\" fill=\"none\" {stroke}/>\n", places.join(" "))
}

fn text((x, y): (f64, f64), anchor: &str, more: &str, content: &str) -> String {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{content}</text>\n")
}

/// A number as people write it: no more digits than it has, thousands apart.
fn number(value: f64) -> String {
    let rounded = format!("{value:.6}");
    let short = rounded.trim_end_matches('0').trim_end_matches('.');
    let (whole, rest) = short.split_at(short.find('.').unwrap_or(short.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(label: &str, is_log: bool, from: Option<f64>) -> Axis<'_> {
        Axis { label, is_log, from }
    }

    #[test]
    fn a_chart_has_its_axes_lines_names_and_target() {
        let lines = [
            Line { name: "rarest & serial", points: &[(1.0, 1.01), (4.0, 1.02), (256.0, 1.04)] },
            Line { name: "naive", points: &[(1.0, 1.05), (4.0, 1.1), (256.0, 1.21)] },
        ];
        let (x, y) = (axis("leechers", true, None), axis("times the bound", false, Some(1.0)));
        let svg = line_chart(&Chart { title: "Spread", x, y, lines: &lines, target: Some((1.05, "target")) });
        for part in
            [">leechers<", ">times the bound<", ">Spread<", ">rarest &amp; serial<", ">naive<", ">target<", ">256<"]
        {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 6);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn an_empty_chart_and_one_of_one_point_are_charts() {
        for points in [&[][..], &[(3.0, 7.0)]] {
            for is_log in [false, true] {
                let lines = [Line { name: "one", points }];
                let (x, y) = (axis("x", is_log, None), axis("y", false, None));
                let svg = line_chart(&Chart { title: "", x, y, lines: &lines, target: None });
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn equal_factors_are_equally_far_apart_on_a_logarithmic_axis() {
        let scale = Scale::new(axis("", true, None), vec![1.0, 4.0, 16.0], 0.0, 100.0);
        assert_eq!([1.0, 4.0, 16.0].map(|value| format!("{:.3}", scale.at(value))), ["0.000", "50.000", "100.000"]);
        let dense = Scale::new(axis("", true, None), vec![100.0, 101.0, 10_000.0], 0.0, 100.0);
        assert_eq!(dense.ticks, [100.0, 10_000.0]);
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        let scale = Scale::new(axis("", false, Some(0.0)), vec![13.0, 97.0], 0.0, 500.0);
        assert_eq!(scale.ticks, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!((scale.at(0.0), scale.at(50.0)), (0.0, 250.0));
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.1 + 0.2, 1.05, 50_000.0, 1_234_567.5, -1000.0, 0.0].map(number);
        assert_eq!(shown, ["0.3", "1.05", "50,000", "1,234,567.5", "-1,000", "0"]);
    }
}
