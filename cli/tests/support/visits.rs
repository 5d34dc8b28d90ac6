//! A pipeline without end: visits of customers, those who were interested, counted by segment and second.

use super::Folder;

/// `p.toml` with its components beside it: `segment.wasm` knows `large` and `small`, `finer.wasm`, which is not in use, also
/// `medium`. `rate` rows a second; `settings` stand before the source, `ends` are the sinks, `out` from `counts` among them.
pub fn visits(rate: u32, settings: &str, ends: &str) -> Folder {
    let folder = Folder::new();
    let pipeline = format!(
        r#"
name = "visits"
parallelism = 2
{settings}
[source.visits]
generator = {{ kind = "customers", rate = {rate}, seed = 7 }}
[step.interested]
from = "visits"
filter = "interested.wasm"
[step.segment]
from = "interested"
map = "segment.wasm"
[step.counts]
from = "segment"
key_by = ["segment"]
window = {{ tumbling = "1s" }}
aggregate = {{ visits = "count()" }}
{ends}
"#
    );
    folder
        .write("p.toml", pipeline)
        .install("interested.wasm", "interested.wasm")
        .install("segment.wasm", "segment.wasm")
        .install("segment-finer.wasm", "finer.wasm");
    folder
}

/// Counts are printed.
pub const PRINTED: &str = "[sink.out]\nfrom = \"counts\"\nprint = {}\n";
