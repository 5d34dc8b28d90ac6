//! Windows of event time that lie alike for all keys: tumbling and sliding.
//!
//! A window `[start, end)` fires when the watermark reaches `end - 1`. A row is in every window that holds its time; a
//! tumbling window is a sliding one that moves by its own size. Bounds are kept as they would be without an end of event
//! time, in 128 bits, and saturate only where they are put out.

use std::time::Duration;

use super::{Slice, Slices, WindowError, WindowSpec};
use crate::record::{EventTime, Watermark};

/// Which windows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    size_ms: i64,
    every_ms: i64,
    offset_ms: i64,
    allowed_lateness_ms: i64,
    slices: Slices,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    start: i128,
    end: i128,
}

impl Windows {
    /// The windows of `spec`, which take rows until the watermark is `allowed_lateness` past their last time.
    pub fn new(spec: WindowSpec, allowed_lateness: Duration) -> Result<Self, WindowError> {
        let (size, every, offset_ms) = match spec {
            WindowSpec::Tumbling { size, offset_ms } => (size, size, offset_ms),
            WindowSpec::Sliding { size, every, offset_ms } => (size, every, offset_ms),
            window => return Err(WindowError::Kind { window }),
        };
        let (size_ms, every_ms) = (whole_ms(size)?, whole_ms(every)?);
        if every_ms > size_ms {
            return Err(WindowError::Gaps { size_ms, every_ms });
        }
        if offset_ms.unsigned_abs() >= every_ms.unsigned_abs() {
            return Err(WindowError::Offset { offset_ms, every_ms });
        }
        let slices = Slices::new(greatest_common_divisor(size_ms, every_ms), offset_ms);
        let allowed_lateness_ms = i64::try_from(allowed_lateness.as_millis()).unwrap_or(i64::MAX);
        Ok(Self { size_ms, every_ms, offset_ms, allowed_lateness_ms, slices })
    }

    /// What the windows are made of: each of them is a whole number of slices.
    pub fn slices(&self) -> Slices {
        self.slices
    }

    /// Whether every window is one slice.
    pub fn are_slices(&self) -> bool {
        self.size_ms == self.every_ms
    }

    /// How many slices make a window.
    pub fn slices_a_window(&self) -> i64 {
        self.size_ms / greatest_common_divisor(self.size_ms, self.every_ms)
    }

    /// The border of blocks as long as windows that lies in `window` or is its start. Slices do not cross it.
    pub fn middle_of(&self, window: Window) -> i128 {
        let short = (i128::from(self.offset_ms) - window.start).rem_euclid(i128::from(self.size_ms));
        window.start + short
    }

    /// How many windows hold a time at most.
    pub fn overlap(&self) -> usize {
        usize::try_from((self.size_ms - 1) / self.every_ms + 1).unwrap_or(usize::MAX)
    }

    /// A number below [`Windows::overlap`] that no other window with a time in common has.
    pub fn layer_of(&self, window: Window) -> usize {
        let number = (window.start - i128::from(self.offset_ms)).div_euclid(i128::from(self.every_ms));
        // below the overlap, so it fits
        number.rem_euclid(self.overlap() as i128) as usize
    }

    /// The earliest window with `time` in it.
    pub fn first_of(&self, time: EventTime) -> Window {
        self.at_or_after(i128::from(time) - i128::from(self.size_ms) + 1)
    }

    /// The latest window with `time` in it.
    pub fn last_of(&self, time: EventTime) -> Window {
        let into = (i128::from(time) - i128::from(self.offset_ms)).rem_euclid(i128::from(self.every_ms));
        self.starting(i128::from(time) - into)
    }

    /// The earliest window with `time` in it that has not fired at `watermark`.
    pub fn first_open_of(&self, time: EventTime, watermark: Watermark) -> Option<Window> {
        let first = self.first_of(time).max(self.at_or_after(i128::from(watermark.0) - i128::from(self.size_ms) + 2));
        (first.start <= i128::from(time) && !first.has_fired(watermark)).then_some(first)
    }

    /// Whether `window` is late at `watermark`: it takes no rows any more and fires no more.
    pub fn is_late(&self, window: Window, watermark: Watermark) -> bool {
        window.bounds().result_time().saturating_add(self.allowed_lateness_ms) <= watermark.0
    }

    /// Whether windows take rows after they have fired.
    pub fn allow_lateness(&self) -> bool {
        self.allowed_lateness_ms > 0
    }

    /// The next window.
    pub fn after(&self, window: Window) -> Window {
        self.starting(window.start + i128::from(self.every_ms))
    }

    fn at_or_after(&self, time: i128) -> Window {
        let every = i128::from(self.every_ms);
        let short = (i128::from(self.offset_ms) - time).rem_euclid(every);
        self.starting(time + short)
    }

    fn starting(&self, start: i128) -> Window {
        Window { start, end: start + i128::from(self.size_ms) }
    }
}

impl Window {
    /// The bounds, saturated.
    pub fn bounds(&self) -> Slice {
        Slice { start: saturated(self.start), end: saturated(self.end) }
    }

    /// One past its last time, where event time would not end.
    pub fn end(&self) -> i128 {
        self.end
    }

    /// Whether `time` lies in it.
    pub fn contains(&self, time: EventTime) -> bool {
        self.start <= i128::from(time) && i128::from(time) < self.end
    }

    /// Whether it fires at `watermark` or has done so before.
    pub fn has_fired(&self, watermark: Watermark) -> bool {
        self.bounds().is_complete(watermark)
    }
}

pub(super) fn whole_ms(duration: Duration) -> Result<i64, WindowError> {
    let ms = i64::try_from(duration.as_millis()).unwrap_or(0);
    if ms == 0 || !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(WindowError::Size { size: duration });
    }
    Ok(ms)
}

fn saturated(time: i128) -> EventTime {
    time.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Euclid's; both are positive.
fn greatest_common_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sliding(size_ms: u64, every_ms: u64, offset_ms: i64) -> Result<Windows, WindowError> {
        let (size, every) = (Duration::from_millis(size_ms), Duration::from_millis(every_ms));
        Windows::new(WindowSpec::Sliding { size, every, offset_ms }, Duration::ZERO)
    }

    #[test]
    fn windows_with_gaps_or_without_length_are_refused() {
        assert_eq!(sliding(10, 11, 0), Err(WindowError::Gaps { size_ms: 10, every_ms: 11 }));
        assert_eq!(sliding(10, 4, -4), Err(WindowError::Offset { offset_ms: -4, every_ms: 4 }));
        assert!(matches!(sliding(10, 0, 0), Err(WindowError::Size { .. })));
        assert!(matches!(sliding(0, 1, 0), Err(WindowError::Size { .. })));
        assert!(sliding(10, 10, 9).unwrap().are_slices());
    }

    proptest! {
        #[test]
        fn windows_of_a_time_are_those_that_counting_finds(
            time in -100i64..100,
            size in 1i64..30,
            every in 1i64..30,
            part in -1.0f64..1.0,
            watermark in -130i64..130,
        ) {
            let every = every.min(size);
            let offset = ((every as f64 * part) as i64).clamp(1 - every, every - 1);
            let windows = sliding(size as u64, every as u64, offset).unwrap();
            let starts = (-200i64..200).filter(|start| (start - offset).rem_euclid(every) == 0);
            let holding: Vec<_> = starts.filter(|start| *start <= time && time < start + size).collect();
            let mut found = vec![windows.first_of(time)];
            while *found.last().unwrap() != windows.last_of(time) {
                found.push(windows.after(*found.last().unwrap()));
            }
            prop_assert_eq!(found.iter().map(|window| window.bounds().start).collect::<Vec<_>>(), &holding[..]);
            let open = holding.iter().find(|start| **start + size - 1 > watermark);
            let first_open = windows.first_open_of(time, Watermark(watermark));
            prop_assert_eq!(first_open.map(|window| window.bounds().start), open.copied());
            let slice = windows.slices().slice_of(time);
            let mut layers: Vec<usize> = found.iter().map(|window| windows.layer_of(*window)).collect();
            layers.sort_unstable();
            layers.dedup();
            prop_assert_eq!(layers.len(), found.len());
            prop_assert!(layers.iter().all(|layer| *layer < windows.overlap()));
            for window in found {
                let middle = windows.middle_of(window) as i64;
                prop_assert_eq!((middle - offset).rem_euclid(size), 0);
                prop_assert!(window.bounds().start <= middle && middle < window.bounds().end);
                prop_assert!(window.contains(slice.start) && window.contains(slice.end - 1));
                prop_assert_eq!(window.bounds().end, window.bounds().start + size);
            }
        }
    }
}
