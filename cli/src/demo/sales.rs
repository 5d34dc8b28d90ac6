//! What the pipeline puts out: visits and revenue by window and segment.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use millstream::record::Batch;

use crate::failure::Failure;

/// The segments in the order of the table.
pub(super) const SEGMENTS: [&str; 4] = ["cart", "small", "medium", "large"];

/// A segment by its position in [`SEGMENTS`].
pub(super) type Segment = usize;

/// Visits and revenue of a window, by segment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Window {
    pub(super) visits: [u64; SEGMENTS.len()],
    pub(super) revenue: [f64; SEGMENTS.len()],
}

impl Window {
    /// One visit.
    pub(super) fn add(&mut self, segment: Segment, amount: f64) {
        if let (Some(visits), Some(revenue)) = (self.visits.get_mut(segment), self.revenue.get_mut(segment)) {
            *visits += 1;
            *revenue += amount;
        }
    }

    /// Revenue of all segments.
    pub(super) fn total(&self) -> f64 {
        self.revenue.iter().sum()
    }
}

/// All windows by their start, ms.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sales {
    pub(super) windows: BTreeMap<i64, Window>,
}

impl Sales {
    /// Takes in a batch of `segment, window_start, window_end, visits, revenue`. Adds up: a window that came twice
    /// must not pass for one.
    pub(super) fn add(&mut self, batch: &Batch) -> Result<(), Failure> {
        let columns = batch.columns();
        let column = |name: &str| {
            columns.column_by_name(name).ok_or_else(|| Failure::NotVerified(format!("results have no column `{name}`")))
        };
        let wrong = |name: &str| Failure::NotVerified(format!("column `{name}` of the results has another type"));
        let segments = column("segment")?.as_string_opt::<i32>().ok_or_else(|| wrong("segment"))?;
        let starts = column("window_start")?;
        let starts = starts.as_primitive_opt::<TimestampMillisecondType>().ok_or_else(|| wrong("window_start"))?;
        let visits = column("visits")?.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong("visits"))?;
        let revenue = column("revenue")?.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong("revenue"))?;
        for row in 0..batch.rows() {
            let name = segments.value(row);
            let segment = SEGMENTS
                .iter()
                .position(|known| *known == name)
                .ok_or_else(|| Failure::NotVerified(format!("results have the unknown segment `{name}`")))?;
            let window = self.windows.entry(starts.value(row)).or_default();
            if let (Some(all), Some(sum)) = (window.visits.get_mut(segment), window.revenue.get_mut(segment)) {
                *all += u64::try_from(visits.value(row)).unwrap_or(0);
                *sum += revenue.value(row);
            }
        }
        Ok(())
    }

    /// All visits in all windows.
    pub(super) fn visits(&self) -> u64 {
        self.windows.values().flat_map(|window| window.visits).sum()
    }
}
