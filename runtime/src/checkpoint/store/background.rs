//! The threads that make large state into bytes and bring it to a disk, in the background of those that have rows to see to.
//!
//! They are not the runtime's: those for blocking calls are many, up to one for each file that is on its way, and of the same
//! priority as the ones that rows wait for. On two processors that was seen as 100 to 300 ms in which no row moved. These are few, and
//! give way to all others. Stores on other machines are written to by the runtime that has their connections. The threads
//! end with the last store that knows them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use super::StoreError;

/// Files that are written to a disk at once, beside the one piece of state that is made into bytes: enough to have something to do
/// while the disk is waited for.
const WRITERS: usize = 3;

/// Work on large state. The threads are started with the first. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Background {
    threads: Arc<Mutex<Option<Threads>>>,
    /// one piece at a time, whatever the number of tasks, since rows need the other processors
    encoding: Arc<Semaphore>,
}

impl Default for Background {
    fn default() -> Self {
        Self { threads: Arc::default(), encoding: Arc::new(Semaphore::new(1)) }
    }
}

impl Background {
    /// Does what needs a processor, after what came before.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.encoding).acquire_owned().await.map_err(ending)?;
        // a panic is told to whoever has asked, not by the thread
        let done = self.threads()?.spawn_blocking(move || {
            let done = catch_unwind(AssertUnwindSafe(work));
            drop(turn);
            done.ok()
        });
        done.await.map_err(ending)?.ok_or_else(|| StoreError::Ending("it has panicked".to_owned()))
    }

    /// Does what waits for a disk: the blocking calls of `work` are made by these threads. It does not outlive whoever waits for it, and
    /// with that the hold on the store, by more than the call that is being made.
    pub(super) async fn wait_for<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = self.threads()?.spawn(work);
        let _ended = EndedWith(done.abort_handle());
        done.await.map_err(ending)
    }

    fn threads(&self) -> Result<tokio::runtime::Handle, StoreError> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let started = match threads.take() {
            Some(started) => started,
            None => Threads::start()?,
        };
        let handle = started.0.as_ref().map(|runtime| runtime.handle().clone());
        *threads = Some(started);
        handle.ok_or_else(|| StoreError::Ending("it has ended".to_owned()))
    }
}

/// Work that ends when this is dropped.
struct EndedWith(tokio::task::AbortHandle);

impl Drop for EndedWith {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn ending(error: impl std::fmt::Display) -> StoreError {
    StoreError::Ending(error.to_string())
}

/// A runtime that may be dropped where others run.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn start() -> Result<Self, StoreError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1 + WRITERS)
            .thread_name("checkpoint")
            .on_thread_start(give_way)
            .build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(ending)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // a file that is half written appears nowhere
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A third of what another thread gets where there are fewer processors than threads that have something to do, in turns of
/// a tenth of a millisecond: a thread that wakes up with a row waits no longer than that. Not less: rows of exactly-once sinks wait
/// for the end of a checkpoint.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn give_way() {
    const NICE: i32 = 5;
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>().try_into().unwrap_or_default(),
        sched_policy: libc::SCHED_OTHER.unsigned_abs(),
        sched_flags: 0,
        sched_nice: NICE,
        sched_priority: 0,
        // the length of a turn, ns, from Linux 6.12 on, which takes no less; before that it is left alone
        sched_runtime: 100_000,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a value that lives until the call returns. 0 is the calling thread.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if refused {
        tracing::debug!("checkpoints are written at the priority of all else");
    }
}

/// Where a priority is that of the whole process there is none of its own.
#[cfg(not(target_os = "linux"))]
fn give_way() {}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Option<String> {
        std::thread::current().name().map(str::to_owned)
    }

    #[tokio::test]
    async fn pieces_are_made_in_their_order_one_at_a_time_also_after_a_panic() {
        let background = Background::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |number: usize| {
            let order = Arc::clone(&order);
            background.run(move || {
                let mut order = order.try_lock().expect("two at once");
                std::thread::sleep(std::time::Duration::from_millis(5));
                order.push(number);
            })
        };
        let (first, second, third) = tokio::join!(note(1), note(2), note(3));
        first.and(second).and(third).unwrap();
        assert_eq!(*order.lock().unwrap(), [1, 2, 3]);
        assert!(background.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(background.run(name).await.unwrap().as_deref(), Some("checkpoint"));
    }

    #[tokio::test]
    async fn blocking_calls_are_made_by_the_same_threads_which_give_way() {
        let background = Background::default();
        let made = background.wait_for(async {
            let there = tokio::task::spawn_blocking(|| {
                // SAFETY: numbers go in, a number comes out
                #[allow(unsafe_code)]
                let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
                (name(), nice)
            });
            there.await.unwrap()
        });
        let (name, nice) = made.await.unwrap();
        assert_eq!(name.as_deref(), Some("checkpoint"));
        assert!(cfg!(not(target_os = "linux")) || nice >= 5, "{nice}");
        // not from within a thread that may not wait
        drop(background);
    }
}
