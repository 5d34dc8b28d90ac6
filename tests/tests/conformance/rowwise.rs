//! Maps, filters, flat maps and partitioners: rows are answered for one by one.

use arrow_array::RecordBatch;
use millstream::wasm::{CallError, Guest, OperatorKind};
use millstream_tests::run;

use super::{Case, Row, as_rows, columns, cuts};

/// Rows that come out, and numbers of those that the guest refuses.
type Answer = (Vec<Row>, Vec<u32>);

pub(crate) fn check(case: &Case, guest: &mut Guest) {
    let whole = columns::batch(case, &guest.signature().inputs.clone());
    let wanted = (as_rows(&case.expected), case.failed.clone());
    let name = format!("{} of {}", guest.component().name(), case.name);
    assert_eq!(answer(case, guest, &whole), wanted, "{name}");
    for cut in cuts(whole.num_rows()) {
        let (mut rows, mut failed) = answer(case, guest, &whole.slice(0, cut));
        let (behind, failed_behind) = answer(case, guest, &whole.slice(cut, whole.num_rows() - cut));
        rows.extend(behind);
        failed.extend(failed_behind.iter().map(|row| row + u32::try_from(cut).unwrap()));
        assert!((rows, failed) == wanted, "{name}: cut at row {cut} the answer is another one");
    }
}

/// As the runtime asks: rows that the guest refuses are left out, and the others tried again.
fn answer(case: &Case, guest: &mut Guest, input: &RecordBatch) -> Answer {
    let failed = match call(case, guest, input) {
        Ok(rows) => return (rows, Vec::new()),
        Err(CallError::Rows(failures)) => failures.iter().map(|failure| failure.row).collect::<Vec<_>>(),
        Err(error) => panic!("{}: {error}", guest.component().name()),
    };
    let good = (0..input.num_rows()).filter(|row| !failed.contains(&u32::try_from(*row).unwrap()));
    let rows = good.flat_map(|row| call(case, guest, &input.slice(row, 1)).unwrap()).collect();
    (rows, failed)
}

fn call(case: &Case, guest: &mut Guest, input: &RecordBatch) -> Result<Vec<Row>, CallError> {
    Ok(match guest.kind() {
        OperatorKind::Mapper => run::record_batch_rows(&guest.transform(input)?),
        OperatorKind::Filter => {
            let mask = guest.select(input)?;
            let rows = run::record_batch_rows(input).into_iter().zip(mask.iter());
            rows.filter(|(_, keep)| *keep == Some(true)).map(|(row, _)| row).collect()
        }
        OperatorKind::FlatMapper => {
            let made = guest.expand(input)?;
            assert!(made.origin.is_sorted() && made.origin.iter().all(|row| (*row as usize) < input.num_rows()));
            run::record_batch_rows(&made.output)
        }
        OperatorKind::Partitioner => {
            let tasks = guest.route(input, case.targets.unwrap_or(1))?;
            tasks.into_iter().map(|task| Row::from_iter([("task".to_owned(), task.into())])).collect()
        }
        kind @ (OperatorKind::Aggregator | OperatorKind::Processor | OperatorKind::WindowProcessor) => {
            panic!("{kind}: does not answer row by row")
        }
    })
}
