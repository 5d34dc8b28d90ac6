//! A change that can still fail at the cut: every task makes ready, then all change, or none.
//!
//! ```text
//!   barrier reaches a task ─▶ it makes ready, or says why not ─▶ it passes the barrier on, and waits
//!   all tasks are there ─▶ the one who sent the barrier decides ─▶ each task changes, or throws away what it made
//! ```
//!
//! Nobody waits for a task behind it: the barrier goes on before the wait, so it reaches all.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// What tasks say of a change, and what becomes of it.
#[derive(Debug)]
pub struct Ballot {
    /// of the first that cannot: step and reason
    against: Mutex<Option<(String, String)>>,
    verdict: watch::Sender<Option<bool>>,
}

impl Default for Ballot {
    fn default() -> Self {
        Self { against: Mutex::new(None), verdict: watch::Sender::new(None) }
    }
}

impl Ballot {
    /// A task of `step` cannot change.
    pub fn cannot(&self, step: &str, reason: String) {
        let mut against = self.against.lock().unwrap_or_else(PoisonError::into_inner);
        against.get_or_insert_with(|| (step.to_owned(), reason));
    }

    /// Who cannot change, and why; none where all can so far.
    pub fn against(&self) -> Option<(String, String)> {
        self.against.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells all tasks what becomes of the change. The first word counts.
    pub fn decide(&self, carried: bool) {
        self.verdict.send_if_modified(|verdict| {
            let first = verdict.is_none();
            verdict.get_or_insert(carried);
            first
        });
    }

    /// What becomes of the change, once it is known.
    pub async fn verdict(&self) -> bool {
        let mut verdict = self.verdict.subscribe();
        match verdict.wait_for(Option::is_some).await {
            Ok(verdict) => verdict.unwrap_or(false),
            Err(_) => false,
        }
    }
}

/// Decides against a change when it is dropped before a decision: tasks must not wait for ever.
#[derive(Debug)]
pub struct Chair<'a>(pub &'a Ballot);

impl Drop for Chair<'_> {
    fn drop(&mut self) {
        self.0.decide(false);
    }
}
