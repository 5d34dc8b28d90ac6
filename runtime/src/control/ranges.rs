//! Ranges that are cut from samples: cut for the first time as soon as there is enough to cut from, and anew at intervals,
//! each time at a barrier, so that all senders change between the same two rows.

use std::sync::Arc;
use std::time::Duration;

use super::run::Life;
use crate::clock::Stopwatch;
use crate::pipeline::change::Change;
use crate::pipeline::ranges::SampledRange;

/// How often samples are looked at before the first cut.
const LOOK: Duration = Duration::from_millis(50);

/// Cuts ranges until the pipeline has ended.
pub(super) async fn keep_even(life: Life, ranges: Vec<SampledRange>) {
    let mut last: Vec<Option<Stopwatch>> = ranges.iter().map(|_| None).collect();
    loop {
        tokio::select! {
            () = life.all_ended() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let mut change = Change::default();
        let mut is_empty = true;
        for ((number, range), last) in ranges.iter().enumerate().zip(&mut last) {
            let due = match last {
                None => range.sampler.is_full(),
                Some(last) => last.elapsed() >= range.every,
            };
            let Some(splits) = due.then(|| range.sampler.draw(range.tasks)).flatten() else { continue };
            tracing::debug!(step = range.step, ?splits, "ranges are cut anew");
            *last = Some(Stopwatch::start());
            change.cut_ranges(number, splits);
            is_empty = false;
        }
        // a pipeline that has ended needs no ranges
        if !is_empty && life.send(&Arc::new(change)).await.is_err() {
            return;
        }
    }
}
