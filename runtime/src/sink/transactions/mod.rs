//! One transactional producer for all Kafka sinks of a pipeline: an epoch's records, whichever task wrote them to whichever
//! topic, and the marker that names the epoch become visible at once or never.
//!
//! ```text
//!   open      connect, shut out older processes, end what they left open
//!   begin     sinks write; those that have passed the barrier before others wait here for the next epoch
//!   mark      the marker joins the records
//!   drained   all of it has arrived
//!   commit    the decision: the broker's answer, and after a crash its marker, is the only truth
//! ```
//!
//! The rows that a task has after a barrier must not join the transaction that ends there. Tasks wait, and with them, over
//! bounded channels, the pipeline: a commit takes milliseconds, and a second transaction beside the first would
//! need a second producer, with no common decision.
//!
//! An error never says that an epoch was not committed: whoever gets one reads the marker again, at the next start.

mod held;
mod markers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaError};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::watch;

use super::kafka::{self, Deliveries};
use super::{CommittedEpoch, HeldPartition, SinkError, TransactionSpec};
use crate::clock::Stopwatch;
use crate::kafka::partitions_of;

/// One call to the broker.
const CALL: Duration = Duration::from_secs(10);

/// How long a start waits for the broker to end what an older process left open.
const START_WITHIN: Duration = Duration::from_secs(120);

/// Beyond the transaction's own timeout nothing can be committed any more.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(30);

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The header that says which epoch of which pipeline a record belongs to.
pub(super) const EPOCH_HEADER: &str = "millstream-epoch";

/// The producer and its state. Cheap to clone.
#[derive(Clone)]
pub struct Transactions {
    shared: Arc<Shared>,
}

struct Shared {
    spec: TransactionSpec,
    brokers: String,
    producer: Arc<ThreadedProducer<Deliveries>>,
    /// for clients beside the producer
    config: ClientConfig,
    /// where the markers are
    markers: String,
    /// partitions of the sinks' topics
    partitions: Vec<(String, i32)>,
    /// the epoch whose transaction is open, or was the last to be
    epoch: watch::Sender<Open>,
}

/// The transaction that sinks write into.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    epoch: u64,
    /// it has not been committed or aborted
    is_open: bool,
    since: Option<Stopwatch>,
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("transactional_id", &self.shared.spec.transactional_id).finish()
    }
}

/// What a failed call asks for.
enum Asks {
    Again,
    Abort,
    Exit,
}

fn asks(error: &RDKafkaError) -> Asks {
    if error.is_fatal() {
        Asks::Exit
    } else if error.txn_requires_abort() {
        Asks::Abort
    } else if error.is_retriable() {
        Asks::Again
    } else {
        Asks::Exit
    }
}

impl Transactions {
    /// Connects, makes the topic of markers if it is not there, shuts out all processes that used the id before, and has
    /// the broker end what they left open.
    pub async fn open(spec: TransactionSpec) -> Result<Self, SinkError> {
        let opened = tokio::task::spawn_blocking(move || Shared::open(spec)).await;
        let shared = opened.unwrap_or_else(|error| Err(SinkError::Ended { reason: error.to_string() }))?;
        markers::make_topic(&shared).await.map_err(|reason| shared.error(reason))?;
        let this = Self { shared: Arc::new(shared) };
        this.blocking(|shared| shared.init()).await?;
        Ok(this)
    }

    /// Under which id.
    pub fn transactional_id(&self) -> &str {
        &self.shared.spec.transactional_id
    }

    /// The last epoch that was committed; none if none was.
    pub async fn committed(&self) -> Result<Option<CommittedEpoch>, SinkError> {
        self.blocking(|shared| markers::read(shared).map_err(|reason| shared.error(reason))).await
    }

    /// Partitions that hold records back though no transaction of ours is open.
    pub async fn held(&self) -> Result<Vec<HeldPartition>, SinkError> {
        self.blocking(|shared| held::find(shared).map_err(|reason| shared.error(reason))).await
    }

    /// Aborts a transaction in these partitions, which ends there what was aborted before.
    pub async fn abort_again(&self, partitions: Vec<(String, i32)>) -> Result<(), SinkError> {
        self.blocking(move |shared| held::abort_again(shared, &partitions).map_err(|reason| shared.error(reason))).await
    }

    /// Begins the transaction of an epoch: sinks write.
    pub fn begin(&self, epoch: u64) -> Result<(), SinkError> {
        self.shared.producer.begin_transaction().map_err(|error| self.shared.failed("begin", epoch, &error))?;
        self.shared.epoch.send_replace(Open { epoch, is_open: true, since: Some(Stopwatch::start()) });
        Ok(())
    }

    /// Adds the marker of the epoch that is open. All its records have been handed over.
    pub async fn mark(&self, epoch: u64, attempt: &str) -> Result<(), SinkError> {
        let committed = CommittedEpoch { epoch, attempt: attempt.to_owned() };
        while !markers::send(&self.shared, &committed).map_err(|error| self.shared.failed("write to", epoch, &error))? {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        Ok(())
    }

    /// Returns once all records and the marker have arrived.
    pub async fn drained(&self) -> Result<(), SinkError> {
        while self.shared.producer.in_flight_count() > 0 {
            self.shared.check()?;
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        self.shared.check()
    }

    /// Commits. On success the epoch has happened; on failure only the marker knows.
    pub async fn commit(&self, epoch: u64) -> Result<(), SinkError> {
        self.blocking(move |shared| shared.commit(epoch)).await
    }

    /// Gives the transaction that is open up, if there is one.
    pub async fn abort(&self) {
        let _: Result<(), SinkError> = self.blocking(|shared| shared.abort()).await;
    }

    /// Returns once the transaction of `epoch` is open.
    pub(super) async fn wait_for(&self, epoch: u64) {
        let mut open = self.shared.epoch.subscribe();
        // the sender lives as long as `self`
        let _ = open.wait_for(|open| open.epoch >= epoch).await;
    }

    /// Whether all is well with the producer and what it has sent.
    pub(super) fn check(&self) -> Result<(), SinkError> {
        self.shared.check()
    }

    /// What to tell of a record that the producer did not take.
    pub(super) fn not_sent(&self, epoch: u64, error: &KafkaError) -> SinkError {
        self.shared.failed("write to", epoch, error)
    }

    pub(super) fn producer(&self) -> Arc<ThreadedProducer<Deliveries>> {
        Arc::clone(&self.shared.producer)
    }

    /// How many partitions a sink's topic had at the start.
    pub(super) fn partitions_of(&self, topic: &str) -> usize {
        self.shared.partitions.iter().filter(|(of, _)| of == topic).count()
    }

    /// The header of an epoch's records.
    pub(super) fn header(&self, epoch: u64) -> OwnedHeaders {
        held::header(&self.shared.spec.transactional_id, epoch)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Shared) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || call(&shared)).await;
        done.unwrap_or_else(|error| Err(SinkError::Ended { reason: error.to_string() }))
    }
}

impl Shared {
    fn open(spec: TransactionSpec) -> Result<Self, SinkError> {
        let id = spec.transactional_id.clone();
        let brokers = spec.sinks.first().map(|sink| sink.brokers.clone()).unwrap_or_default();
        let failed =
            |reason| SinkError::Transactions { transactional_id: id.clone(), brokers: brokers.clone(), reason };
        let Some(first) = spec.sinks.first() else { return Err(failed("there is no Kafka sink".to_owned())) };
        let name = format!("transactions `{id}`");
        let mut config = kafka::config(first, &spec.base, &name)?;
        let mut readers = config.clone();
        readers.set_log_level(RDKafkaLogLevel::Error);
        let timeout_ms = spec.timeout.as_millis().to_string();
        config.set("transactional.id", &id).set("transaction.timeout.ms", &timeout_ms);
        config.set("retry.backoff.ms", "5").set("retry.backoff.max.ms", "100");
        let producer: ThreadedProducer<Deliveries> =
            config.create_with_context(Deliveries::new(name)).map_err(|error| failed(error.to_string()))?;
        let mut partitions = Vec::new();
        for sink in &spec.sinks {
            let of_topic = partitions_of(producer.client(), &producer.context().log, || (), &sink.topic)
                .map_err(|reason| failed(format!("topic `{}`: {reason}", sink.topic)))?;
            partitions.extend(of_topic.into_iter().map(|partition| (sink.topic.clone(), partition)));
        }
        partitions.sort_unstable();
        partitions.dedup();
        let markers = markers::topic(&id);
        let (producer, epoch) = (Arc::new(producer), watch::Sender::new(Open::default()));
        Ok(Self { brokers, producer, config: readers, markers, partitions, epoch, spec })
    }

    fn init(&self) -> Result<(), SinkError> {
        let watch = Stopwatch::start();
        loop {
            let error = match self.producer.init_transactions(Duration::from_secs(30)) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let again = matches!(&error, KafkaError::Transaction(error) if matches!(asks(error), Asks::Again));
            if !again || watch.elapsed() > START_WITHIN {
                let timeout = error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTransactionTimeout);
                let help = if timeout {
                    "; `transaction_timeout` is longer than the broker's `transaction.max.timeout.ms`"
                } else {
                    ""
                };
                return Err(self.error(format!("the broker does not begin with transactions: {error}{help}")));
            }
            std::thread::sleep(ASK_AGAIN_AFTER);
        }
    }

    /// A record that was not delivered, or a producer that was shut out.
    fn check(&self) -> Result<(), SinkError> {
        let epoch = self.epoch.borrow().epoch;
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            return Err(self.shut_out(epoch, &format!("{reason} ({code})")));
        }
        match self.producer.context().failure() {
            Some(reason) => Err(self.given_up(epoch, &reason)),
            None => Ok(()),
        }
    }

    fn commit(&self, epoch: u64) -> Result<(), SinkError> {
        let watch = Stopwatch::start();
        loop {
            let error = match self.producer.commit_transaction(CALL) {
                Ok(()) => {
                    self.epoch.send_modify(|open| open.is_open = false);
                    return Ok(());
                }
                Err(error) => error,
            };
            let again = match &error {
                KafkaError::Transaction(error) => matches!(asks(error), Asks::Again),
                KafkaError::Flush(_) => true,
                _ => false,
            };
            if !again || watch.elapsed() > self.spec.timeout + BEYOND_TIMEOUT {
                return Err(self.failed("commit", epoch, &error));
            }
            tracing::warn!(epoch, %error, "a transaction is not committed yet; trying again");
            std::thread::sleep(ASK_AGAIN_AFTER);
        }
    }

    fn abort(&self) -> Result<(), SinkError> {
        let open = *self.epoch.borrow();
        if !open.is_open || self.producer.client().fatal_error().is_some() {
            return Ok(());
        }
        self.epoch.send_modify(|open| open.is_open = false);
        let watch = Stopwatch::start();
        while let Err(error) = self.producer.abort_transaction(CALL) {
            let again = matches!(&error, KafkaError::Transaction(error) if matches!(asks(error), Asks::Again));
            if !again || watch.elapsed() > CALL {
                return Err(self.failed("abort", open.epoch, &error));
            }
            std::thread::sleep(ASK_AGAIN_AFTER);
        }
        Ok(())
    }

    fn error(&self, reason: String) -> SinkError {
        let transactional_id = self.spec.transactional_id.clone();
        SinkError::Transactions { transactional_id, brokers: self.brokers.clone(), reason }
    }

    /// What to tell of a call on the open transaction that failed.
    fn failed(&self, action: &str, epoch: u64, error: &KafkaError) -> SinkError {
        let fatal = self.producer.client().fatal_error();
        let exits = match error {
            KafkaError::Transaction(error) => matches!(asks(error), Asks::Exit) && fatal.is_some(),
            _ => fatal.is_some(),
        };
        let reason = format!("cannot {action} it: {error}");
        if exits { self.shut_out(epoch, &reason) } else { self.given_up(epoch, &reason) }
    }

    fn shut_out(&self, epoch: u64, reason: &str) -> SinkError {
        SinkError::ShutOut {
            transactional_id: self.spec.transactional_id.clone(),
            epoch,
            timeout: self.spec.timeout,
            open_for: self.open_for(),
            reason: reason.to_owned(),
        }
    }

    fn given_up(&self, epoch: u64, reason: &str) -> SinkError {
        let transactional_id = self.spec.transactional_id.clone();
        SinkError::GivenUp { transactional_id, epoch, open_for: self.open_for(), reason: reason.to_owned() }
    }

    fn open_for(&self) -> Duration {
        self.epoch.borrow().since.map(|since| since.elapsed()).unwrap_or_default()
    }
}
