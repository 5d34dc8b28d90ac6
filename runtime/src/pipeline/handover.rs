//! What the tasks of one life of a pipeline leave to those of the next, in the same process: their open sources and sinks.
//!
//! A pipeline whose shape changes ends at a barrier and begins again behind it. What has not changed is not closed in between:
//! a connection stays open, what a source has read ahead is not lost, and a file goes on where it was. The next life takes an
//! end over when its task begins, not before: where the next life cannot be opened, all is still here for another try.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dead_letter;
use super::plan::{Node, NodeKind, Plan};
use crate::record::Position;
use crate::sink::{Sink, SinkKind};
use crate::source::Source;

/// Opens something when a task begins.
pub(super) type Later<T> = Box<dyn FnOnce() -> Option<T> + Send>;

/// By name and task.
type ByTask<T> = BTreeMap<(String, usize), T>;

/// Open ends without a task.
#[derive(Default)]
pub struct Handover {
    left: Mutex<Left>,
}

#[derive(Default)]
struct Left {
    sources: ByTask<Box<dyn Source>>,
    sinks: ByTask<Box<dyn Sink>>,
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.lock();
        f.debug_struct("Handover").field("sources", &left.sources.keys()).field("sinks", &left.sinks.keys()).finish()
    }
}

/// The partitions of a source, and where each stands.
pub(super) type Standing = (Vec<u32>, Vec<(u32, Position)>);

impl Handover {
    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task gives up its source.
    pub(super) fn leave_source(&self, name: &str, subtask: usize, source: Box<dyn Source>) {
        self.lock().sources.insert((name.to_owned(), subtask), source);
    }

    /// A task gives up its sink, which holds nothing back any more.
    pub(super) fn leave_sink(&self, name: &str, subtask: usize, sink: Box<dyn Sink>) {
        self.lock().sinks.insert((name.to_owned(), subtask), sink);
    }

    /// What is known of a source that is here.
    fn standing(&self, name: &str, subtask: usize) -> Option<Standing> {
        let left = self.lock();
        let source = left.sources.get(&(name.to_owned(), subtask))?;
        Some((source.partitions(), source.positions()))
    }

    /// Whether any source has come to the last barrier.
    pub fn has_sources(&self) -> bool {
        !self.lock().sources.is_empty()
    }

    fn has_sink(&self, name: &str, subtask: usize) -> bool {
        self.lock().sinks.contains_key(&(name.to_owned(), subtask))
    }

    /// The sinks that nobody is to take over, by name: they are to be finished.
    pub fn rest(&self, kept: &BTreeSet<String>) -> Vec<(String, usize, Box<dyn Sink>)> {
        let mut left = self.lock();
        let (rest, stay) = std::mem::take(&mut left.sinks).into_iter().partition(|((name, _), _)| !kept.contains(name));
        left.sinks = stay;
        let rest: ByTask<Box<dyn Sink>> = rest;
        rest.into_iter().map(|((name, subtask), sink)| (name, subtask, sink)).collect()
    }
}

/// What a life begins with that follows another in the same process.
#[derive(Clone, Debug)]
pub struct Handed {
    /// what the life before has left
    from: Arc<Handover>,
    /// sources and sinks that are as they were
    sources: BTreeSet<String>,
    sinks: BTreeSet<String>,
    /// places that earlier lives of this process have written to
    written: Arc<BTreeSet<String>>,
    /// tells what this life writes there from what they wrote
    generation: u64,
}

impl Handed {
    /// What `new` takes over of what the tasks of `old` have left. `written`: see [`places`].
    pub fn new(
        from: Arc<Handover>,
        (old, new): (&Plan, &Plan),
        written: Arc<BTreeSet<String>>,
        generation: u64,
    ) -> Self {
        let names = |same: fn(&Plan, &Plan, &str) -> bool| -> BTreeSet<String> {
            let nodes = new.nodes.iter().filter(|node| same(old, new, &node.name));
            nodes.map(|node| node.name.clone()).collect()
        };
        let mut sinks = names(same_sink);
        let letters = |plan: &Plan| plan.spec.dead_letter.as_ref().map(|kind| kind.value.clone());
        if letters(old) == letters(new) && old.spec.base == new.spec.base {
            sinks.insert(dead_letter::NAME.to_owned());
        }
        Self { from, sources: names(same_source), sinks, written, generation }
    }

    /// Names of the sinks that go on.
    pub fn sinks(&self) -> &BTreeSet<String> {
        &self.sinks
    }

    /// A source that goes on: where it stands, and itself once its task begins.
    pub(super) fn source(&self, name: &str, subtask: usize) -> Option<(Standing, Later<Box<dyn Source>>)> {
        let standing = self.from.standing(name, subtask).filter(|_| self.sources.contains(name))?;
        let (from, key) = (Arc::clone(&self.from), (name.to_owned(), subtask));
        Some((standing, Box::new(move || from.lock().sources.remove(&key))))
    }

    /// A sink that goes on, once its task begins.
    pub(super) fn sink(&self, name: &str, subtask: usize) -> Option<Later<Box<dyn Sink>>> {
        if !self.sinks.contains(name) || !self.from.has_sink(name, subtask) {
            return None;
        }
        let (from, key) = (Arc::clone(&self.from), (name.to_owned(), subtask));
        Some(Box::new(move || from.lock().sinks.remove(&key)))
    }

    /// `kind`, to another place where an earlier life has written to this one: nothing that is shown is written over.
    pub(super) fn apart(&self, kind: &SinkKind) -> SinkKind {
        let mut kind = kind.clone();
        if let Some(place) = place(&mut kind).filter(|place| self.written.contains(*place)) {
            *place = numbered(place, self.generation);
        }
        kind
    }
}

fn place(kind: &mut SinkKind) -> Option<&mut String> {
    match kind {
        SinkKind::File { path } => Some(path),
        SinkKind::Object(spec) => Some(&mut spec.url),
        SinkKind::Print | SinkKind::Discard | SinkKind::Kafka(_) | SinkKind::Channel(_) | SinkKind::Documents(_) => {
            None
        }
    }
}

/// Where the sinks of a pipeline without checkpoints write whole files.
pub fn places(plan: &Plan) -> impl Iterator<Item = String> {
    let sinks = plan.spec.sinks.iter().map(|sink| &sink.kind.value);
    let kinds = sinks.chain(plan.spec.dead_letter.iter().map(|kind| &kind.value));
    kinds.filter_map(|kind| place(&mut kind.clone()).cloned())
}

/// `out/rows.2.json` for `out/rows.json`.
fn numbered(place: &str, generation: u64) -> String {
    let (folder, name) = place.rfind('/').map_or(("", place), |at| place.split_at(at + 1));
    match name.rfind('.').filter(|at| *at > 0) {
        Some(at) => {
            let (stem, extension) = name.split_at(at);
            format!("{folder}{stem}.{generation}{extension}")
        }
        None => format!("{folder}{name}.{generation}"),
    }
}

/// A sink may have the name of a step.
fn node<'a>(plan: &'a Plan, name: &str, is_sink: bool) -> Option<&'a Node> {
    plan.nodes.iter().find(|node| node.name == name && matches!(node.kind, NodeKind::Sink { .. }) == is_sink)
}

/// Whether an open source of `old` gives out what `new` wants of the source `name`.
pub(crate) fn same_source(old: &Plan, new: &Plan, name: &str) -> bool {
    let known = |plan: &Plan| {
        let node = node(plan, name, false)?;
        let NodeKind::Source { index, full, event_time, .. } = &node.kind else { return None };
        let spec = plan.spec.sources.get(*index)?;
        let format = spec.format.as_ref().map(|format| format.value);
        let columns = (full.clone(), node.schema.clone(), *event_time);
        Some((spec.kind.value.clone(), format, columns, node.parallelism, plan.spec.base.clone()))
    };
    known(old).is_some_and(|known_old| known(new).is_some_and(|known_new| known_old == known_new))
}

/// Whether an open sink of `old` writes what `new` wants of the sink `name`.
pub(crate) fn same_sink(old: &Plan, new: &Plan, name: &str) -> bool {
    let known = |plan: &Plan| {
        let node = node(plan, name, true)?;
        let NodeKind::Sink { index } = node.kind else { return None };
        let spec = plan.spec.sinks.get(index)?;
        let format = spec.format.as_ref().map(|format| format.value);
        Some((spec.kind.value.clone(), format, node.schema.clone(), node.parallelism, plan.spec.base.clone()))
    };
    known(old).is_some_and(|known_old| known(new).is_some_and(|known_new| known_old == known_new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_generation_stands_before_the_extension() {
        assert_eq!(numbered("out/rows.json", 2), "out/rows.2.json");
        assert_eq!(numbered("s3://bucket/a.b/rows", 3), "s3://bucket/a.b/rows.3");
        assert_eq!(numbered(".hidden", 4), ".hidden.4");
    }
}
