//! Drives a pipeline with a script, in virtual time: rows, watermarks, restores and swaps go in line by line, and what
//! comes out is compared with what the script expects.
//!
//! ```text
//!   script.jsonl ──read──▶ Script ──compile (against the plan)──▶ acts ──▶ runner ──▶ Outcome
//!                                                                          │   ▲
//!                              scripted sources ◀── rows, watermarks ──────╯   │ rows of all sinks
//!                              the real plan, tasks, exchanges, state ─────────╯
//! ```
//!
//! Sources and sinks are the only parts that are not those of a real run. After every line a barrier passes all tasks, so
//! that a line's results are there before the next line is looked at: nothing waits for a wall clock, nothing is guessed.

mod cell;
mod compile;
mod engine;
mod expect;
mod line;
mod outcome;
mod read;
mod runner;

pub use line::{Action, Line, Script, SwapLine};
pub use outcome::{Failure, Missing, Nearest, Outcome, RowsDiffer, What};
pub use runner::{Runner, RunnerOptions};
