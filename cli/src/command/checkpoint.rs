//! `millstream checkpoint ..`: what a pipeline's store holds, without running the pipeline or its components.

mod json;
mod show;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millstream::checkpoint::{Keys, Listed, Loaded, Manifest, Savepoint, Store, StoreError};
use millstream::clock::utc_text;
use millstream::control::CheckpointError;

use self::verify::Verify;
use super::run::{Components, Run};
use crate::console::{self, Paint, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::figures;

/// List, show, verify and keep the checkpoints of a pipeline.
#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List checkpoints, newest first, and savepoints
    Ls(Ls),
    /// Show what a checkpoint or savepoint consists of
    Show(One),
    /// Read every file of every checkpoint and savepoint; 3 if one is damaged
    Verify(Verify),
    /// Keep a checkpoint under a name; retention leaves it alone
    #[command(visible_alias = "save")]
    Savepoint(Save),
    /// Run the pipeline from a checkpoint or savepoint that is not the newest: rows that came after it come again
    Restore(Restore),
    /// Print a new random key for `checkpoint.encrypt`
    Key,
}

#[derive(Debug, Args)]
struct Ls {
    /// The pipeline file
    pipeline: PathBuf,
    /// One JSON line each
    #[arg(long)]
    json: bool,
}

/// A pipeline and one of its checkpoints.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The pipeline file
    pub(crate) pipeline: PathBuf,
    /// A checkpoint's epoch or a savepoint's name; the newest checkpoint if not given
    pub(crate) checkpoint: Option<String>,
    /// The same as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
struct Save {
    /// The pipeline file
    pipeline: PathBuf,
    /// The name
    name: String,
    /// The checkpoint's epoch; the newest if not given
    #[arg(long)]
    epoch: Option<u64>,
    /// Tell of it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Restore {
    /// The pipeline file
    pipeline: PathBuf,
    /// A savepoint's name or a checkpoint's epoch
    checkpoint: String,
    /// Tasks of each source and step, in place of the pipeline's own `parallelism`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=128))]
    parallelism: Option<u16>,
    /// Which components run, as in `run`
    #[arg(long, value_enum, default_value = "kept", value_name = "WHICH")]
    components: Components,
    /// Status, swaps and errors as JSON lines on stderr
    #[arg(long)]
    json: bool,
}

impl Restore {
    fn run(self) -> Result<Exit, Failure> {
        let run = Run {
            pipeline: self.pipeline,
            watch: false,
            json: self.json,
            status_interval: None,
            shuffle_batches: None,
            parallelism: self.parallelism,
            from_savepoint: Some(self.checkpoint),
            fresh: false,
            no_control: false,
            components: self.components,
        };
        run.run()
    }
}

impl Checkpoint {
    /// Whether a machine reads the output.
    pub(crate) fn json(&self) -> bool {
        match &self.action {
            Action::Ls(ls) => ls.json,
            Action::Show(one) => one.json,
            Action::Restore(restore) => restore.json,
            Action::Verify(verify) => verify.json,
            Action::Savepoint(save) => save.json,
            Action::Key => false,
        }
    }

    pub(crate) fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::Restore(restore) => restore.run(),
            action => super::runtime()?.block_on(action.run()),
        }
    }
}

impl Action {
    async fn run(self) -> Result<Exit, Failure> {
        match self {
            Action::Ls(ls) => list(&ls).await,
            Action::Show(one) => {
                let loaded = one.load().await?;
                let name = one.checkpoint.as_deref().filter(|name| name.parse::<u64>().is_err());
                console::result(if one.json { json::loaded(&loaded, name) } else { show::text(&loaded) });
                Ok(Exit::Done)
            }
            Action::Verify(verify) => verify.run().await,
            Action::Key => {
                console::result(Keys::generate().map_err(CheckpointError::from)?);
                Ok(Exit::Done)
            }
            Action::Restore(restore) => restore.run(),
            Action::Savepoint(save) => {
                let store = open(&save.pipeline)?;
                let epoch = match save.epoch {
                    Some(epoch) => epoch,
                    None => newest(&store).await?,
                };
                let manifest = store.save(epoch, &save.name).await?;
                if save.json {
                    console::result(json::saved(&manifest, &save.name));
                } else {
                    console::say(format!("checkpoint {} is kept as savepoint `{}`", manifest.epoch, save.name));
                }
                Ok(Exit::Done)
            }
        }
    }
}

impl One {
    /// Reads it, with all its state.
    pub(crate) async fn load(&self) -> Result<Loaded, Failure> {
        Ok(load(&self.pipeline, self.checkpoint.as_deref()).await?.1)
    }
}

/// Reads a checkpoint by its epoch or name, the newest if none is named, with all its state; and where it lies.
pub(crate) async fn load(pipeline: &Path, checkpoint: Option<&str>) -> Result<(Store, Loaded), Failure> {
    let store = open(pipeline)?;
    let loaded = match checkpoint {
        None => store.load(newest(&store).await?).await?,
        Some(name) => match name.parse() {
            Ok(epoch) => store.load(epoch).await?,
            Err(_) => store.load_savepoint(name).await?,
        },
    };
    Ok((store, loaded))
}

/// The store that the pipeline file names.
fn open(pipeline: &Path) -> Result<Store, Failure> {
    let spec = millstream::pipeline::read::read(pipeline)?;
    let Some(checkpoint) = &spec.checkpoint else {
        let path = pipeline.display();
        return Err(Failure::Usage(format!("{path} has no `checkpoint = {{ store = \"..\" }}`: it keeps nothing")));
    };
    Ok(millstream::control::open_store(&spec, checkpoint)?)
}

async fn newest(store: &Store) -> Result<u64, Failure> {
    match store.list().await?.into_iter().next() {
        // another one, earlier, would be taken for it
        Some(newest) => newest.manifest.map(|manifest| manifest.epoch).map_err(Failure::from),
        None => Err(Failure::Usage(format!("there is no checkpoint in {}", store.place()))),
    }
}

async fn list(ls: &Ls) -> Result<Exit, Failure> {
    let store = open(&ls.pipeline)?;
    let (checkpoints, savepoints) = (store.list().await?, store.savepoints().await?);
    if ls.json {
        checkpoints.iter().for_each(|listed| console::result(json::checkpoint(listed)));
        savepoints.iter().for_each(|savepoint| console::result(json::savepoint(savepoint)));
        return Ok(Exit::Done);
    }
    if checkpoints.is_empty() && savepoints.is_empty() {
        console::say(format!("no checkpoints in {}", store.place()));
        return Ok(Exit::Done);
    }
    let paint = Stream::Stdout.paint();
    let heading = format!(
        "{:>10}  {:<23}  {:>9}  {:>9}  {:>6}  {:>6}  note",
        "epoch", "written", "state", "new", "files", "parts"
    );
    let mut lines = vec![paint.dim(&heading)];
    lines.extend(checkpoints.iter().map(|listed| checkpoint_line(listed, paint)));
    lines.extend(savepoints.iter().map(|savepoint| savepoint_line(savepoint, paint)));
    console::result(lines.join("\n"));
    Ok(Exit::Done)
}

fn checkpoint_line(listed: &Listed, paint: Paint) -> String {
    let note = if listed.committed { "" } else { "not yet shown by all sinks" };
    line(listed.epoch.to_string(), &listed.manifest, note, paint)
}

fn savepoint_line(savepoint: &Savepoint, paint: Paint) -> String {
    let epoch = savepoint.manifest.as_ref().map_or_else(|_| "?".to_owned(), |manifest| manifest.epoch.to_string());
    line(epoch, &savepoint.manifest, &format!("savepoint `{}`", savepoint.name), paint)
}

fn line(epoch: String, manifest: &Result<Manifest, StoreError>, note: &str, paint: Paint) -> String {
    match manifest {
        Err(error) => format!("{epoch:>10}  {}", paint.red(error.to_string())),
        Ok(manifest) => {
            let (written, size) = (utc_text(manifest.written_ms), figures::size(manifest.state_bytes()));
            let new = figures::size(manifest.new_state_bytes());
            let (files, parts) = (manifest.state_files().count(), manifest.prepared.len());
            let ended = if manifest.finished { "the input had ended" } else { "" };
            let notes: Vec<&str> = [note, ended].into_iter().filter(|note| !note.is_empty()).collect();
            let text = format!(
                "{epoch:>10}  {written:<23}  {size:>9}  {new:>9}  {files:>6}  {parts:>6}  {}",
                notes.join(", ")
            );
            text.trim_end().to_owned()
        }
    }
}
