//! A start whose epochs a broker decides. Pure: facts in, a choice out.
//!
//! An epoch of a pipeline with Kafka sinks has happened when its transaction is committed, and not before: the marker in that
//! transaction names the checkpoint that belongs to it. So a start believes the last marker and nothing else. A newer
//! checkpoint is one whose transaction was never committed; an older one would repeat what has been read.
//!
//! A marker can be missing for two reasons: no transaction has been committed yet, or the marker was lost. Checkpoints tell
//! them apart, as each says under which transactional id its epoch ran. The checkpoint that a pipeline begins with runs
//! under none: it is written first, then its marker, then the first epoch.

/// Names one checkpoint of one process: another process that writes the same epoch has another attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// the epoch that was committed last
    pub epoch: u64,
    /// the attempt of its manifest
    pub attempt: String,
}

/// What became of the checkpoint that a marker names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// it is whole, and this is its attempt
    Whole {
        /// of its manifest
        attempt: String,
    },
    /// it cannot be read: why
    Damaged(String),
    /// it is not there
    Missing,
}

/// What is known at a start.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// under which the pipeline's transactions run
    pub transactional_id: &'a str,
    /// the last marker and what became of its checkpoint; none where the broker has no marker
    pub marker: Option<(Marker, Named)>,
    /// the newest checkpoint whose epoch ran in a transaction, and under which id
    pub in_transaction: Option<(u64, &'a str)>,
    /// the newest epoch that a sink of another kind shows, and the sink
    pub shown: Option<(u64, &'a str)>,
}

/// What to do at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// go on after this epoch, whatever newer checkpoints there are
    GoOn {
        /// the epoch
        epoch: u64,
    },
    /// no transaction has been committed: what there is besides decides, and becomes the first marker
    Undecided,
    /// going on would lose rows or show them twice
    Refuse {
        /// the whole reason
        reason: String,
    },
}

/// Chooses by what the broker has decided.
pub fn choose_decided(facts: &Facts<'_>) -> Decision {
    let id = facts.transactional_id;
    let refuse = |reason: String| Decision::Refuse { reason };
    let Some((marker, named)) = &facts.marker else {
        return match facts.in_transaction {
            None => Decision::Undecided,
            Some((epoch, under)) if under == id => refuse(format!(
                "checkpoint {epoch} ran in a transaction of `{id}`, but the broker has no marker of it: the marker's topic was \
                 removed, or `brokers` names another cluster"
            )),
            Some((epoch, under)) => refuse(format!(
                "checkpoint {epoch} ran in a transaction of `{under}`, and the pipeline's transactional id is `{id}` now: give it \
                 the old one back (`transactional_id` of `checkpoint`)"
            )),
        };
    };
    let epoch = marker.epoch;
    match named {
        Named::Missing => {
            refuse(format!("the broker has committed epoch {epoch}, whose checkpoint is not in the store"))
        }
        Named::Damaged(reason) => {
            refuse(format!("the broker has committed epoch {epoch}, whose checkpoint cannot be read: {reason}"))
        }
        Named::Whole { attempt } if *attempt != marker.attempt => refuse(format!(
            "the broker has committed epoch {epoch} of attempt {}, and the store holds that of attempt {attempt}: it is the \
             store of another copy of the pipeline",
            marker.attempt
        )),
        Named::Whole { .. } => match facts.shown {
            Some((shown, sink)) if shown > epoch => refuse(format!(
                "sink `{sink}` shows rows of epoch {shown}, but the broker has committed only {epoch}: the marker's topic, or the \
                 sink's output, is of another run"
            )),
            _ => Decision::GoOn { epoch },
        },
    }
}

/// Whose the oldest record is that a partition holds back from readers of committed records. No transaction of ours is
/// open at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// another producer's, whose transaction is open; behind it may be some of ours
    Others {
        /// whether there are
        ours_behind: bool,
    },
    /// ours, of this epoch: the transaction has ended, but the broker has not told the partition how
    Ours {
        /// the epoch
        epoch: u64,
    },
}

/// A partition that holds records back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// `topic/partition`
    pub partition: String,
    /// whether it is the one with the markers
    pub of_markers: bool,
    /// what it holds back
    pub first: HeldBack,
}

/// What the store knows of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// its checkpoint is not whole: it cannot have been committed
    Never,
    /// its checkpoint is whole: it may have been
    Perhaps,
    /// its process was told so
    Committed,
}

/// What to do about partitions that hold records back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cure {
    /// nothing
    None,
    /// look again: another producer is in the way
    Wait,
    /// abort a transaction in these partitions once more, which ends there what has been aborted before
    AbortAgain(Vec<String>),
    /// it is not known what to do, or cannot be done from here
    Refuse {
        /// the whole reason
        reason: String,
    },
}

/// Decides about partitions that hold records back although no transaction of ours is open. `marker` is the last epoch
/// whose marker can be read.
///
/// A broker that restarts while a transaction ends can forget to say so in the partitions. What it forgot to abort would
/// be committed by the next commit of the same producer; what it forgot to commit would be lost with the next abort.
pub fn cure(held: &[Held], marker: Option<u64>, stored: impl Fn(u64) -> Stored) -> Cure {
    let mut aborted = Vec::new();
    let mut wait = false;
    for held in held {
        match &held.first {
            HeldBack::Others { ours_behind } => wait |= *ours_behind || held.of_markers,
            HeldBack::Ours { epoch } if marker.is_some_and(|marker| *epoch <= marker) => {
                return Cure::Refuse { reason: not_told(held, *epoch, "is committed") };
            }
            // a marker that can be read would show that it was committed: the markers' partition held nothing back
            HeldBack::Ours { .. } if !held.of_markers => aborted.push(held.partition.clone()),
            HeldBack::Ours { epoch } => match stored(*epoch) {
                Stored::Never => aborted.push(held.partition.clone()),
                Stored::Committed => return Cure::Refuse { reason: not_told(held, *epoch, "is committed") },
                Stored::Perhaps => return Cure::Refuse { reason: not_told(held, *epoch, "may be committed or not") },
            },
        }
    }
    match (wait, aborted.is_empty()) {
        (true, _) => Cure::Wait,
        (false, true) => Cure::None,
        (false, false) => Cure::AbortAgain(aborted),
    }
}

fn not_told(held: &Held, epoch: u64, state: &str) -> String {
    format!(
        "`{}` holds back records of epoch {epoch}, which {state}, though no transaction is open: the broker has not told \
         the partition how it ended; look at it with `kafka-transactions.sh find-hanging` before anything else",
        held.partition
    )
}

#[cfg(test)]
mod tests;
