//! Window-processors: the answer for a window is the same whichever windows it shares a call with.

use arrow_array::RecordBatch;
use millstream::wasm::{Guest, WindowCall};
use millstream_tests::run;

use super::{Case, Row, as_rows, columns};

pub(crate) fn check(case: &Case, guest: &mut Guest) {
    let whole = columns::batch(case, &guest.signature().inputs.clone());
    let name = format!("{} of {}", guest.component().name(), case.name);
    let wanted = as_rows(&case.expected);
    let windows = case.windows.len();
    assert_eq!(answer(case, guest, &whole, 0..windows), wanted, "{name}");
    for cut in 0..=windows {
        let mut rows = answer(case, guest, &whole, 0..cut);
        rows.extend(answer(case, guest, &whole, cut..windows));
        assert_eq!(rows, wanted, "{name}: cut at window {cut}");
    }
}

/// What comes of these windows, with the number of each row's window beside it.
fn answer(case: &Case, guest: &mut Guest, whole: &RecordBatch, windows: std::ops::Range<usize>) -> Vec<Row> {
    let at = |window: usize| case.groups.partition_point(|group| (*group as usize) < window);
    let rows = at(windows.start)..at(windows.end);
    let offset = u32::try_from(windows.start).unwrap();
    let groups: Vec<u32> = case.groups[rows.clone()].iter().map(|group| group - offset).collect();
    let (starts, ends): (Vec<i64>, Vec<i64>) = case.windows[windows].iter().copied().unzip();
    let input = whole.slice(rows.start, rows.len());
    let call = WindowCall { starts: &starts, ends: &ends, groups: &groups, times: &case.times[rows], input: &input };
    let made = guest.process_windows(&call).unwrap();
    assert!(made.origin.is_sorted());
    let mut answered = run::record_batch_rows(&made.output);
    for (row, window) in answered.iter_mut().zip(made.origin) {
        row.insert("window".to_owned(), (window + offset).into());
    }
    answered
}
