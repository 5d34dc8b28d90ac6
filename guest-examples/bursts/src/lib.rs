//! Process: counts the rows of a key that follow each other within a second, and says when there was a pause. The same in C
//! and in Go: `bursts-c`, `bursts-go`.

use millstream_sdk::{Context, Process, Row, Timer};

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Value {
    pub v: i64,
}

/// The burst so far.
#[derive(Clone, Debug, Row)]
pub struct Burst {
    pub n: i64,
    pub sum: i64,
    pub until: i64,
}

/// What comes out for each row, and once more when the burst is over.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Told {
    pub n: i64,
    pub sum: i64,
    pub over: bool,
}

/// How long a burst goes on without rows, ms.
const PAUSE_MS: i64 = 1_000;

#[derive(Default)]
pub struct Bursts;

#[millstream_sdk::process]
impl Process for Bursts {
    type Input<'a> = Value;
    type State = Burst;
    type Output = Told;

    fn on_row(&self, row: Value, state: &mut Option<Burst>, context: &mut Context<Self>) -> Result<(), String> {
        if row.v < 0 {
            return Err("v is negative".to_owned());
        }
        let until = context.time() + PAUSE_MS;
        let burst = state.get_or_insert(Burst { n: 0, sum: 0, until });
        context.delete_timer(burst.until);
        *burst = Burst { n: burst.n + 1, sum: burst.sum + row.v, until };
        context.set_timer(until);
        context.emit(Told { n: burst.n, sum: burst.sum, over: false });
        Ok(())
    }

    fn on_timer(&self, _timer: Timer, state: &mut Option<Burst>, context: &mut Context<Self>) {
        if let Some(Burst { n, sum, .. }) = state.take() {
            context.emit(Told { n, sum, over: true });
        }
    }
}
