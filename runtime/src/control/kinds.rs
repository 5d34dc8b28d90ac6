//! What kind of state each step keeps, as checkpoints note it: a start whose pipeline file makes another kind of step of a name is
//! refused with what has changed, for another kind would read the same rows as something else.

use std::collections::{BTreeMap, BTreeSet};

use super::checkpoints::CheckpointError;
use super::diff::kept_by_steps;
use crate::checkpoint::{KeptEntry, Manifest};
use crate::pipeline::cut::Cut;
use crate::pipeline::join::JoinTime;
use crate::pipeline::plan::Plan;
use crate::pipeline::resolve::Components;
use crate::pipeline::spec::{AggregateSpec, StepKind, StepSpec};
use crate::window::WindowSpec;

/// What is noted of all steps with state.
pub(super) fn of(plan: &Plan, components: &Components) -> BTreeMap<String, KeptEntry> {
    let noted = kept_by_steps(plan, components).into_iter().filter_map(|(name, shape)| {
        let step = plan.spec.steps.iter().find(|step| step.name.value == name)?;
        Some((name, KeptEntry { kind: kind_of(step), shape }))
    });
    noted.collect()
}

/// In words that stay: those of later releases are compared with them.
fn kind_of(step: &StepSpec) -> String {
    match &step.kind.value {
        StepKind::Map(_) => "a map".to_owned(),
        StepKind::Filter(_) => "a filter".to_owned(),
        StepKind::FlatMap(_) => "a flat_map".to_owned(),
        StepKind::Select(_) => "a select".to_owned(),
        StepKind::Aggregate { window, aggregates, .. } => {
            let is_whole = aggregates.iter().any(|entry| matches!(entry, AggregateSpec::Rows { .. }));
            let what = if is_whole { "a window_process" } else { "an aggregate" };
            format!("{what} {}", windows(&window.value))
        }
        StepKind::Process { .. } => "a process".to_owned(),
        StepKind::Top(top) => match &top.window {
            Some(window) => format!("a top {}", windows(&window.value)),
            None => "a top of windows before it".to_owned(),
        },
        StepKind::Join(join) => match &join.when {
            JoinTime::Window(window) => format!("a join {}", windows(&window.value)),
            JoinTime::Between { .. } => "a join of times between bounds".to_owned(),
            JoinTime::Always { .. } => "a join without times".to_owned(),
            JoinTime::Latest => "a lookup join".to_owned(),
        },
    }
}

fn windows(window: &WindowSpec) -> &'static str {
    match window {
        WindowSpec::Tumbling { .. } => "over tumbling windows",
        WindowSpec::Sliding { .. } => "over sliding windows",
        WindowSpec::Session { .. } | WindowSpec::SessionByColumn => "over session windows",
        WindowSpec::Count { .. } => "over windows of a number of rows",
        WindowSpec::SlidingCount { .. } => "over sliding windows of a number of rows",
        WindowSpec::Global => "over a global window",
        WindowSpec::Rolling { .. } => "without windows",
    }
}

/// What a checkpoint has noted.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    steps: BTreeMap<String, KeptEntry>,
    given_up: BTreeSet<String>,
}

impl From<&Manifest> for Noted {
    fn from(manifest: &Manifest) -> Self {
        let noted = manifest.steps.iter().filter_map(|entry| Some((entry.step.clone(), entry.kept.clone()?)));
        Self { steps: noted.collect(), given_up: manifest.given_up.iter().cloned().collect() }
    }
}

impl Noted {
    /// Compares what steps kept with what they keep `now`; those that are new are told. State that was given up by an approved change is taken out of the cut
    /// where the step is what it was changed into; what else is of another kind is refused.
    pub(super) fn settle(
        &self,
        epoch: u64,
        now: &BTreeMap<String, KeptEntry>,
        plan: &Plan,
        cut: &mut Cut,
    ) -> Result<Vec<String>, CheckpointError> {
        let new = now.keys().filter(|step| !cut.steps.contains_key(*step) && !self.steps.contains_key(*step));
        let new = new.map(|step| format!("step `{step}` is not in checkpoint {epoch}: it begins empty"));
        let mut notes: Vec<String> = new.collect();
        for (step, then) in &self.steps {
            if !cut.steps.contains_key(step) {
                continue;
            }
            let Some(spec) = plan.spec.steps.iter().find(|spec| spec.name.value == *step) else { continue };
            let is_another = now.get(step).is_none_or(|now| now.shape != then.shape);
            if is_another && self.given_up.contains(step) {
                cut.steps.remove(step);
                cut.kept_by.retain(|id, _| id.step != *step);
                notes.push(format!("step `{step}` begins empty: its state was given up by an approved change"));
                continue;
            }
            let to = kind_of(spec);
            if to != then.kind && !is_empty(cut, step) {
                let (step, from) = (step.clone(), then.kind.clone());
                return Err(CheckpointError::Kind { epoch, step, from, to });
            }
        }
        Ok(notes)
    }
}

fn is_empty(cut: &Cut, step: &str) -> bool {
    let mut tables = cut.steps.get(step).into_iter().flat_map(BTreeMap::values).flat_map(|task| &task.state.tables);
    tables.all(|table| table.later.is_empty() && table.rows.iter().all(|rows| rows.num_rows() == 0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};

    use super::*;
    use crate::pipeline::cut::TaskState;
    use crate::pipeline::parse;
    use crate::pipeline::plan::{Signatures, plan};
    use crate::record::{Field, Kind, Schema, Watermark};
    use crate::state::Snapshot;

    const JOIN: &str = "join = { with = \"right\", on = [\"key\"], prefix = \"r_\"";

    /// A pipeline whose step `s` is what `step` says.
    fn planned(step: &str) -> Plan {
        let text = format!(
            "name = \"p\"\n[source.left]\ngenerator = {{ kind = \"sequence\" }}\n[source.right]\ngenerator = {{ kind = \
             \"sequence\" }}\n[step.s]\nfrom = \"left\"\n{step}\n[sink.out]\nfrom = \"s\"\ndiscard = {{}}\n[sink.right]\nfrom = \
             \"right\"\ndiscard = {{}}\n"
        );
        let spec = parse(&text, Path::new("p.toml"), Path::new("")).unwrap_or_else(|error| panic!("{error}\n{text}"));
        plan(spec, &Signatures::new()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn cut(rows: i64) -> Cut {
        let schema = Schema::new([Field::new("key", Kind::Int64)]);
        let keys = Arc::new(Int64Array::from_iter_values(0..rows));
        let rows = vec![RecordBatch::try_new(schema.arrow().clone(), vec![keys]).unwrap()];
        let task = TaskState { watermark: Watermark(0), state: Snapshot::default().with("left", Some(1), rows) };
        Cut { steps: BTreeMap::from([("s".into(), BTreeMap::from([(0, task)]))]), ..Cut::default() }
    }

    fn settled(then: &str, now: &str, given_up: bool, rows: i64) -> Result<usize, String> {
        let (then, now) = (planned(then), planned(now));
        let noted = Noted {
            steps: of(&then, &Components::new()),
            given_up: BTreeSet::from_iter(given_up.then(|| "s".to_owned())),
        };
        let mut cut = cut(rows);
        let notes =
            noted.settle(7, &of(&now, &Components::new()), &now, &mut cut).map_err(|error| error.to_string())?;
        assert_eq!(notes.len(), usize::from(cut.steps.is_empty()));
        Ok(cut.steps.len())
    }

    #[test]
    fn state_of_another_kind_is_refused_with_both_kinds_named() {
        let steps = [
            (format!("{JOIN}, between = [\"-1s\", \"1s\"] }}"), "a join of times between bounds"),
            (format!("{JOIN} }}\nwindow = {{ tumbling = \"1s\" }}"), "a join over tumbling windows"),
            (format!("{JOIN} }}\nwindow = {{ session = \"1s\" }}"), "a join over session windows"),
            (format!("{JOIN} }}"), "a join without times"),
            (JOIN.replace("join", "lookup") + " }", "a lookup join"),
            ("key_by = [\"key\"]\naggregate = { n = \"count()\" }".to_owned(), "an aggregate without windows"),
            (
                "key_by = [\"key\"]\nwindow = { sliding = \"2s\", every = \"1s\" }\naggregate = { n = \"count()\" }"
                    .to_owned(),
                "an aggregate over sliding windows",
            ),
            (
                "key_by = [\"key\"]\nwindow = { tumbling = \"1s\" }\ntop = { n = 3, by = \"amount\" }".to_owned(),
                "a top over tumbling windows",
            ),
        ];
        for (then, from) in &steps {
            for (now, to) in &steps {
                let found = settled(then, now, false, 3);
                if from == to {
                    assert_eq!(found, Ok(1), "{from}");
                    continue;
                }
                let refused = found.unwrap_err();
                let expected = format!("checkpoint 7 holds state of step `s` as {from}, and {to} cannot read it");
                assert!(refused.starts_with(&expected), "{refused}");
                assert_eq!(settled(then, now, false, 0), Ok(1), "there is nothing to be read");
            }
        }
        let refused = settled(&steps[0].0, "select = [\"key\"]", false, 3).unwrap_err();
        assert!(refused.contains("and a select cannot read it"), "{refused}");
    }

    #[test]
    fn what_was_given_up_is_gone_for_the_new_shape_and_there_for_the_old() {
        let windows = |size: &str| {
            format!("key_by = [\"key\"]\nwindow = {{ tumbling = \"{size}\" }}\naggregate = {{ n = \"count()\" }}")
        };
        assert_eq!(settled(&windows("1s"), &windows("2s"), true, 3), Ok(0));
        assert_eq!(settled(&windows("1s"), &windows("1s"), true, 3), Ok(1));
        assert_eq!(settled(&windows("1s"), &format!("{JOIN} }}"), true, 3), Ok(0), "of another kind");
        assert_eq!(settled(&windows("1s"), "select = [\"key\"]", true, 3), Ok(0), "that keeps nothing");
        assert_eq!(settled(&windows("1s"), &windows("2s"), false, 3), Ok(1), "nobody gave it up");
    }

    #[test]
    fn a_step_that_the_checkpoint_does_not_know_is_told_to_begin_empty() {
        let now = planned("key_by = [\"key\"]\naggregate = { n = \"count()\" }");
        let kept = of(&now, &Components::new());
        let told = |noted: &Noted, cut: &mut Cut| noted.settle(7, &kept, &now, cut).unwrap();
        assert_eq!(told(&Noted::default(), &mut Cut::default()), ["step `s` is not in checkpoint 7: it begins empty"]);
        assert!(told(&Noted::default(), &mut cut(3)).is_empty(), "a checkpoint of before notes nothing");
        let noted = Noted { steps: kept.clone(), given_up: BTreeSet::new() };
        assert!(told(&noted, &mut Cut::default()).is_empty(), "whoever approved that it is dropped knows");
    }

    #[test]
    fn what_a_checkpoint_notes_is_compared_and_what_it_does_not_note_is_not() {
        use crate::checkpoint::StepEntry;
        let window = "key_by = [\"key\"]\nwindow = { tumbling = \"1s\" }\naggregate = { n = \"count()\" }";
        let then = of(&planned(window), &Components::new()).remove("s").unwrap();
        let entry = |step: &str, kept: Option<KeptEntry>| StepEntry {
            step: step.to_owned(),
            components: Vec::new(),
            tasks: Vec::new(),
            kept,
        };
        let manifest = |kept: Option<KeptEntry>, given_up: &[&str]| Manifest {
            pipeline: "p".into(),
            epoch: 7,
            attempt: "a".into(),
            written_ms: 0,
            finished: false,
            sources: Vec::new(),
            // what has been renamed since is not of `s`
            steps: vec![entry("other", Some(KeptEntry { kind: "a top".into(), shape: "x".into() })), entry("s", kept)],
            prepared: Vec::new(),
            transactional_id: None,
            versions: Vec::new(),
            given_up: given_up.iter().map(|step| (*step).to_owned()).collect(),
        };
        let now = planned(&format!("{JOIN} }}"));
        let settled = |manifest: &Manifest| {
            let mut cut = cut(3);
            let notes = Noted::from(manifest).settle(7, &of(&now, &Components::new()), &now, &mut cut);
            notes.map(|notes| (notes.len(), cut.steps.len())).map_err(|error| error.to_string())
        };
        let refused = settled(&manifest(Some(then.clone()), &[])).unwrap_err();
        assert!(refused.contains("an aggregate over tumbling windows, and a join without times"), "{refused}");
        let refused = settled(&manifest(Some(then.clone()), &["other"]));
        assert!(refused.is_err(), "another step's was given up: {refused:?}");
        assert_eq!(settled(&manifest(Some(then), &["s"])), Ok((1, 0)));
        assert_eq!(settled(&manifest(None, &[])), Ok((0, 1)), "a checkpoint of before says nothing");
    }

    #[test]
    fn every_kind_of_window_has_words_of_its_own() {
        let kind = |window: &str| {
            let step = format!("key_by = [\"key\"]\n{window}\naggregate = {{ n = \"count()\" }}");
            of(&planned(&step), &Components::new()).remove("s").unwrap().kind
        };
        let table = [
            ("window = { tumbling = \"1s\" }", "over tumbling windows"),
            ("window = { sliding = \"2s\", every = \"1s\" }", "over sliding windows"),
            ("window = { session = \"1s\" }", "over session windows"),
            ("window = { count = 5 }", "over windows of a number of rows"),
            ("window = { count = 5, every = 2 }", "over sliding windows of a number of rows"),
            ("window = { global = true }\ntrigger = { count = 3 }", "over a global window"),
            ("", "without windows"),
        ];
        for (window, words) in table {
            assert_eq!(kind(window), format!("an aggregate {words}"), "{window}");
        }
    }
}
