//! The commands, one file each, and what they share: reading a pipeline and a runtime to run it in.

mod apply;
mod build;
mod capsule;
mod check;
mod checkpoint;
mod completions;
mod control;
mod demo;
mod dev;
mod inspect;
mod new;
mod rehearse;
mod replay;
mod run;
mod state;
mod test;
mod trial;

use std::path::Path;

use clap::{Parser, Subcommand};
use millstream::control::Request;
use millstream::pipeline::resolve::{self, Resolution};
use millstream::wasm::{Sandbox, SandboxOptions};

use crate::exit::{self, Exit};
use crate::failure::Failure;

/// Stream processing whose logic is WebAssembly components, replaced while it runs.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, after_help = exit::HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to log on stderr: a level, or targets like `warn,millstream=debug` [env: MILLSTREAM_LOG] [default: warn]
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline until its input ends or Ctrl-C
    Run(run::Run),
    /// Check a pipeline and show its plan, without running it
    Check(check::Check),
    /// Show what runs on this machine: rows, versions of each step, checkpoints
    Status(control::StatusOf),
    /// Put other components into a running pipeline, all at one cut, at once or to be tried
    Swap(control::Swap),
    /// Make the candidates that a running pipeline tries the versions of their steps
    Promote(control::Target),
    /// Try components on input that is read again, without touching the pipeline in production
    Rehearse(rehearse::Rehearse),
    /// Say what such a swap would do, without doing it
    Plan(control::Offered),
    /// Put back what the steps of a running pipeline ran before, or end a trial
    Rollback(control::Rollback),
    /// Make a running pipeline what its file says now, as far as that can be done while it runs
    Apply(apply::Apply),
    /// Give a running pipeline another number of tasks
    Rescale(apply::Rescale),
    /// Set configuration and limits of the steps of a running pipeline
    Set(apply::Set),
    /// Let the sources of a running pipeline take nothing in
    Pause(control::Target),
    /// Let them go on
    Resume(control::Target),
    /// End a running pipeline as Ctrl-C does
    Stop(control::Target),
    /// List, show, verify and keep the checkpoints of a pipeline
    Checkpoint(checkpoint::Checkpoint),
    /// List and show calls into components that failed
    Capsule(capsule::Capsule),
    /// Make such a call again, with this component or another
    Replay(replay::Replay),
    /// Look at the state of a pipeline's steps at a checkpoint
    State(state::State),
    /// Show what a component reads, produces and imports
    Inspect(inspect::Inspect),
    /// Drive a pipeline with scripts in virtual time, and compare what comes out
    Test(test::Test),
    /// Run a pipeline, and rebuild and swap its components whenever their sources change
    Dev(dev::Dev),
    /// Make a project for an operator, with a pipeline to try it
    New(new::New),
    /// Build a project, or a core module, into a component
    Build(build::Build),
    /// Show what Millstream does, in twelve seconds and without any service
    Demo(demo::Demo),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Command {
    /// Whether a machine reads the output.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Run(run) => run.json,
            Self::Check(check) => check.json,
            Self::Inspect(inspect) => inspect.json,
            Self::Status(status) => status.json,
            Self::Swap(swap) => swap.offered.target.json,
            Self::Plan(offered) => offered.target.json,
            Self::Promote(target) => target.json,
            Self::Rehearse(rehearse) => rehearse.json,
            Self::Rollback(rollback) => rollback.target.json,
            Self::Apply(apply) => apply.json,
            Self::Rescale(rescale) => rescale.target.json,
            Self::Set(set) => set.target.json,
            Self::Pause(target) | Self::Resume(target) | Self::Stop(target) => target.json,
            Self::Test(test) => test.json,
            Self::Checkpoint(checkpoint) => checkpoint.json(),
            Self::Capsule(capsule) => capsule.json(),
            Self::Replay(replay) => replay.json,
            Self::State(state) => state.json(),
            Self::Dev(_) | Self::New(_) | Self::Build(_) | Self::Demo(_) | Self::Completions(_) => false,
        }
    }

    /// Does it.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Run(run) => run.run(),
            Self::Check(check) => check.run(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Status(status) => status.run(),
            Self::Swap(swap) => swap.swap(),
            Self::Plan(swap) => swap.plan(),
            Self::Promote(target) => target.ask(&Request::Promote),
            Self::Rehearse(rehearse) => rehearse.run(),
            Self::Rollback(rollback) => rollback.run(),
            Self::Apply(apply) => apply.run(),
            Self::Rescale(rescale) => rescale.run(),
            Self::Set(set) => set.run(),
            Self::Pause(target) => target.ask(&Request::Pause),
            Self::Resume(target) => target.ask(&Request::Resume),
            Self::Stop(target) => target.ask(&Request::Stop),
            Self::Test(test) => test.run(),
            Self::Checkpoint(checkpoint) => checkpoint.run(),
            Self::Capsule(capsule) => capsule.run(),
            Self::Replay(replay) => replay.run(),
            Self::State(state) => state.run(),
            Self::Dev(dev) => dev.run(),
            Self::New(new) => new.run(),
            Self::Build(build) => build.run(),
            Self::Demo(demo) => demo.run(),
            Self::Completions(completions) => completions.run(),
        }
    }
}

/// Opens the sandbox with its defaults.
pub(crate) fn sandbox() -> Result<Sandbox, Failure> {
    Ok(Sandbox::new(SandboxOptions::default())?)
}

/// Reads and checks the pipeline in `path`; `parallelism` takes the place of the file's own.
pub(crate) fn resolve(path: &Path, parallelism: Option<usize>, sandbox: &Sandbox) -> Result<Resolution, Failure> {
    let mut spec = millstream::pipeline::read::read(path)?;
    if let Some(parallelism) = parallelism {
        spec.parallelism = Some(parallelism.into());
    }
    Ok(resolve::resolve(spec, sandbox)?)
}

/// The threads that run a pipeline.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("millstream")
        .build()
        .map_err(|error| Failure::Process { what: "start the runtime's threads", reason: error.to_string() })
}
