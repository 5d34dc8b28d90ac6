//! Every bound in one place, with its why. What users may set starts from these.

use std::time::Duration;

/// Rows in a full batch. The gain from larger ones is under 10 %, and 8,192 rows of 100 bytes stay in the L2 cache.
pub const BATCH_ROWS: usize = 8_192;

/// Bytes at which a source cuts a batch though it has fewer rows: large records must not make giant batches.
pub const BATCH_BYTES: usize = 4 << 20;

/// Rows that an operator puts out before they leave its task, when a watermark or the clock makes many due at once: as many
/// batches as a channel holds. It goes on when they have left, so a slow reader bounds what is held.
pub const ROWS_AT_ONCE: usize = 65_536;

/// Below this many rows a receiver joins what already waits in its channel before it works on it.
pub const COALESCE_BELOW_ROWS: usize = 1_024;

/// Batches that a channel between two tasks holds. Backpressure is a full channel.
pub const CHANNEL_BATCHES: usize = 8;

/// Largest record that a framed input accepts. A longer line or length prefix is a bad record, not an allocation.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Bytes of unfinished records that all connections of a TCP source may hold. Beyond it one that holds more than its even
/// share is closed.
pub const TCP_HELD_BYTES_MAX: usize = 64 << 20;

/// How long a sender may be silent in the middle of a record before its connection is closed.
pub const TCP_SILENCE_MAX: Duration = Duration::from_secs(60);

/// Key groups of a pipeline: the unit in which keyed state is spread over tasks, and so the largest parallelism.
pub const KEY_GROUPS: u32 = 128;

/// Rows of state that a task hands over at once to be migrated while it goes on: under a millisecond of its time.
pub const SWEEP_ROWS: usize = BATCH_ROWS;

/// What a row of state is expected to cost that is migrated at the cut, ns, before any was: reading, migrating and taking over. An
/// assumption for keys of one number and accumulators of a few; the first migration of a pipeline puts its own figure in its place.
pub const MIGRATED_ROW_NS: f64 = 1_500.0;

/// Between two pieces of state that are migrated ahead once all has been: what changes in between is left for the cut.
pub const SWEEP_PAUSE: Duration = Duration::from_millis(5);

/// How long a migration that has seen all state tries to keep up with what changes, before what is left is migrated at
/// the cut however much it is.
pub const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// How long state may be migrated ahead of the cut at all. Meanwhile no other change can be made, and no key is forgotten.
pub const SWEEP_LONGEST: Duration = Duration::from_secs(600);

/// Memory of one guest instance unless the step says otherwise.
pub const GUEST_MEMORY_BYTES: usize = 64 << 20;

/// Time for one call into a guest unless the step says otherwise.
pub const GUEST_DEADLINE: Duration = Duration::from_secs(1);

/// Calls that may overrun their deadline for one batch before the pipeline stops: a version that loops on every row
/// would hold its task for hours while the rows at fault are looked for one by one.
pub const DEADLINES_PER_BATCH: usize = 64;

/// How often the epoch advances: the precision of a guest's deadline.
pub const EPOCH_TICK: Duration = Duration::from_millis(5);

/// Rows that one `expand` call may return.
pub const EXPANSION_ROWS_MAX: usize = 1 << 20;

/// Rows of one window and key that a window-processor is handed in one call: more are counted, and not kept.
pub const WINDOW_ROWS_MAX: usize = 1 << 20;

/// Timers that one task of a processor may hold: some 100 bytes each.
pub const TIMERS_PER_TASK: usize = 1 << 24;

/// Timers that timers may set and that are due at once, at one watermark: more is a timer that sets itself without end.
pub const TIMERS_CHAINED: usize = 1 << 20;

/// As many more for each key.
pub const TIMERS_CHAINED_PER_KEY: usize = 64;

/// How often a call is repeated because the guest asked for it.
pub const GUEST_RETRIES: u32 = 3;

/// Bytes kept of a guest's log line.
pub const GUEST_LOG_BYTES: usize = 8 << 10;

/// Bytes kept of a reason that a guest gives for a failure.
pub const GUEST_REASON_BYTES: usize = 4 << 10;

/// Names of counters and gauges that one step may make.
pub const GUEST_METRIC_NAMES: usize = 64;

/// Bytes of a counter's or gauge's name.
pub const GUEST_METRIC_NAME_BYTES: usize = 64;

/// Size of a component file. Python's are 18 MB, JavaScript's 12.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;

/// Counted windows that a row can be in at once: each is folded by itself.
pub const COUNTED_WINDOWS_AT_ONCE: u64 = 1_000;

/// Bytes of compiled components that are kept on disk.
pub const COMPILED_BYTES_MAX: u64 = 1 << 30;
