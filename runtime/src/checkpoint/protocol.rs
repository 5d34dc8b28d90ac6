//! Which checkpoint a start goes on from. Pure: facts in, a choice out.
//!
//! A sink that has shown epoch N has decided that N happened: going on from an older checkpoint would show its rows twice.
//! So an older checkpoint is taken only while no sink is past it, and what is missing is named otherwise.
//! Where a broker decides epochs, [`decided`] comes first.

mod decided;

pub use decided::{Cure, Decision, Facts, Held, HeldBack, Marker, Named, Stored, choose_decided, cure};

/// What is known of one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// its epoch
    pub epoch: u64,
    /// whether it can be used
    pub health: Health,
}

/// Whether a checkpoint can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// manifest and state files are whole
    Whole,
    /// it was made, but cannot be read any more: why
    Damaged(String),
}

/// What to do at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// nothing has been done yet
    Begin,
    /// go on after this epoch; newer ones could not be read, which is told
    GoOn {
        /// the epoch
        epoch: u64,
        /// newer checkpoints that are damaged, and why
        passed_over: Vec<(u64, String)>,
    },
    /// going on would lose rows or show them twice
    Refuse {
        /// the whole reason
        reason: String,
    },
}

/// Chooses among all checkpoints, newest first; `shown` is the newest epoch that a sink shows, with the sink's name.
pub fn choose(candidates: &[Candidate], shown: Option<(u64, &str)>) -> Choice {
    let mut passed_over = Vec::new();
    for candidate in candidates {
        match &candidate.health {
            Health::Damaged(reason) => passed_over.push((candidate.epoch, reason.clone())),
            Health::Whole => {
                return match shown.filter(|(epoch, _)| *epoch > candidate.epoch) {
                    None => Choice::GoOn { epoch: candidate.epoch, passed_over },
                    Some(shown) => Choice::Refuse { reason: past(shown, Some(candidate.epoch), &passed_over) },
                };
            }
        }
    }
    match shown {
        Some(shown) => Choice::Refuse { reason: past(shown, None, &passed_over) },
        None if passed_over.is_empty() => Choice::Begin,
        None => Choice::Refuse { reason: format!("no checkpoint can be read: {}", damage(&passed_over)) },
    }
}

fn past((shown, sink): (u64, &str), newest: Option<u64>, passed_over: &[(u64, String)]) -> String {
    let newest = newest.map_or("there is no checkpoint".to_owned(), |epoch| {
        format!("the newest checkpoint that can be read is {epoch}")
    });
    let damage = if passed_over.is_empty() { String::new() } else { format!(": {}", damage(passed_over)) };
    format!("sink `{sink}` shows rows of epoch {shown}, but {newest}{damage}; going on would show rows twice")
}

fn damage(passed_over: &[(u64, String)]) -> String {
    let each = passed_over.iter().map(|(epoch, reason)| format!("checkpoint {epoch}: {reason}"));
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(epoch: u64) -> Candidate {
        Candidate { epoch, health: Health::Whole }
    }

    fn damaged(epoch: u64) -> Candidate {
        Candidate { epoch, health: Health::Damaged("torn".into()) }
    }

    #[test]
    fn the_newest_whole_checkpoint_is_taken() {
        assert_eq!(choose(&[], None), Choice::Begin);
        assert_eq!(choose(&[whole(3), whole(2)], Some((3, "out"))), Choice::GoOn { epoch: 3, passed_over: vec![] });
    }

    #[test]
    fn a_damaged_one_is_passed_over_only_while_no_sink_is_past_the_older_one() {
        let passed_over = vec![(3, "torn".to_owned())];
        assert_eq!(choose(&[damaged(3), whole(2)], Some((2, "out"))), Choice::GoOn { epoch: 2, passed_over });
        let Choice::Refuse { reason } = choose(&[damaged(3), whole(2)], Some((3, "out"))) else { panic!("went on") };
        for part in ["`out`", "epoch 3", "read is 2", "checkpoint 3: torn"] {
            assert!(reason.contains(part), "{part} in {reason}");
        }
    }

    #[test]
    fn output_without_a_checkpoint_and_damage_without_an_older_one_are_refused() {
        assert!(matches!(choose(&[], Some((5, "out"))), Choice::Refuse { .. }));
        assert!(matches!(choose(&[damaged(1)], None), Choice::Refuse { .. }));
    }

    /// Whatever the facts: never behind what is shown, never past over a whole one.
    #[test]
    fn no_choice_shows_rows_twice() {
        for kinds in 0..3_u32.pow(4) {
            let of = |epoch: u64| kinds / 3_u32.pow(u32::try_from(epoch).unwrap()) % 3;
            let candidates: Vec<Candidate> = (0..4)
                .rev()
                .filter_map(|epoch| match of(epoch) {
                    0 => None,
                    1 => Some(whole(epoch)),
                    _ => Some(damaged(epoch)),
                })
                .collect();
            for shown in [None, Some(0), Some(1), Some(2), Some(3), Some(9)] {
                match choose(&candidates, shown.map(|epoch| (epoch, "out"))) {
                    Choice::Begin => assert!(candidates.is_empty() && shown.is_none()),
                    Choice::GoOn { epoch, passed_over } => {
                        assert!(shown.is_none_or(|shown| shown <= epoch));
                        let newest = candidates.iter().find(|candidate| candidate.health == Health::Whole);
                        assert_eq!(newest.map(|candidate| candidate.epoch), Some(epoch));
                        assert!(passed_over.iter().all(|(other, _)| *other > epoch));
                    }
                    Choice::Refuse { .. } => assert!(shown.is_some() || !candidates.is_empty()),
                }
            }
        }
    }
}
