//! What tests of sources share.

use std::path::Path;

use arrow_array::cast::AsArray;

use super::{Source, SourceContext, SourceEvent};
use crate::clock::Clock;
use crate::format::{BadRecord, Format};
use crate::record::{Field, Kind, Schema};

/// Subtask 0 of 1 of a source `input` of text records, at 5,000 ms of a clock that stands still.
pub(super) fn context(base: &Path) -> SourceContext {
    let schema = Schema::new([Field::new("value", Kind::Text)]);
    SourceContext {
        name: "input".into(),
        format: Some(Format::Text),
        schema: schema.clone(),
        wanted: schema,
        event_time: None,
        subtask: 0,
        parallelism: 1,
        clock: Clock::virtual_at_ms(5_000),
        base: base.to_owned(),
        restore: None,
        trickle: None,
    }
}

/// All that a source said up to its end, batches joined.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// partition, value (the first column, text) and event time
    pub(super) rows: Vec<(u32, String, i64)>,
    pub(super) bad: Vec<BadRecord>,
    pub(super) ended: Vec<u32>,
}

impl Told {
    pub(super) fn values(&self) -> Vec<&str> {
        self.rows.iter().map(|(_, value, _)| value.as_str()).collect()
    }

    pub(super) fn add(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Batch { partition, batch, bad } => {
                let values = batch.column(0).as_string::<i32>().iter().map(|value| value.unwrap_or("null").to_owned());
                let times = batch.times().iter().copied();
                self.rows.extend(values.zip(times).map(|(value, time)| (partition, value, time)));
                self.bad.extend(bad);
            }
            SourceEvent::PartitionEnded { partition } => self.ended.push(partition),
            SourceEvent::Quiet | SourceEvent::End | SourceEvent::Direct(_) => {}
        }
    }
}

/// Reads a source to its end.
pub(super) async fn read_to_end(source: &mut dyn Source) -> Told {
    let mut told = Told::default();
    loop {
        match source.next().await.unwrap() {
            SourceEvent::End => return told,
            event => told.add(event),
        }
    }
}
