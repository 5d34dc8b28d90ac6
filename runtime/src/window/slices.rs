//! Event time cut into slices of one width: the unit that windows are made of and state is kept for.
//!
//! A tumbling window is one slice. A sliding window is several, with the width the greatest common divisor of size and
//! slide, so that windows that overlap share what they have in common.
//!
//! Rules (Flink's): slices are `[start, end)`, cut by floor division, so times before 1970 and offsets work alike; sums
//! saturate at the ends of event time, which makes the outermost slices shorter.

use crate::record::{EventTime, Watermark};

/// How event time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    width_ms: i64,
    offset_ms: i64,
}

/// A piece of event time: `start <= time < end`, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice {
    /// first time
    pub start: EventTime,
    /// one past the last
    pub end: EventTime,
}

impl Slices {
    /// Slices of `width_ms`, which is positive, one of which starts at `offset_ms`.
    pub(super) fn new(width_ms: i64, offset_ms: i64) -> Self {
        Self { width_ms, offset_ms: offset_ms % width_ms }
    }

    /// The slice that holds `time`. A slice cut short at the end of event time holds `i64::MAX` too.
    pub fn slice_of(&self, time: EventTime) -> Slice {
        let into = match time.checked_sub(self.offset_ms) {
            Some(shifted) => shifted.rem_euclid(self.width_ms),
            // below the width, so it fits
            None => ((i128::from(time) - i128::from(self.offset_ms)).rem_euclid(i128::from(self.width_ms))) as i64,
        };
        Slice { start: time.saturating_sub(into), end: time.saturating_add(self.width_ms - into) }
    }
}

impl Slice {
    /// Whether `time` lies in it.
    pub fn contains(&self, time: EventTime) -> bool {
        self.start <= time && time < self.end
    }

    /// The event time of a result: the last time of the window, in ms.
    pub fn result_time(&self) -> EventTime {
        self.end.saturating_sub(1)
    }

    /// Whether a window with these bounds fires at `watermark`.
    pub fn is_complete(&self, watermark: Watermark) -> bool {
        self.result_time() <= watermark.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::window::{WindowError, WindowSpec, Windows};

    fn tumbling(size_ms: u64, offset_ms: i64) -> Result<Slices, WindowError> {
        windows(WindowSpec::Tumbling { size: Duration::from_millis(size_ms), offset_ms })
    }

    fn windows(spec: WindowSpec) -> Result<Slices, WindowError> {
        Windows::new(spec, Duration::ZERO).map(|windows| windows.slices())
    }

    fn slice(size_ms: u64, offset_ms: i64, time: i64) -> (i64, i64) {
        let slice = tumbling(size_ms, offset_ms).unwrap().slice_of(time);
        (slice.start, slice.end)
    }

    #[test]
    fn a_time_lies_in_the_window_that_floor_division_gives() {
        assert_eq!(slice(10, 0, 0), (0, 10));
        assert_eq!(slice(10, 0, 9), (0, 10));
        assert_eq!(slice(10, 0, 10), (10, 20));
        assert_eq!(slice(10, 0, -1), (-10, 0));
        assert_eq!(slice(10, 0, -10), (-10, 0));
        assert_eq!(slice(10, 0, -11), (-20, -10));
    }

    #[test]
    fn an_offset_moves_the_starts_either_way() {
        assert_eq!(slice(10, 3, 2), (-7, 3));
        assert_eq!(slice(10, 3, 3), (3, 13));
        assert_eq!(slice(10, -3, 6), (-3, 7));
        assert_eq!(slice(10, -3, 7), (7, 17));
    }

    #[test]
    fn slices_at_the_ends_of_time_are_cut_short() {
        assert_eq!(slice(10, 0, i64::MIN + 1), (i64::MIN, i64::MIN + 8));
        assert_eq!(slice(10, 0, i64::MAX), (i64::MAX - 7, i64::MAX));
        assert_eq!(slice(i64::MAX as u64, 0, -1), (-i64::MAX, 0));
        assert_eq!(slice(10, -9, i64::MAX), (i64::MAX - 6, i64::MAX));
        assert_eq!(slice(10, 9, i64::MIN), (i64::MIN, i64::MIN + 7));
    }

    #[test]
    fn a_window_fires_when_the_watermark_reaches_its_last_time() {
        let slice = tumbling(10, 0).unwrap().slice_of(5);
        assert!(!slice.is_complete(Watermark(8)));
        assert!(slice.is_complete(Watermark(9)));
        assert!(slice.is_complete(Watermark::MAX));
        assert!(!slice.is_complete(Watermark::MIN));
        assert_eq!(slice.result_time(), 9);
    }

    #[test]
    fn windows_that_cannot_be_are_refused() {
        assert!(tumbling(0, 0).is_err());
        assert!(tumbling(10, 10).is_err());
        assert!(tumbling(10, -10).is_err());
        assert!(tumbling(u64::MAX, 0).is_err());
        assert!(windows(WindowSpec::Tumbling { size: Duration::from_micros(1_500), offset_ms: 0 }).is_err());
    }

    proptest! {
        #[test]
        fn slices_agree_with_exact_arithmetic(
            time in prop_oneof![any::<i64>(), -100i64..100, i64::MAX - 50..=i64::MAX, i64::MIN..i64::MIN + 50],
            size in prop_oneof![1i64..50, 1..=i64::MAX],
            part in -1.0f64..1.0,
        ) {
            let offset = ((size as f64 * part) as i64).clamp(1 - size, size - 1);
            let slice = tumbling(size as u64, offset).unwrap().slice_of(time);
            let (time, size, offset) = (i128::from(time), i128::from(size), i128::from(offset));
            let start = time - (time - offset).rem_euclid(size);
            let clamp = |t: i128| t.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
            prop_assert_eq!((slice.start, slice.end), (clamp(start), clamp(start + size)));
        }
    }
}
