//! Measuring: the sides of a group take turns, round by round; a figure is the median over the rounds, and a ratio is
//! the median of the ratios within each round.

use std::time::Duration;

use cpu_time::{ProcessTime, ThreadTime};
use millstream::clock::Stopwatch;
use serde::Serialize;

/// Why a measurement could not be made, for people.
pub(crate) type Failed = String;

/// Time that one side works in one round, where it is measured by CPU time.
const ROUND: Duration = Duration::from_millis(20);

/// What time is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Clock {
    /// CPU time of the measuring thread: for work on one thread; blind to what else the machine does
    ThreadCpu,
    /// the wall clock: for pipelines, whose tasks run at the same time
    Wall,
}

/// One way to do the work of a group.
pub(crate) struct Side<'a> {
    name: String,
    run: Box<dyn FnMut() -> Result<Work, Failed> + 'a>,
}

/// What a side has done.
struct Work {
    units: u64,
    /// where not all that was done is what is measured
    took: Option<Duration>,
}

impl<'a> Side<'a> {
    /// `run` does the work once and answers how many rows (or calls) it was.
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut() -> Result<u64, Failed> + 'a) -> Self {
        let mut run = run;
        Self { name: name.into(), run: Box::new(move || Ok(Work { units: run()?, took: None })) }
    }

    /// `run` does the work once and answers how long the part of it took that counts, as one unit.
    pub(crate) fn timed(name: impl Into<String>, run: impl FnMut() -> Result<Duration, Failed> + 'a) -> Self {
        let mut run = run;
        Self { name: name.into(), run: Box::new(move || Ok(Work { units: 1, took: Some(run()?) })) }
    }
}

/// Things to compare. The first side is what the others are compared with.
pub(crate) struct Group<'a> {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    /// what is counted: `row`, `call`
    pub(crate) unit: &'static str,
    pub(crate) sides: Vec<Side<'a>>,
}

/// One side of one group, measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) group: String,
    pub(crate) side: String,
    pub(crate) clock: Clock,
    pub(crate) unit: &'static str,
    pub(crate) rounds: usize,
    /// nanoseconds for each unit, the median round
    pub(crate) ns: f64,
    /// the quickest round
    pub(crate) ns_min: f64,
    /// the slowest round
    pub(crate) ns_max: f64,
    /// CPU time of all threads for each unit, where `ns` is by the wall clock
    pub(crate) cpu_ns: Option<f64>,
    /// times what the group's first side takes; `None` for the first itself
    pub(crate) ratio: Option<f64>,
}

/// One side in one round.
#[derive(Clone, Copy)]
struct Sample {
    ns: f64,
    cpu_ns: f64,
}

/// Measures all sides of a group.
pub(crate) fn group(mut group: Group<'_>, quick: bool) -> Result<Vec<Figure>, Failed> {
    let name = group.name.clone();
    let failed = |side: &Side<'_>, reason: Failed| format!("{name}, {}: {reason}", side.name);
    let mut repeats = Vec::new();
    for side in &mut group.sides {
        let repeat = calibrate(side, group.clock, quick).map_err(|reason| failed(side, reason))?;
        repeats.push(repeat);
    }
    let rounds = match (group.clock, quick) {
        (Clock::ThreadCpu, false) => 25,
        (Clock::Wall, false) => 7,
        (_, true) => 3,
    };
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); group.sides.len()];
    for _ in 0..rounds {
        for ((side, repeat), samples) in group.sides.iter_mut().zip(&repeats).zip(&mut samples) {
            samples.push(sample(side, group.clock, *repeat).map_err(|reason| failed(side, reason))?);
        }
    }
    let baseline = samples.first().cloned().unwrap_or_default();
    let figures = group.sides.iter().zip(&samples).enumerate().map(|(index, (side, samples))| {
        let ns: Vec<f64> = samples.iter().map(|sample| sample.ns).collect();
        let ratios = samples.iter().zip(&baseline).map(|(side, base)| side.ns / base.ns);
        Figure {
            group: group.name.clone(),
            side: side.name.clone(),
            clock: group.clock,
            unit: group.unit,
            rounds,
            ns: median(ns.iter().copied()),
            ns_min: ns.iter().copied().fold(f64::INFINITY, f64::min),
            ns_max: ns.iter().copied().fold(0.0, f64::max),
            cpu_ns: (group.clock == Clock::Wall).then(|| median(samples.iter().map(|sample| sample.cpu_ns))),
            ratio: (index > 0).then(|| median(ratios)),
        }
    });
    Ok(figures.collect())
}

/// How often the work is done in a round. Warms caches on the way.
fn calibrate(side: &mut Side<'_>, clock: Clock, quick: bool) -> Result<u32, Failed> {
    if clock == Clock::Wall {
        if !quick {
            (side.run)()?;
        }
        return Ok(1);
    }
    (side.run)()?;
    let started = ThreadTime::now();
    (side.run)()?;
    let once = started.elapsed().max(Duration::from_nanos(1));
    let round = if quick { ROUND / 10 } else { ROUND };
    Ok(u32::try_from(round.as_nanos() / once.as_nanos()).unwrap_or(u32::MAX).max(1))
}

fn sample(side: &mut Side<'_>, clock: Clock, repeat: u32) -> Result<Sample, Failed> {
    let mut units = 0;
    let (elapsed, cpu) = match clock {
        Clock::ThreadCpu => {
            let started = ThreadTime::now();
            for _ in 0..repeat {
                units += (side.run)()?.units;
            }
            let elapsed = started.elapsed();
            (elapsed, elapsed)
        }
        Clock::Wall => {
            let (watch, cpu) = (Stopwatch::start(), ProcessTime::now());
            let mut took = None;
            for _ in 0..repeat {
                let work = (side.run)()?;
                units += work.units;
                took = work.took.map(|time| took.unwrap_or(Duration::ZERO) + time);
            }
            (took.unwrap_or_else(|| watch.elapsed()), cpu.elapsed())
        }
    };
    if units == 0 {
        return Err("nothing was done".to_owned());
    }
    let each = |time: Duration| time.as_secs_f64() * 1e9 / units as f64;
    Ok(Sample { ns: each(elapsed), cpu_ns: each(cpu) })
}

/// The middle value; of an even number the upper of the two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_and_the_first_is_the_baseline() {
        let order = std::cell::RefCell::new(String::new());
        let side = |name: &'static str| {
            let order = &order;
            Side::new(name, move || {
                order.borrow_mut().push_str(name);
                Ok(1)
            })
        };
        let sides = vec![side("a"), side("b")];
        let figures = group(Group { name: "turns".into(), clock: Clock::Wall, unit: "row", sides }, true);
        let figures = figures.expect("figures");
        assert_eq!(order.borrow().as_str(), "ababab");
        assert!(figures[0].ratio.is_none() && figures[1].ratio.is_some());
    }

    #[test]
    fn a_median_is_not_moved_by_one_slow_round() {
        assert!((median([1.0, 900.0, 2.0].into_iter()) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_failure_names_group_and_side() {
        let sides = vec![Side::new("broken", || Err("no rows".to_owned()))];
        let failed = group(Group { name: "turns".into(), clock: Clock::ThreadCpu, unit: "row", sides }, true);
        assert_eq!(failed.expect_err("a failure"), "turns, broken: no rows");
    }
}
