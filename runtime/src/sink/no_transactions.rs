//! What a build without Kafka has in place of transactions: nothing, so that none can be opened.

use super::{CommittedEpoch, HeldPartition, SinkError, TransactionSpec};

/// There are none.
#[derive(Clone, Debug)]
pub enum Transactions {}

#[allow(clippy::unused_async, missing_docs)] // as the real one
impl Transactions {
    pub async fn open(_spec: TransactionSpec) -> Result<Self, SinkError> {
        Err(SinkError::NotBuilt { sink_name: "kafka".to_owned(), feature: "kafka" })
    }

    pub fn transactional_id(&self) -> &str {
        match *self {}
    }

    pub async fn committed(&self) -> Result<Option<CommittedEpoch>, SinkError> {
        match *self {}
    }

    pub async fn held(&self) -> Result<Vec<HeldPartition>, SinkError> {
        match *self {}
    }

    pub async fn abort_again(&self, _partitions: Vec<(String, i32)>) -> Result<(), SinkError> {
        match *self {}
    }

    pub fn begin(&self, _epoch: u64) -> Result<(), SinkError> {
        match *self {}
    }

    pub async fn mark(&self, _epoch: u64, _attempt: &str) -> Result<(), SinkError> {
        match *self {}
    }

    pub async fn drained(&self) -> Result<(), SinkError> {
        match *self {}
    }

    pub async fn commit(&self, _epoch: u64) -> Result<(), SinkError> {
        match *self {}
    }

    pub async fn abort(&self) {
        match *self {}
    }
}
