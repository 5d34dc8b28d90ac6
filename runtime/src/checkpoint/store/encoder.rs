//! The thread that makes state into bytes: one, whatever the number of tasks, since rows need the other processors.
//!
//! It is not one of the runtime's threads for blocking calls: it gives way to all others, and memory that it takes and gives back a
//! megabyte at a time stays its own. It ends with the last store that knows it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::StoreError;

type Work = Box<dyn FnOnce() + Send>;

/// Hands work to the thread, which is started with the first. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Encoder {
    work: Arc<Mutex<Option<Sender<Work>>>>,
}

impl Encoder {
    /// Does it there, after what came before.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        // whoever has asked may not wait for it any more
        self.hand(Box::new(move || _ = done.send(work())))?;
        answer.await.map_err(|error| StoreError::Ending(error.to_string()))
    }

    fn hand(&self, work: Work) -> Result<(), StoreError> {
        let mut thread = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match thread.take() {
            Some(sender) => sender,
            None => start()?,
        };
        let sent = sender.send(work).map_err(|error| StoreError::Ending(error.to_string()));
        *thread = Some(sender);
        sent
    }
}

fn start() -> Result<Sender<Work>, StoreError> {
    let (sender, receiver) = channel::<Work>();
    let started = std::thread::Builder::new().name("checkpoint".into()).spawn(move || {
        give_way();
        for work in receiver {
            // whoever has asked hears of a panic: there is no answer
            let _ = catch_unwind(AssertUnwindSafe(work));
        }
    });
    started.map(|_| sender).map_err(|error| StoreError::Ending(error.to_string()))
}

/// A third of what another thread gets where there are fewer processors than threads that have something to do, and not before one
/// that wakes up with a row. Not less: rows of exactly-once sinks wait for the end of a checkpoint.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn give_way() {
    const NICE: i32 = 5;
    // SAFETY: numbers go in, a number comes out. On Linux 0 is the calling thread, not its process.
    let refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } != 0;
    if refused {
        tracing::debug!("checkpoints are encoded at the priority of all else");
    }
}

/// Where a priority is that of the whole process there is none of its own.
#[cfg(not(target_os = "linux"))]
fn give_way() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_its_order_by_one_thread_also_after_a_panic() {
        let encoder = Encoder::default();
        let name = || std::thread::current().name().map(str::to_owned);
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |number: usize| {
            let order = Arc::clone(&order);
            encoder.run(move || {
                order.lock().unwrap().push(number);
                std::thread::current().id()
            })
        };
        let (first, second, third) = tokio::join!(note(1), note(2), note(3));
        assert_eq!(first.unwrap(), second.unwrap());
        third.unwrap();
        assert_eq!(*order.lock().unwrap(), [1, 2, 3]);
        assert!(encoder.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(encoder.run(name).await.unwrap().as_deref(), Some("checkpoint"));
    }
}
