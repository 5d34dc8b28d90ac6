//! Where rows go.

mod spec;

pub use spec::{KafkaSinkSpec, SinkKind};
