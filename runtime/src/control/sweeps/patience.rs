//! When migrations ahead of a cut have come so far that the cut may come. Pure.

use std::time::Duration;

use crate::limits::{SWEEP_LONGEST, SWEEP_PATIENCE};
use crate::pipeline::sweep::SweepProgress;

/// How long migrations that have seen all state keep up with what changes.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// when, since they began, each had seen all
    all_seen: Option<Duration>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// to look again in a moment
    GoOn,
    /// what is left is to be migrated at the cut
    Cut,
    /// the migration with this number has failed
    GiveUp(usize),
}

impl Patience {
    /// `elapsed`: since the migrations began. Of tasks that have ended nothing is expected.
    pub(super) fn next(&mut self, elapsed: Duration, all: &[SweepProgress]) -> Next {
        if let Some(failed) = all.iter().position(|progress| progress.failed.is_some()) {
            return Next::GiveUp(failed);
        }
        let each = |is: fn(&SweepProgress) -> bool| all.iter().all(|progress| progress.is_gone || is(progress));
        if each(|progress| progress.caught_up) {
            return Next::Cut;
        }
        if each(|progress| progress.has_seen_all) {
            self.all_seen.get_or_insert(elapsed);
        }
        let keeps_up = self.all_seen.is_none_or(|since| elapsed.saturating_sub(since) <= SWEEP_PATIENCE);
        if keeps_up && elapsed <= SWEEP_LONGEST {
            return Next::GoOn;
        }
        // state changes, or comes, quicker than it is migrated, which does not get better
        Next::Cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: SweepProgress = SweepProgress {
        has_seen_all: false,
        caught_up: false,
        is_gone: false,
        failed: None,
        rounds: 0,
        rows_ahead: 0,
        rows_at_cut: 0,
    };
    const SEEN: SweepProgress = SweepProgress { has_seen_all: true, ..NEW };
    const DONE: SweepProgress = SweepProgress { caught_up: true, ..SEEN };
    const GONE: SweepProgress = SweepProgress { is_gone: true, ..NEW };

    fn failed() -> SweepProgress {
        SweepProgress { failed: Some("one key does not migrate".to_owned()), ..DONE }
    }

    #[test]
    fn the_cut_comes_when_all_have_caught_up_or_none_has_for_too_long() {
        // what each look sees, at so many seconds, and what follows from it
        type Looks = Vec<(f64, Vec<SweepProgress>, Next)>;
        let table: Vec<(&str, Looks)> = vec![
            ("nothing to migrate", vec![(0.0, vec![], Next::Cut)]),
            ("all have caught up", vec![(0.0, vec![DONE, DONE], Next::Cut)]),
            ("one has not", vec![(0.0, vec![DONE, SEEN], Next::GoOn), (1.0, vec![DONE, DONE], Next::Cut)]),
            ("one has fallen back", vec![(0.0, vec![SEEN, DONE], Next::GoOn), (9.0, vec![DONE, SEEN], Next::GoOn)]),
            ("of tasks that are gone nothing is expected", vec![(0.0, vec![GONE, DONE], Next::Cut)]),
            ("all are gone", vec![(0.0, vec![GONE, GONE], Next::Cut)]),
            (
                "ten seconds count from when the last has seen all",
                vec![
                    (0.0, vec![SEEN, NEW], Next::GoOn),
                    (30.0, vec![SEEN, NEW], Next::GoOn),
                    (31.0, vec![SEEN, SEEN], Next::GoOn),
                    (41.0, vec![SEEN, SEEN], Next::GoOn),
                    (41.1, vec![SEEN, SEEN], Next::Cut),
                ],
            ),
            (
                "they do not begin anew",
                vec![
                    (1.0, vec![SEEN, SEEN], Next::GoOn),
                    (6.0, vec![DONE, SEEN], Next::GoOn),
                    (11.1, vec![SEEN, DONE], Next::Cut),
                ],
            ),
            (
                "state that is not seen to its end has ten minutes",
                vec![(599.0, vec![NEW], Next::GoOn), (600.0, vec![NEW], Next::GoOn), (600.1, vec![NEW], Next::Cut)],
            ),
            ("a failure comes before all else", vec![(700.0, vec![DONE, failed(), failed()], Next::GiveUp(1))]),
        ];
        for (case, looks) in table {
            let mut patience = Patience::default();
            for (seconds, all, expected) in looks {
                assert_eq!(patience.next(Duration::from_secs_f64(seconds), &all), expected, "{case}, at {seconds} s");
            }
        }
    }
}
