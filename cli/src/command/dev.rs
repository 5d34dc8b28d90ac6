//! `millstream dev`: save → build → swap; or, where the pipeline file is saved, → check → apply, or start anew.

mod edits;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use millstream::control::{ApplyReport, Handle, Running, SwapError};
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::resolve::{Resolution, components_of, partitioner_of};
use millstream::pipeline::spec::{PipelineSpec, StepSpec};
use millstream::wasm::{Digest, Sandbox};
use tokio::sync::{mpsc, watch as watch_channel};
use tokio::task::JoinSet;

use self::edits::Edits;
use super::run::{Shown, attend};
use crate::componentize::{self, BuildError, BuildOptions, BuildReport};
use crate::console::{self, Stream};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::figures;
use crate::interrupt::Interrupts;
use crate::report;
use crate::watch::{self, TreeWatch};

/// Run a pipeline, and rebuild and swap its components whenever their sources change. What does not compile is shown
/// and changes nothing: the version that runs goes on. A change of the pipeline file is checked and applied while it runs, with all
/// state; where that cannot be, the pipeline starts anew. A pipeline whose input has ended runs again at the next change.
///
///   millstream dev .                                     a project made by `millstream new`
///   millstream dev pipeline.toml --project upper=./upper a pipeline with the sources of its steps
///
/// Components without a project are swapped when their .wasm files change, as with `run --watch`. Rust is built for the next
/// try, in parts and without link-time optimization; `millstream build` makes what is to be deployed.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Dev {
    /// A pipeline file, or a project folder that holds a pipeline.toml
    target: PathBuf,
    /// The folder from which a step's component is built; STEP.ENTRY where a step has several components
    #[arg(long = "project", value_name = "STEP=DIR", value_parser = project)]
    projects: Vec<(String, PathBuf)>,
}

fn project(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((step, folder)) if !step.is_empty() && !folder.is_empty() => Ok((step.to_owned(), folder.into())),
        _ => Err("expected STEP=DIR, such as upper=./upper".to_owned()),
    }
}

/// A folder, the component that it builds, and the steps that use the component.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Project {
    folder: PathBuf,
    component: PathBuf,
    slots: Vec<String>,
}

impl Dev {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let is_project = self.target.is_dir();
        let pipeline = if is_project { self.target.join("pipeline.toml") } else { self.target.clone() };
        let spec = millstream::pipeline::read::read(&pipeline)?;
        let slots = slots(&spec);
        let projects = if is_project && self.projects.is_empty() {
            vec![own_project(&self.target, &slots)?]
        } else {
            let found = self.projects.iter().map(|(step, folder)| named_project(step, folder, &slots));
            found.collect::<Result<Vec<_>, _>>()?
        };
        let runtime = super::runtime()?;
        let exit = runtime.block_on(start(&pipeline, projects));
        runtime.shutdown_background();
        exit
    }
}

/// All components of a pipeline by the names that swaps take, with their files.
fn slots(spec: &PipelineSpec) -> Vec<(String, PathBuf)> {
    let of_step = |step: &StepSpec| {
        let components = components_of(step);
        let several = components.len() > 1;
        let named = components.iter().map(|(slot, component, _)| {
            (watch::slot_name(step, *slot, several), spec.base.join(&component.path.value))
        });
        named.collect::<Vec<_>>()
    };
    let partitioners = spec.steps.iter().filter_map(partitioner_of);
    let partitioners = partitioners.map(|(name, component)| (name, spec.base.join(&component.path.value)));
    spec.steps.iter().flat_map(of_step).chain(partitioners).collect()
}

/// The project that a pipeline in its folder is there to try: the pipeline has one component file, or one in `build/`.
fn own_project(folder: &Path, slots: &[(String, PathBuf)]) -> Result<Project, Failure> {
    let all: BTreeSet<&PathBuf> = slots.iter().map(|(_, path)| path).collect();
    let build = folder.join("build");
    let built: BTreeSet<&PathBuf> = all.iter().copied().filter(|path| path.starts_with(&build)).collect();
    let component = match (
        all.into_iter().collect::<Vec<_>>().as_slice(),
        built.into_iter().collect::<Vec<_>>().as_slice(),
    ) {
        ([only], _) | (_, [only]) => PathBuf::clone(only),
        _ => {
            let names: Vec<&str> = slots.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Failure::Usage(format!(
                "cannot tell which component of {} the project builds; say it: --project STEP={}, with STEP one of {}",
                folder.join("pipeline.toml").display(),
                folder.display(),
                if names.is_empty() { "none: no step has a component".to_owned() } else { names.join(", ") }
            )));
        }
    };
    Ok(with_slots(folder, component, slots))
}

fn named_project(step: &str, folder: &Path, slots: &[(String, PathBuf)]) -> Result<Project, Failure> {
    if !folder.is_dir() {
        return Err(Failure::Usage(format!("--project {step}={}: there is no such folder", folder.display())));
    }
    match slots.iter().find(|(name, _)| name == step) {
        Some((_, component)) => Ok(with_slots(folder, component.clone(), slots)),
        None => {
            let names: Vec<&str> = slots.iter().map(|(name, _)| name.as_str()).collect();
            let near = millstream::error::near_match(step, names.iter().copied());
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(Failure::Usage(format!("no step `{step}` has a component; there are {known}{near}")))
        }
    }
}

fn with_slots(folder: &Path, component: PathBuf, slots: &[(String, PathBuf)]) -> Project {
    let using = slots.iter().filter(|(_, path)| *path == component).map(|(name, _)| name.clone());
    Project { folder: folder.to_owned(), slots: using.collect(), component }
}

/// The pipeline that runs now, for those who change it.
type Current = watch_channel::Receiver<Option<Handle>>;

async fn start(pipeline: &Path, projects: Vec<Project>) -> Result<Exit, Failure> {
    let mut watched = Vec::new();
    for project in projects {
        let mut tree = TreeWatch::new(&project.folder)?;
        first_build(&project, &mut tree).await?;
        watched.push((project, tree));
    }
    let sandbox = super::sandbox()?;
    let resolution = super::resolve(pipeline, None, &sandbox)?;
    let mut edits = Edits::new(pipeline)?;
    let mut interrupts = Interrupts::listen()?;
    let (current, of_helpers) = watch_channel::channel(None);
    let (again, mut changed) = mpsc::channel(1);
    // dropping the set ends them all
    let mut helpers = JoinSet::new();
    let built: BTreeSet<PathBuf> = watched.iter().map(|(project, _)| project.component.clone()).collect();
    for (project, tree) in watched {
        helpers.spawn(rebuild_on_change(project, tree, of_helpers.clone(), again.clone()));
    }
    let mut next = Some(resolution);
    loop {
        // a run that starts anew takes the components as they are now
        let resolution = match next.take() {
            Some(resolution) => resolution,
            None => match super::resolve(pipeline, None, &sandbox) {
                Ok(resolution) => resolution,
                Err(failure) => {
                    report::failure(&failure, false);
                    match next_edit(&mut edits, &sandbox, &mut interrupts).await {
                        Some(resolution) => resolution,
                        None => return Ok(Exit::Done),
                    }
                }
            },
        };
        let built = built.clone();
        let watched = watch::Watched::new(&resolution, move |path: &Path| !built.contains(path))?;
        let shown = Shown::of(&resolution, false, None);
        let options = RunOptions { capsules: super::capsule::root(), ..RunOptions::default() };
        let running = Running::start(resolution, sandbox.clone(), &options).await?;
        let handle = running.handle();
        current.send_replace(Some(handle.clone()));
        let swaps = tokio::spawn(watch::swap_on_change(watched, handle.clone(), false));
        let control = super::run::serve(&handle);
        let ended = {
            let mut attended = pin!(attend(running, &mut interrupts, shown));
            loop {
                tokio::select! {
                    ended = &mut attended => break ended,
                    edit = edits.next(&sandbox), if next.is_none() => match edit {
                        Ok(edit) => match handle.apply(edit.resolution.plan.spec.clone(), &[]).await {
                            Ok(report) => note(&format!("{}: {}", edit.what, applied(&report))),
                            Err(reason) => {
                                note(&format!("{}: the pipeline starts anew; {reason}", edit.what));
                                next = Some(edit.resolution);
                                let handle = handle.clone();
                                // a source that is busy takes the request when it can
                                tokio::spawn(async move { handle.stop().await });
                            }
                        },
                        Err(failure) => {
                            report::failure(&failure, false);
                            note("the running pipeline goes on");
                        }
                    },
                }
            }
        };
        swaps.abort();
        if let Some(control) = control {
            control.abort();
            let _ = control.await;
        }
        if interrupts.is_stopping() {
            return ended;
        }
        if let Err(failure) = ended {
            report::failure(&failure, false);
        }
        if next.is_some() {
            continue;
        }
        note("the pipeline has ended; save a change to run it again, or end with Ctrl-C");
        tokio::select! {
            _ = changed.recv() => {}
            edited = next_edit(&mut edits, &sandbox, &mut interrupts) => match edited {
                Some(resolution) => next = Some(resolution),
                None => return Ok(Exit::Done),
            },
        }
    }
}

/// The next edit of the pipeline file that can run; none where the user has enough.
async fn next_edit(edits: &mut Edits, sandbox: &Sandbox, interrupts: &mut Interrupts) -> Option<Resolution> {
    loop {
        tokio::select! {
            edit = edits.next(sandbox) => match edit {
                Ok(edit) => {
                    note(&format!("{}: the pipeline starts anew", edit.what));
                    return Some(edit.resolution);
                }
                Err(failure) => {
                    report::failure(&failure, false);
                    note("waiting for a change");
                }
            },
            _ = interrupts.next() => return None,
        }
    }
}

/// Builds until it succeeds: an author who starts with a mistake corrects it and saves.
async fn first_build(project: &Project, tree: &mut TreeWatch) -> Result<(), Failure> {
    loop {
        match build(project, true).await? {
            Ok(report) => {
                let time = figures::duration(report.build_time);
                note(&format!("{} built in {time}", project.component.display()));
                return Ok(());
            }
            Err(error) => {
                failed(&error, "waiting for a change");
                tree.changed().await;
            }
        }
    }
}

/// Builds and swaps at every change; asks for the pipeline to run again where it has ended.
async fn rebuild_on_change(project: Project, mut tree: TreeWatch, current: Current, again: mpsc::Sender<()>) {
    loop {
        tree.changed().await;
        let before = digest(&project.component);
        let report = match build(&project, false).await {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => {
                failed(&error, "the running version goes on");
                continue;
            }
            Err(failure) => return console::say(failure),
        };
        let time = figures::duration(report.build_time);
        if before.is_some() && before == digest(&project.component) {
            note(&format!("built in {time}: the same component as before"));
            continue;
        }
        let requests: Vec<_> = project.slots.iter().map(|slot| (slot.clone(), project.component.clone())).collect();
        let Some(handle) = current.borrow().clone() else { continue };
        match handle.swap(&requests).await {
            Ok(swap) => watch::swapped(&swap, false, Some(report.build_time)),
            Err(SwapError::Ended) => {
                note(&format!("built in {time}"));
                let _ = again.try_send(());
            }
            Err(error) => failed(&format!("built in {time}, but not swapped: {error}"), "the running version goes on"),
        }
    }
}

fn digest(component: &Path) -> Option<Digest> {
    std::fs::read(component).ok().map(|bytes| Digest::of(&bytes))
}

/// Builds off the threads that run the pipeline. Outer error: the process itself cannot go on.
async fn build(project: &Project, first: bool) -> Result<Result<BuildReport, BuildError>, Failure> {
    let folder = project.folder.clone();
    let options =
        BuildOptions { out: Some(project.component.clone()), stream: first, quick: true, ..BuildOptions::default() };
    tokio::task::spawn_blocking(move || componentize::build(&folder, &options))
        .await
        .map_err(|error| Failure::Process { what: "build", reason: error.to_string() })
}

/// How long an edit of the pipeline file took to apply.
fn applied(report: &ApplyReport) -> String {
    let time = |ms: f64| figures::duration(Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default());
    match report.effect {
        None => "nothing is different".to_owned(),
        Some(_) => {
            format!("applied in {} · no row moved for {}, state is kept", time(report.total_ms), time(report.gap_ms))
        }
    }
}

fn note(text: &str) {
    console::say(Stream::Stderr.paint().dim(text));
}

fn failed(error: &impl ToString, consequence: &str) {
    let paint = Stream::Stderr.paint();
    console::say(format!("{} {}\n{}", paint.red("error:"), error.to_string().trim_end(), paint.dim(consequence)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str, path: &str) -> (String, PathBuf) {
        (name.to_owned(), PathBuf::from(path))
    }

    #[test]
    fn a_project_builds_the_only_component_for_all_steps_that_use_it() {
        let slots = [slot("a", "p/x.wasm"), slot("b", "p/x.wasm")];
        let project = own_project(Path::new("p"), &slots).unwrap();
        assert_eq!((project.component, project.slots), (PathBuf::from("p/x.wasm"), vec!["a".into(), "b".into()]));
    }

    #[test]
    fn among_several_components_a_project_builds_the_one_in_its_build_folder() {
        let slots = [slot("a", "p/build/x.wasm"), slot("b", "p/other.wasm")];
        assert_eq!(own_project(Path::new("p"), &slots).unwrap().slots, ["a"]);
        let unclear = [slot("a", "p/x.wasm"), slot("b", "p/other.wasm")];
        assert!(own_project(Path::new("p"), &unclear).unwrap_err().to_string().contains("one of a, b"));
        assert!(own_project(Path::new("p"), &[]).unwrap_err().to_string().contains("no step has a component"));
    }

    #[test]
    fn an_unknown_step_is_told_with_the_known_ones() {
        let slots = [slot("upper", "x.wasm")];
        let error = named_project("uper", Path::new("."), &slots).unwrap_err().to_string();
        assert_eq!(error, "no step `uper` has a component; there are upper; did you mean `upper`?");
    }
}
