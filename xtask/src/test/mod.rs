//! `cargo xtask test`: everything that must hold, in one go, with a verdict that names each part.
//!
//! A part that fails does not stop the others, except where they could not run without it.

mod outcome;
mod tests_of;

use std::time::Instant;

use outcome::{Outcome, Part, Verdict};

use crate::command::{self, cargo, is_ci, result, say};
use crate::{Failed, guests, setup};

/// Runs all parts, or with `--filter WORD` the tests whose names contain the word.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failed> {
    let filter = match arguments {
        [] => None,
        [flag, word] if flag == "--filter" => Some(word.as_str()),
        _ => return Err("expected `cargo xtask test [--filter WORD]`".to_owned()),
    };
    let mut parts = Vec::new();
    parts.push(part("toolchain", setup::prepare));
    if filter.is_none() {
        parts.push(part("format", || command::run(&mut cargo(&["fmt", "--all", "--", "--check"]))));
        parts.push(part("lints", lints));
    }
    let guests = part("guests", || guests::run(&[]));
    let have_guests = guests.has_passed();
    parts.push(guests);
    match have_guests {
        // their absence would fail many tests for a reason that stands above already
        false => parts.push(Part::skipped("tests", "the guests could not be built")),
        true => {
            heading("tests");
            parts.extend(tests_of::workspace(filter));
            heading("tests of guest-examples");
            parts.extend(tests_of::guest_examples(filter));
        }
    }
    if filter.is_none() {
        parts.push(part("documentation", documentation));
    }
    verdict(&parts)
}

fn heading(name: &str) {
    say(&format!("\n══ {name} {}", "═".repeat(90_usize.saturating_sub(name.len()))));
}

/// A part that succeeds or fails as a whole.
fn part(name: &str, check: impl FnOnce() -> Result<(), Failed>) -> Part {
    heading(name);
    let started = now();
    let outcome = match check() {
        Ok(()) => Outcome::Passed,
        Err(reason) => {
            say(&format!("{name} failed: {reason}"));
            Outcome::Failed(reason)
        }
    };
    Part::single(name, outcome, started.elapsed())
}

#[allow(clippy::disallowed_methods)] // shown to people; xtask does not know the runtime's clock
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn lints() -> Result<(), Failed> {
    let arguments = ["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    command::run(&mut cargo(&arguments))
}

fn documentation() -> Result<(), Failed> {
    let arguments = ["doc", "--release", "--workspace", "--no-deps", "--quiet"];
    command::run(cargo(&arguments).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Prints the table and the last line.
fn verdict(parts: &[Part]) -> Result<(), Failed> {
    let Verdict { table, passed, failed, skipped } = outcome::verdict(parts);
    heading("summary");
    result(&table);
    result(&format!("{passed} passed, {failed} failed, {skipped} skipped"));
    if failed > 0 || (is_ci() && skipped > 0) {
        std::process::exit(1);
    }
    Ok(())
}
