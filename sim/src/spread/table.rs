//! Swarms of many sizes, as a table.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::PathBuf,
    thread,
};

use p2p::roles::bench::plot::{Axis, Chart, Line, line_chart};

use super::{Case, Outcome, Policy, Twist, world};

/// Which swarms.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Numbers of leechers
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64,256", value_parser = clap::value_parser!(u32).range(1..=4096))]
    leechers: Vec<u32>,
    /// Numbers of pieces
    #[arg(long, value_delimiter = ',', default_value = "16,64,256,1024", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pieces: Vec<u32>,
    /// Runs of each; the worst counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Leave out the swarms in which something happens
    #[arg(long)]
    calm: bool,
    /// Draw the last completion over the leechers, a line for each number of pieces, as an SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// The most that control bytes may be of the payload (SWARM.md).
const CONTROL: f64 = 0.005;

/// Sizes at which something happens.
const TWISTED: [(u32, u32); 3] = [(16, 64), (64, 64), (64, 256)];

/// What may happen, how it is called, and the most that the last completion may take at 64 leechers and 256 pieces.
const TWISTS: [(Twist, &str, Option<f64>); 6] = [
    (Twist::Mixed, "mixed uplinks", None),
    (Twist::Late, "late joiners", None),
    (Twist::SeederLeaves, "seeder leaves", None),
    (Twist::Churn, "20 % churn", Some(1.20)),
    (Twist::Corrupt, "1 of 8 corrupt", Some(1.12)),
    (Twist::Stall, "1 of 8 stalls", Some(1.12)),
];

/// The most that the last completion may take over the bound (SWARM.md), where that is promised.
fn target(case: &Case) -> Option<f64> {
    match (case.twist, case.leechers, case.pieces) {
        (Twist::None, 64, 256) => Some(1.05),
        (Twist::None, 64, 64) | (Twist::None, 16, 16) => Some(1.15),
        (twist, 64, 256) => TWISTS.iter().find(|(other, ..)| *other == twist).and_then(|(.., most)| *most),
        _ => None,
    }
}

/// Prints the tables; false where a target was missed.
pub(crate) fn print(arguments: &Arguments, out: &mut impl Write) -> io::Result<bool> {
    let seeds = arguments.seeds;
    writeln!(out, "Last completion over the least possible time; the worst of {seeds} runs (naive: of one).\n")?;
    writeln!(out, "| leechers | pieces | ours | target | naive | copies from the seeder | control bytes |")?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    let (mut held, mut curves) = (true, BTreeMap::<u32, Vec<(f64, f64)>>::new());
    let sizes = arguments.leechers.iter().flat_map(|n| arguments.pieces.iter().map(move |m| (*n, *m)));
    for (leechers, pieces) in sizes {
        let case = Case { leechers, pieces, twist: Twist::None, policy: Policy::Ours };
        let ours = Worst::of(&case, seeds);
        let naive = Worst::of(&Case { policy: Policy::Naive, ..case }, 1);
        held &= ours.holds(&case);
        curves.entry(pieces).or_default().extend(ours.ratio.map(|ratio| (f64::from(leechers), ratio)));
        let (ratio, target, copies) = (text(ours.ratio), wanted(&case), ours.copies);
        let control = ours.control * 100.0;
        writeln!(
            out,
            "| {leechers} | {pieces} | {ratio} | {target} | {} | {copies:.2} | {control:.2} % |",
            text(naive.ratio)
        )?;
        out.flush()?;
    }
    if let Some(path) = &arguments.plot {
        #[expect(clippy::disallowed_methods, reason = "drawn beside the runs")]
        fs::write(path, draw(curves))?;
    }
    if !arguments.calm {
        held &= twisted(seeds, out)?;
    }
    Ok(held)
}

/// The chart of what each number of pieces took, at each number of leechers.
fn draw(mut curves: BTreeMap<u32, Vec<(f64, f64)>>) -> String {
    for points in curves.values_mut() {
        points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    }
    let names: Vec<String> = curves.keys().map(|pieces| format!("{pieces} pieces")).collect();
    let lines: Vec<Line> = names.iter().zip(curves.values()).map(|(name, points)| Line { name, points }).collect();
    line_chart(&Chart {
        title: "How near swarms come to the least possible time",
        x: Axis { label: "leechers", is_log: true, from: None },
        y: Axis { label: "last completion over the least possible time", is_log: false, from: Some(1.0) },
        lines: &lines,
        target: None,
    })
}

fn twisted(seeds: u64, out: &mut impl Write) -> io::Result<bool> {
    writeln!(out, "\n| what happens | leechers | pieces | ours | target | copies from the seeder | control bytes |")?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    let mut held = true;
    for (twist, name, _) in TWISTS {
        for (leechers, pieces) in TWISTED {
            let case = Case { leechers, pieces, twist, policy: Policy::Ours };
            let ours = Worst::of(&case, seeds);
            held &= ours.holds(&case);
            let (ratio, target, copies) = (text(ours.ratio), wanted(&case), ours.copies);
            let control = ours.control * 100.0;
            writeln!(out, "| {name} | {leechers} | {pieces} | {ratio} | {target} | {copies:.2} | {control:.2} % |")?;
            out.flush()?;
        }
    }
    Ok(held)
}

fn wanted(case: &Case) -> String {
    target(case).map_or_else(String::new, |most| format!("{most:.2}"))
}

fn text(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "never".to_owned(), |ratio| format!("{ratio:.3}"))
}

/// The worst of several runs.
struct Worst {
    ratio: Option<f64>,
    copies: f64,
    control: f64,
}

impl Worst {
    fn of(case: &Case, seeds: u64) -> Self {
        let outcomes = all(case, seeds);
        let most = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).fold(0.0, f64::max);
        let ratios: Option<Vec<f64>> = outcomes.iter().map(Outcome::ratio).collect();
        let ratio = ratios.map(|ratios| ratios.into_iter().fold(0.0, f64::max));
        Self { ratio, copies: most(|it| it.copies), control: most(|it| it.control) }
    }

    fn holds(&self, case: &Case) -> bool {
        self.control <= CONTROL && target(case).is_none_or(|most| self.ratio.is_some_and(|ratio| ratio <= most))
    }
}

/// Every seed's outcome; seeds go side by side.
fn all(case: &Case, seeds: u64) -> Vec<Outcome> {
    #[expect(clippy::disallowed_methods, reason = "each run is a world of its own")]
    thread::scope(|scope| {
        let running: Vec<_> = (1..=seeds).map(|seed| scope.spawn(move || world::run(case, seed))).collect();
        running.into_iter().map(|run| run.join().expect("a run does not panic")).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not the targets, which are the table's to tell: whether all goes on as it should.
    #[test]
    fn small_swarms_end_in_good_time_whatever_happens() {
        for (twist, ..) in TWISTS {
            let case = Case { leechers: 16, pieces: 64, twist, policy: Policy::Ours };
            let ratio = Worst::of(&case, 1).ratio.expect("it ends");
            assert!((1.0..=2.5).contains(&ratio), "{twist:?}: {ratio:.3}");
        }
    }

    #[test]
    fn a_seed_is_one_outcome() {
        let case = Case { leechers: 8, pieces: 16, twist: Twist::Corrupt, policy: Policy::Ours };
        let [one, other] = [1, 1].map(|seed| world::run(&case, seed));
        assert_eq!((one.took_s, one.copies, one.control), (other.took_s, other.copies, other.control));
    }

    #[test]
    fn ours_is_better_than_naive() {
        let case = Case { leechers: 16, pieces: 16, twist: Twist::None, policy: Policy::Ours };
        let naive = Worst::of(&Case { policy: Policy::Naive, ..case }, 1).ratio.expect("it ends");
        let ours = Worst::of(&case, 1).ratio.expect("it ends");
        assert!(ours < naive, "{ours:.3} {naive:.3}");
    }
}
