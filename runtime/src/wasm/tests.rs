//! Honest and hostile guests, from one template in text form.

mod calls;
mod hostile;
mod load;
mod template;
mod witness;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};

use self::template::Wat;
use super::{Guest, GuestOptions, OperatorKind, Sandbox, SandboxOptions};
use crate::record::{Field, Kind, Schema};

fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new(SandboxOptions { cache: None, instances_max: 100 }).unwrap())
}

/// Bounds small enough to reach, large enough for a busy machine.
fn options() -> GuestOptions {
    GuestOptions { memory_bytes: 4 << 20, deadline: Duration::from_secs(10), ..GuestOptions::new("step") }
}

fn guest_with(kind: OperatorKind, wat: &Wat, options: GuestOptions) -> Guest {
    let component = sandbox().load_bytes("test", &wat.bytes()).unwrap();
    component.guest(kind, options).unwrap()
}

fn guest(kind: OperatorKind, wat: &Wat) -> Guest {
    guest_with(kind, wat, options())
}

fn field(name: &str, kind: Kind) -> Field {
    Field::new(name, kind)
}

fn record_batch(fields: &[Field], rows: usize, columns: Vec<ArrayRef>) -> RecordBatch {
    let schema = Schema::new(fields.to_vec());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema.arrow()), columns, &options).unwrap()
}
