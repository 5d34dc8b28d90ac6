//! What goes into a pipeline, at random.

use proptest::prelude::*;
use serde_json::Value;

/// A row of one of the sources `a` and `b`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// 0 is `a`
    pub(crate) source: usize,
    /// tells it from all others; ascending
    pub(crate) id: i64,
    pub(crate) key: Option<u8>,
    pub(crate) value: Option<i64>,
    pub(crate) time: Option<i64>,
}

/// What happens, in order. The input ends behind the last.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Row(Row),
    /// one source says how far it is; it may say less than before
    Watermark {
        source: usize,
        time: i64,
    },
    /// all state is put away, and so many tasks go on from it
    Restore {
        tasks: usize,
    },
}

/// What rows may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nulls {
    None,
    /// keys and values
    Cells,
    /// these, and event times
    All,
}

/// The most tasks that a step has.
pub(crate) const TASKS_MAX: usize = 4;

/// Events of so many sources.
pub(crate) fn events(sources: usize, nulls: Nulls) -> impl Strategy<Value = Vec<Event>> {
    let no_cell = nulls != Nulls::None;
    let cells = (optional(no_cell, 0u8..5), optional(no_cell, -20i64..20));
    let time = optional(nulls == Nulls::All, prop_oneof![20 => 0i64..60, 1 => -40i64..0]);
    let row = (0..sources, cells, time)
        .prop_map(|(source, (key, value), time)| Event::Row(Row { source, id: 0, key, value, time }));
    let watermark = (0..sources, -10i64..70).prop_map(|(source, time)| Event::Watermark { source, time });
    let restore = (1..=TASKS_MAX).prop_map(|tasks| Event::Restore { tasks });
    prop::collection::vec(prop_oneof![12 => row, 3 => watermark, 1 => restore], 1..50).prop_map(|mut events| {
        let rows = events.iter_mut().filter_map(|event| if let Event::Row(row) = event { Some(row) } else { None });
        rows.zip(0..).for_each(|(row, id)| row.id = id);
        events
    })
}

/// Now and then nothing, if that may be.
fn optional<S: Strategy<Value: Clone> + 'static>(may_lack: bool, values: S) -> BoxedStrategy<Option<S::Value>> {
    let values = values.prop_map(Some);
    if may_lack { prop_oneof![6 => values, 1 => Just(None)].boxed() } else { values.boxed() }
}

impl Row {
    /// The key as JSON.
    pub(crate) fn key(&self) -> Value {
        key_of(self.key)
    }
}

/// A key as JSON.
pub(crate) fn key_of(key: Option<u8>) -> Value {
    key.map_or(Value::Null, |key| format!("key {key}").into())
}

/// What a step does, one row at a time.
pub(crate) trait Model {
    fn row(&mut self, row: &Row);
    /// the watermark has advanced to here
    fn advance(&mut self, watermark: i64);
}

/// Takes a model through the events: the watermark is the least of the furthest that each source has told.
pub(crate) fn replay(events: &[Event], sources: usize, model: &mut impl Model) {
    let (mut told, mut watermark) = (vec![i64::MIN; sources], i64::MIN);
    for event in events {
        match event {
            Event::Row(row) => model.row(row),
            Event::Watermark { source, time } => {
                told[*source] = told[*source].max(*time);
                let least = told.iter().copied().min().unwrap();
                if least > watermark {
                    watermark = least;
                    model.advance(watermark);
                }
            }
            Event::Restore { .. } => {}
        }
    }
    model.advance(i64::MAX);
}
