//! Where records come from: framed, decoded, with an event time a row and a watermark a partition.

mod spec;

pub use spec::{Framing, GeneratorKind, GeneratorSpec, KafkaSourceSpec, KafkaStart, SourceKind, WatermarkSpec};
