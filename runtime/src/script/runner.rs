//! Carries out the lines of a script, one after the other.

use std::sync::Arc;

use arrow_buffer::ScalarBuffer;
use arrow_select::concat::concat_batches;

use super::cell::Cell;
use super::compile::{Act, Do, Ends, compile};
use super::engine::Engine;
use super::expect;
use super::line::Script;
use super::outcome::{Failure, Outcome, What};
use crate::clock::{Clock, Stopwatch};
use crate::error::PipelineError;
use crate::pipeline::build::RunOptions;
use crate::pipeline::resolve::{Components, Resolution, resolve};
use crate::pipeline::spec::PipelineSpec;
use crate::record::{Batch, Watermark};
use crate::rng::SplitMix;
use crate::source::ChannelEvent;
use crate::wasm::Sandbox;

/// The most rows that are put together where batches are shuffled.
const SHUFFLED_ROWS: u64 = 8;

/// What may differ from run to run of a script, and must not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunnerOptions {
    /// tasks of each source and step that does not fix its own, in place of the pipeline's `parallelism`
    pub parallelism: Option<usize>,
    /// puts rows that follow each other into batches of random sizes, and cuts these again at random places
    pub shuffle_batches: Option<u64>,
}

/// A pipeline to run scripts against. Every script starts it anew.
#[derive(Debug)]
pub struct Runner {
    resolution: Resolution,
    sandbox: Sandbox,
    options: RunnerOptions,
}

impl Runner {
    /// Loads the components of `spec` and checks the pipeline. Nothing is opened, now or later: scripts stand in the place
    /// of sources and sinks.
    ///
    /// # Errors
    /// All that is wrong with the pipeline.
    pub fn new(mut spec: PipelineSpec, sandbox: Sandbox, options: RunnerOptions) -> Result<Self, PipelineError> {
        if let Some(parallelism) = options.parallelism {
            spec.parallelism = Some(parallelism.into());
        }
        Ok(Self { resolution: resolve(spec, &sandbox)?, sandbox, options })
    }

    /// Checks a script against the pipeline, without running it.
    ///
    /// # Errors
    /// All lines that do not fit the pipeline.
    pub fn check(&self, script: &Script) -> Result<(), PipelineError> {
        self.compile(script).map(drop)
    }

    /// Runs a script up to its end, or to the first line that does not go as expected.
    ///
    /// # Errors
    /// All lines that do not fit the pipeline; then nothing was run.
    pub async fn run(&self, script: &Script) -> Result<Outcome, PipelineError> {
        let watch = Stopwatch::start();
        let (ends, acts) = self.compile(script)?;
        let mut course = Course::new(self, ends);
        let mut failure = course.begin().await.err().map(|what| (acts.first().map_or(1, |act| act.line), what));
        let mut left = acts.as_slice();
        while let (None, Some(act)) = (&failure, left.first()) {
            let lines = course.together(left);
            let (now, rest) = left.split_at(lines.max(1).min(left.len()));
            failure = course.step(act, now).await.err().map(|what| (act.line, what));
            left = rest;
        }
        let (rows, held) = (course.rows, course.held);
        course.drop_engine().await;
        let failure = failure.map(|(line, what)| Failure { line, what });
        Ok(Outcome { rows, held, elapsed: watch.elapsed(), failure })
    }

    fn compile(&self, script: &Script) -> Result<(Ends, Vec<Act>), PipelineError> {
        let ends = Ends::of(&self.resolution.plan);
        let acts = compile(script, &self.resolution.plan, &self.resolution.components, &ends)?;
        Ok((ends, acts))
    }
}

/// Something that a source has said about event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Said {
    Watermark(i64),
    Idle,
    Active,
}

/// All that sources have said, as far as it still matters: a run that goes on from state is told again.
#[derive(Clone, Debug, Default)]
struct Told {
    said: Vec<(usize, Said)>,
}

impl Told {
    /// As long as no source has been idle, the last watermark of each is all there is to know. After that the order counts:
    /// a source that was idle has no say until it has caught up.
    fn add(&mut self, source: usize, said: Said) {
        if let Said::Watermark(_) = said {
            let of_source = |entry: &(usize, Said)| entry.0 == source && matches!(entry.1, Said::Watermark(_));
            let before = self.said.iter().rfind(|entry| of_source(entry));
            if before.is_some_and(|(_, before)| *before >= said) {
                return; // it never goes back
            }
            if self.said.iter().all(|(_, said)| matches!(said, Said::Watermark(_))) {
                self.said.retain(|entry| !of_source(entry));
            } else if self.said.last().is_some_and(of_source) {
                self.said.pop();
            }
        }
        self.said.push((source, said));
    }

    fn idle(&self, source: usize) -> bool {
        let of_idleness = |entry: &&(usize, Said)| entry.0 == source && !matches!(entry.1, Said::Watermark(_));
        matches!(self.said.iter().rev().find(of_idleness), Some((_, Said::Idle)))
    }
}

impl From<Said> for ChannelEvent {
    fn from(said: Said) -> Self {
        match said {
            Said::Watermark(time) => Self::Watermark(Watermark(time)),
            Said::Idle => Self::Idle,
            Said::Active => Self::Active,
        }
    }
}

/// Counts of the runs before this one, and those that an expectation has seen.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    before: u64,
    seen: u64,
}

impl Counted {
    /// What is new now that the current run has counted `now`.
    fn new_rows(&mut self, now: u64) -> u64 {
        let total = self.before + now;
        total.saturating_sub(std::mem::replace(&mut self.seen, total))
    }
}

/// A script on its way through a pipeline.
struct Course<'a> {
    runner: &'a Runner,
    ends: Ends,
    engine: Option<Engine>,
    /// that of the last restore which gave one
    parallelism: Option<usize>,
    clock: Clock,
    told: Told,
    late: Counted,
    dead: Counted,
    /// dead letters that a line has looked at
    letters_read: u64,
    random: SplitMix,
    rows: u64,
    held: usize,
}

impl<'a> Course<'a> {
    fn new(runner: &'a Runner, ends: Ends) -> Self {
        Self {
            told: Told::default(),
            runner,
            ends,
            engine: None,
            parallelism: None,
            clock: Clock::virtual_at_ms(0),
            late: Counted::default(),
            dead: Counted::default(),
            letters_read: 0,
            random: SplitMix::new(runner.options.shuffle_batches.unwrap_or(0)),
            rows: 0,
            held: 0,
        }
    }

    fn options(&self) -> RunOptions {
        RunOptions {
            clock: self.clock.clone(),
            shuffle_batches: self.runner.options.shuffle_batches,
            ..RunOptions::default()
        }
    }

    async fn begin(&mut self) -> Result<(), What> {
        let (resolution, sandbox) = (self.runner.resolution.clone(), self.runner.sandbox.clone());
        let engine = Engine::start(resolution, sandbox, &self.options(), Vec::new()).await;
        self.engine = Some(engine.map_err(|error| What::Stopped { reason: error.to_string() })?);
        Ok(())
    }

    async fn drop_engine(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.abort().await;
        }
    }

    fn engine(&mut self) -> Result<&mut Engine, What> {
        self.engine.as_mut().ok_or_else(|| What::Stopped { reason: "it does not run".to_owned() })
    }

    /// How many of the acts, from the first on, are carried out as one: rows of one source, where batches are shuffled.
    fn together(&mut self, acts: &[Act]) -> usize {
        let Some(Act { what: Do::Row { source: first, .. }, .. }) = acts.first() else { return 1 };
        if self.runner.options.shuffle_batches.is_none() {
            return 1;
        }
        let most = usize::try_from(1 + self.random.draw() % SHUFFLED_ROWS).unwrap_or(1);
        let same = |act: &&Act| matches!(act.what, Do::Row { source, .. } if source == *first);
        acts.iter().take(most).take_while(same).count()
    }

    /// Carries out an act; `now` is the act and those that go with it.
    async fn step(&mut self, act: &Act, now: &[Act]) -> Result<(), What> {
        match &act.what {
            Do::Row { source, .. } => self.row(*source, now).await,
            Do::Watermark { sources, time } => self.watermark(sources, *time).await,
            Do::Idle(source) => self.idle(*source).await,
            Do::Active(source) => {
                self.active(*source).await?;
                self.settle().await
            }
            Do::Restore(parallelism) => self.restore(*parallelism).await,
            Do::Swap(requests) => {
                let result = self.engine()?.swap(requests).await;
                result.map_err(|error| What::Swap { reason: error.to_string() })?;
                self.settle().await
            }
            Do::Clock(time) => {
                // what is due by then is done before the barrier passes
                self.clock.set_ms(*time);
                self.settle().await
            }
            Do::End => self.engine()?.end().await.map_err(|reason| What::Stopped { reason }),
            Do::Expect { sink, rows } => self.expect(*sink, rows).await,
            Do::ExpectLate(expected) => {
                let late = self.engine()?.total(|counts| counts.late_rows);
                let found = self.late.new_rows(late);
                self.hold(found == *expected, || What::Late { expected: *expected, found })
            }
            Do::ExpectDead(expected) => self.expect_dead(*expected).await,
        }
    }

    fn hold(&mut self, holds: bool, what: impl FnOnce() -> What) -> Result<(), What> {
        if !holds {
            return Err(what());
        }
        self.held += 1;
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), What> {
        self.engine()?.settle().await.map_err(|reason| What::Stopped { reason })
    }

    async fn row(&mut self, source: usize, acts: &[Act]) -> Result<(), What> {
        self.active(source).await?;
        let batches: Vec<&Batch> = acts
            .iter()
            .filter_map(|act| match &act.what {
                Do::Row { batch, .. } => Some(batch),
                _ => None,
            })
            .collect();
        self.rows += batches.len() as u64;
        let batch = joined(&batches).map_err(|reason| What::Stopped { reason })?;
        self.engine()?.rows(source, batch).await;
        self.settle().await
    }

    async fn watermark(&mut self, sources: &[usize], time: i64) -> Result<(), What> {
        for &source in sources {
            self.active(source).await?;
            self.tell(source, Said::Watermark(time)).await?;
        }
        self.settle().await
    }

    async fn idle(&mut self, source: usize) -> Result<(), What> {
        if !self.told.idle(source) {
            self.tell(source, Said::Idle).await?;
        }
        self.settle().await
    }

    /// A source that has something to say is not idle any more.
    async fn active(&mut self, source: usize) -> Result<(), What> {
        if self.told.idle(source) { self.tell(source, Said::Active).await } else { Ok(()) }
    }

    async fn tell(&mut self, source: usize, said: Said) -> Result<(), What> {
        self.told.add(source, said);
        self.engine()?.tell(source, said.into()).await;
        Ok(())
    }

    async fn expect(&mut self, sink: usize, expected: &[expect::ExpectedRow]) -> Result<(), What> {
        let of_letters = sink + 1 == self.ends.sinks.len();
        if of_letters {
            self.letters().await?;
        }
        let found = self.engine()?.take(sink);
        if of_letters {
            self.letters_read += found.len() as u64;
        }
        let differ = match self.ends.sinks.get(sink) {
            Some((name, schema)) => expect::compare(name, schema, expected, &found),
            None => None,
        };
        self.hold(differ.is_none(), || What::Rows(differ.unwrap_or_default()))
    }

    async fn expect_dead(&mut self, expected: u64) -> Result<(), What> {
        let dead = self.engine()?.total(|counts| counts.dead_rows);
        let found = self.dead.new_rows(dead);
        if found == expected {
            return self.hold(true, || What::Dead { expected, found, reasons: Vec::new() });
        }
        self.letters().await?;
        let last = self.ends.sinks.len().saturating_sub(1);
        let letters = self.engine()?.take(last);
        let new = letters.len().saturating_sub(usize::try_from(found).unwrap_or(usize::MAX));
        let reasons = letters.iter().skip(new).map(|letter| reason(letter)).collect();
        Err(What::Dead { expected, found, reasons })
    }

    /// Waits for the dead letters of the rows that have been counted as dead.
    async fn letters(&mut self) -> Result<(), What> {
        let dead = self.dead.before + self.engine()?.total(|counts| counts.dead_rows);
        let unread = usize::try_from(dead.saturating_sub(self.letters_read)).unwrap_or(usize::MAX);
        self.engine()?.letters(unread).await;
        Ok(())
    }

    async fn restore(&mut self, parallelism: Option<usize>) -> Result<(), What> {
        let failed = |reason: String| What::Restore { reason };
        self.letters().await?;
        let engine = self.engine()?;
        let cut = engine.snapshot().await.map_err(failed)?;
        let components = engine.components().await;
        let (late, dead) = (engine.total(|counts| counts.late_rows), engine.total(|counts| counts.dead_rows));
        self.late.before += late;
        self.dead.before += dead;
        let rows = match self.engine.take() {
            Some(engine) => engine.abort().await,
            None => Vec::new(),
        };
        self.parallelism = parallelism.or(self.parallelism);
        let resolution = self.replanned(components).map_err(|error| failed(error.to_string()))?;
        let options = RunOptions { restore: Some(Arc::new(cut)), ..self.options() };
        let engine = Engine::start(resolution, self.runner.sandbox.clone(), &options, rows).await;
        self.engine = Some(engine.map_err(|error| failed(error.to_string()))?);
        self.say_again().await
    }

    /// The pipeline at the parallelism of the last restore, with the components that run now.
    fn replanned(&self, components: Components) -> Result<Resolution, PipelineError> {
        let mut spec = self.runner.resolution.plan.spec.clone();
        if let Some(parallelism) = self.parallelism {
            spec.parallelism = Some(parallelism.into());
        }
        Resolution::of(spec, components)
    }

    /// Tells a new run what the sources had said, in the same order, so that its tasks merge it as those before did.
    async fn say_again(&mut self) -> Result<(), What> {
        for (source, said) in self.told.said.clone() {
            self.engine()?.tell(source, said.into()).await;
            self.settle().await?;
        }
        Ok(())
    }
}

/// Node and reason of a dead letter.
fn reason(letter: &[Cell]) -> String {
    let schema = crate::pipeline::dead_letter_schema();
    let text = |column: &str| match schema.index_of(column).and_then(|column| letter.get(column)) {
        Some(Cell::Text(text)) => text.clone(),
        _ => String::new(),
    };
    format!("`{}`: {}", text("node"), text("reason"))
}

/// Rows as one batch.
fn joined(batches: &[&Batch]) -> Result<Batch, String> {
    let [first, rest @ ..] = batches else { return Err("no rows".to_owned()) };
    if rest.is_empty() {
        return Ok((*first).clone());
    }
    let columns = concat_batches(&first.columns().schema(), batches.iter().map(|batch| batch.columns()));
    let times: Vec<i64> = batches.iter().flat_map(|batch| batch.times().iter().copied()).collect();
    let joined = Batch::new(columns.map_err(|error| error.to_string())?, ScalarBuffer::from(times));
    joined.ok_or_else(|| "rows and times differ".to_owned())
}
