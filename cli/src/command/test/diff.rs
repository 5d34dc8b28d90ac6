//! How a script's failure is shown: the line of the script, then what is missing and what is too many.

use millstream::script::{Failure, Missing, RowsDiffer, Script, What};

use crate::console::Paint;

/// Rows shown of each kind.
const ROWS_SHOWN: usize = 20;

/// Characters shown of a line of the script.
const LINE_SHOWN: usize = 160;

/// Everything there is to say, indented below the script's name.
pub(super) fn text(script: &Script, failure: &Failure, paint: Paint) -> String {
    let place = format!("{}:{}", script.path.display(), failure.line);
    let mut lines = vec![format!("  {} {}", paint.bold(format!("{place}:")), failure.what.heading())];
    if let Some(line) = script.lines.iter().find(|line| line.number == failure.line) {
        let text = script.text.get(line.span.start..line.span.end).unwrap_or_default();
        lines.push(paint.dim(format!("  {:>5} | {}", failure.line, shortened(text))));
    }
    match &failure.what {
        What::Rows(differ) => rows(differ, paint, &mut lines),
        What::Dead { reasons, .. } => {
            lines.extend(reasons.iter().take(ROWS_SHOWN).map(|reason| format!("    {} {reason}", paint.red("dead"))));
            more(reasons.len(), "dead rows", &mut lines);
        }
        _ => {}
    }
    lines.join("\n")
}

fn rows(differ: &RowsDiffer, paint: Paint, lines: &mut Vec<String>) {
    for missing in differ.missing.iter().take(ROWS_SHOWN) {
        lines.push(format!("    {}", paint.red(format!("- missing     {}", missing.row))));
        lines.extend(nearest(missing, paint));
    }
    more(differ.missing.len(), "missing rows", lines);
    for row in differ.unexpected.iter().take(ROWS_SHOWN) {
        lines.push(format!("    {}", paint.green(format!("+ unexpected  {row}"))));
    }
    more(differ.unexpected.len(), "unexpected rows", lines);
}

/// The row that was probably meant, and what is wrong with it.
fn nearest(missing: &Missing, paint: Paint) -> Option<String> {
    let nearest = missing.nearest.as_ref()?;
    let differing = nearest.differing.iter().map(|(column, expected, found)| {
        format!("{} expected {}, found {}", paint.bold(format!("{column}:")), paint.red(expected), paint.green(found))
    });
    Some(format!("      nearest     {}\n                  {}", nearest.row, differing.collect::<Vec<_>>().join("; ")))
}

fn more(rows: usize, what: &str, lines: &mut Vec<String>) {
    if rows > ROWS_SHOWN {
        lines.push(format!("      ... and {} more {what}", rows - ROWS_SHOWN));
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LINE_SHOWN) {
        Some((end, _)) => format!("{} ...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
