//! The demo: a pipeline on made-up visits to a shop, one operator replaced while it runs, and proof at the end that
//! every row went through exactly one version of it.
//!
//! ```text
//!   visits ──▶ interested (wasm) ──▶ segment (wasm, replaced) ──▶ sales: by segment, 1 s ──▶ this process
//!   made by     drops page views       cart, small, medium, large    event time               table, recount
//!   row number
//! ```

mod recount;
mod sales;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::clock::{Clock, Stopwatch};
use millstream::control::{Handle, Running, Status, SwapReport};
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::resolve::resolve;
use millstream::pipeline::spec::PipelineSpec;
use millstream::record::Batch;
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::SourceKind;
use millstream::wasm::Sandbox;
use tokio::sync::mpsc;

use crate::console::{self, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::figures;
use crate::interrupt::{Interrupts, Request};
use sales::Sales;
use table::Table;

/// The pipeline as a user would write it.
const PIPELINE: &str = include_str!("pipeline.toml");

/// The step that is replaced, and by what.
const REPLACED: &str = "segment";
const REPLACEMENT: &str = "segment-finer.wasm";

/// How the demo is to run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// folder of the components
    pub(crate) guests: Option<PathBuf>,
    /// when it ends
    pub(crate) seconds: u64,
    /// no line that is written over
    pub(crate) plain: bool,
}

/// Runs the demo to its verdict.
pub(crate) fn run(options: &Options) -> Result<Exit, Failure> {
    let guests = guests(options.guests.as_deref())?;
    let sandbox = crate::command::sandbox()?;
    let mut spec = millstream::pipeline::read::parse(PIPELINE, Path::new("demo/pipeline.toml"), &guests)?;
    start_now(&mut spec);
    let runtime = crate::command::runtime()?;
    let exit = runtime.block_on(async {
        let live = live(&spec, &sandbox, &guests, options).await?;
        let Some(live) = live else { return Ok(Exit::Interrupted) };
        verify(&spec, &sandbox, live).await
    });
    runtime.shutdown_background();
    exit
}

/// The folder with the components: as given, else beside the place that this program was built in or started from.
fn guests(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let from_environment = std::env::var_os("MILLSTREAM_GUESTS").map(PathBuf::from);
    let built = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("guests")));
    let candidates = match given.map(Path::to_owned).or(from_environment) {
        Some(given) => vec![given],
        None => built.into_iter().chain([PathBuf::from("target/guests")]).collect(),
    };
    match candidates.iter().find(|folder| folder.join(REPLACEMENT).is_file()) {
        Some(folder) => Ok(folder.clone()),
        None => Err(Failure::Usage(format!(
            "no {REPLACEMENT} in {}; build the components with `cargo xtask guests`, or name their folder with --guests",
            candidates.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" or ")
        ))),
    }
}

/// Event time begins at the next whole second, so that the table shows the time of day.
fn start_now(spec: &mut PipelineSpec) {
    for source in &mut spec.sources {
        if let SourceKind::Generator(generator) = &mut source.kind.value {
            generator.start_ms = (Clock::system().now_ms() / 1_000 + 1) * 1_000;
        }
    }
}

/// The same pipeline with its results going to a channel of this process.
pub(crate) fn into_channel(spec: &mut PipelineSpec, capacity: usize) -> mpsc::Receiver<Batch> {
    let (sink, results) = ChannelSink::new(capacity);
    for output in &mut spec.sinks {
        output.kind = SinkKind::Channel(sink.clone()).into();
    }
    results
}

/// What came of the live part.
struct Live {
    sales: Sales,
    status: Status,
    swap: Option<SwapReport>,
}

/// Runs the pipeline and shows it; `None` when aborted.
async fn live(
    spec: &PipelineSpec,
    sandbox: &Sandbox,
    guests: &Path,
    options: &Options,
) -> Result<Option<Live>, Failure> {
    let mut spec = spec.clone();
    let mut results = into_channel(&mut spec, 64);
    let resolution = resolve(spec, sandbox)?;
    let mut interrupts = Interrupts::listen()?;
    let running = Running::start(resolution, sandbox.clone(), &RunOptions::default()).await?;
    let handle = running.handle();
    let mut script = Script::new(options.seconds, handle.clone(), guests.join(REPLACEMENT));
    let mut table = Table::open(options.plain);
    let mut sales = Sales::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut ended = std::pin::pin!(running.wait());
    let end = loop {
        tokio::select! {
            end = &mut ended => break end,
            Some(batch) = results.recv() => sales.add(&batch)?,
            request = interrupts.next() => match request {
                Request::Stop => script.stop().await,
                Request::Abort => return Ok(None),
            },
            _ = ticks.tick() => {
                table.show(&sales, &handle.status());
                script.go_on(&mut table).await?;
            }
        }
    };
    // all has been sent; the channel stays open as long as a handle holds the pipeline's specification
    while let Ok(batch) = results.try_recv() {
        sales.add(&batch)?;
    }
    let status = end?;
    table.finish(&sales);
    Ok(Some(Live { sales, status, swap: script.swap }))
}

/// What happens when.
struct Script {
    watch: Stopwatch,
    handle: Handle,
    replacement: PathBuf,
    announce_after: Duration,
    swap_after: Duration,
    stop_after: Duration,
    announced: bool,
    stopped: bool,
    swap: Option<SwapReport>,
}

impl Script {
    fn new(seconds: u64, handle: Handle, replacement: PathBuf) -> Self {
        let half = Duration::from_secs(seconds) / 2;
        Self {
            watch: Stopwatch::start(),
            handle,
            replacement,
            announce_after: half.saturating_sub(Duration::from_millis(1_300)),
            swap_after: half,
            stop_after: Duration::from_secs(seconds),
            announced: false,
            stopped: false,
            swap: None,
        }
    }

    async fn go_on(&mut self, table: &mut Table) -> Result<(), Failure> {
        let now = self.watch.elapsed();
        if self.stopped {
            return Ok(());
        }
        if now >= self.stop_after {
            self.stop().await;
        } else if now >= self.swap_after && self.swap.is_none() {
            let request = (REPLACED.to_owned(), self.replacement.clone());
            let report = self.handle.swap(&[request]).await?;
            table.swapped(&report);
            self.swap = Some(report);
        } else if now >= self.announce_after && !self.announced {
            self.announced = true;
            table.announce(&format!(
                "in a second {REPLACEMENT} takes the place of {REPLACED}.wasm, while rows flow: it knows medium orders"
            ));
        }
        Ok(())
    }

    async fn stop(&mut self) {
        self.stopped = true;
        self.handle.stop().await;
    }
}

/// Recounts everything natively and says what came of it.
async fn verify(spec: &PipelineSpec, sandbox: &Sandbox, live: Live) -> Result<Exit, Failure> {
    let Live { sales, status, swap } = live;
    let watch = Stopwatch::start();
    let count = |node: &str| status.node(node).map(|node| node.counts);
    let made = count("visits").map_or(0, |counts| counts.rows_out);
    let kept = count("interested").map_or(0, |counts| counts.rows_out);
    let visits = recount::visits(spec, sandbox, made).await?;
    let verdict = recount::compare(&visits, &sales, swap.is_some());
    let paint = Stream::Stdout.paint();
    let mut lines = vec![String::new()];
    lines.push(format!(
        "rows      {} made, {} kept by the filter, {} counted in windows",
        figures::count(made),
        figures::count(kept),
        figures::count(sales.visits())
    ));
    if let Some(swap) = &swap {
        lines.push(table::swap_line(swap));
    }
    let recounted = figures::duration(watch.elapsed());
    match verdict {
        Ok(cut) => {
            let versions = match cut {
                Some(row) => {
                    format!("visits before number {} by the old version, from there by the new", figures::count(row))
                }
                None => "all visits by one version".to_owned(),
            };
            lines.push(format!(
                "{}  nothing lost, nothing doubled: all {} visits recounted natively in {recounted}; {versions}",
                paint.green("verified"),
                figures::count(made)
            ));
            console::result(lines.join("\n"));
            Ok(Exit::Done)
        }
        Err(difference) => {
            console::result(lines.join("\n"));
            Err(Failure::NotVerified(format!("not verified: {difference}")))
        }
    }
}
