//! Tables for people, JSON for programs.

use std::io::{self, Write};

use crate::Results;
use crate::machine::Machine;
use crate::measure::{Clock, Failed, Figure};

/// What the figures were seen on.
pub(crate) fn heading(machine: &Machine) -> Result<(), Failed> {
    let Machine { cpu, cores, memory_gib, system } = machine;
    print(&format!("{cpu}, {cores} logical processors, {memory_gib} GiB, {system}\n"))
}

/// The sides of one group.
pub(crate) fn table(figures: &[Figure]) -> Result<(), Failed> {
    let Some(first) = figures.first() else { return Ok(()) };
    let clock = match first.clock {
        Clock::ThreadCpu => "CPU time of one thread",
        Clock::Wall => "wall clock",
    };
    let unit = first.unit;
    let mut text = format!("\n{} ({clock}, median of {} rounds)\n", first.group, first.rounds);
    let names = figures.iter().map(|figure| figure.side.len()).max().unwrap_or(0);
    let per = |what: &str| format!("{what}/{unit}");
    let cells = [per("ns"), "min".into(), "max".into(), per("CPU ns"), format!("M {unit}s/s"), "ratio".into()];
    text.push_str(&line(names, "", &cells));
    for figure in figures {
        let cells = [
            number(figure.ns),
            number(figure.ns_min),
            number(figure.ns_max),
            figure.cpu_ns.map_or_else(String::new, number),
            number(1_000.0 / figure.ns),
            figure.ratio.map_or_else(|| "1".to_owned(), |ratio| format!("{ratio:.2}")),
        ];
        text.push_str(&line(names, &figure.side, &cells));
    }
    print(&text)
}

fn line(width: usize, name: &str, cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>13}")).collect();
    format!("  {name:width$}{}\n", cells.concat())
}

/// Three significant digits or so.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// All figures as one object.
pub(crate) fn json(machine: &Machine, figures: &[Figure]) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(&Results { machine, figures });
    print(&format!("{}\n", text.map_err(|error| error.to_string())?))
}

fn print(text: &str) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("cannot write to standard output: {error}"))
}

/// What a figure alone does not say, on stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "  {text}");
}

/// A failure, on stderr.
pub(crate) fn complain(reason: &str) {
    let _ = writeln!(io::stderr(), "error: {reason}");
}
