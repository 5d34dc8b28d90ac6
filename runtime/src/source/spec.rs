//! Sources as written in a pipeline.

use std::time::Duration;

use super::ChannelSource;
pub use crate::format::Framing;
use crate::kafka::KafkaSecurity;

/// Where records come from.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// `generator = { .. }`
    Generator(GeneratorSpec),
    /// `file = { path = "..", header = true }`; a path or glob, relative to the pipeline file; ends at the end of the
    /// file(s)
    File {
        /// path or glob
        path: String,
        /// whether the first line of every file is a header that is skipped; csv only; false by default
        header: bool,
    },
    /// `stdin = {}`
    Stdin,
    /// `tcp = { listen = "127.0.0.1:7000", framing = "lines" }`: accepts any number of connections, never ends
    /// unless `connections` have come and gone
    Tcp {
        /// address to listen on
        listen: String,
        /// how records are told apart
        framing: Framing,
        /// ends after this many connections have closed; `None` never ends
        connections: Option<u64>,
    },
    /// `kafka = { brokers, topic, .. }`
    Kafka(KafkaSourceSpec),
    /// from code in this process; pipeline files cannot name it
    Channel(ChannelSource),
}

/// `kafka = { .. }` of a source
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSourceSpec {
    /// `brokers`: host:port, comma separated
    pub brokers: String,
    /// `topic`
    pub topic: String,
    /// `start = "earliest" | "latest"`; earliest by default
    pub start: KafkaStart,
    /// `until = "end"`: bounded, stops at the offsets that were the end at start
    pub bounded: bool,
    /// `discover`: how often to look for partitions that were added to the topic; never where `until = "end"`
    pub discover: Duration,
    /// `tls`, `sasl`
    pub security: KafkaSecurity,
    /// `properties = { "fetch.min.bytes" = 1024 }`: handed to librdkafka
    pub properties: Vec<(String, String)>,
}

/// `discover` where a pipeline does not say.
pub const KAFKA_DISCOVER: Duration = Duration::from_secs(30);

/// Where a Kafka source starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaStart {
    /// first record that the broker still has
    #[default]
    Earliest,
    /// only what comes from now on
    Latest,
}

/// `generator = { .. }`: rows made on the spot, the same for the same seed.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorSpec {
    /// `kind`
    pub kind: GeneratorKind,
    /// `rows`: ends after so many; `None` never ends
    pub rows: Option<u64>,
    /// `rate`: rows a second over all tasks; `None` as fast as they are taken
    pub rate: Option<u64>,
    /// `seed`
    pub seed: u64,
    /// `start`: event time of the first row, ms
    pub start_ms: i64,
    /// `interval` between the event times of two rows, in nanoseconds; with `rate` and no interval, 1 s / rate
    pub interval_ns: Option<u64>,
}

/// What the generator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratorKind {
    /// `sequence`: key int64 (uniform in 0..keys), amount int64 (0..1000), sequence int64, at timestamp_ms
    Sequence {
        /// number of different keys
        keys: u64,
    },
    /// `customers`: customer text, event text (page_view, add_to_cart, order), page text, amount float64, at timestamp_ms
    Customers {
        /// number of different customers
        keys: u64,
    },
    /// `nexmark_person`, `nexmark_auction`, `nexmark_bid`: the streams of the Nexmark benchmark
    Nexmark(NexmarkStream),
}

/// A stream of the Nexmark benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NexmarkStream {
    /// sellers and bidders
    Person,
    /// what they sell
    Auction,
    /// what they bid for it
    Bid,
}

/// `watermark = { max_out_of_orderness = "2s", idle_after = "10s", max_drift = "30s" }`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatermarkSpec {
    /// how far behind the latest row a row may still come; 0 by default
    pub max_out_of_orderness: Duration,
    /// after how long without rows, while it was asked for some, a partition no longer holds the watermark back; never by
    /// default
    pub idle_after: Option<Duration>,
    /// `max_drift`: how far a task may be ahead of the slowest among the sources that have this key; any by default
    pub max_drift: Option<Duration>,
}
