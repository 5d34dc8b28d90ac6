//! What a sweep notes, against a model that looks at everything; and what it leaves in the scratch store.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, Stopwatch};
use crate::operator::process_state::blank;
use crate::operator::spilled_keys::{generation_end, generation_place};
use crate::operator::{OnError, Operator, Output, ProcessSpec, ProcessStep, Replacement};
use crate::record::{Batch, Field, Kind};
use crate::spill::{Area, testing};
use crate::state::cells::{self, Cell};
use crate::wasm::{Component, Guest, GuestOptions, OperatorKind, Sandbox, SandboxOptions};

/// State by slot, and what has been made of it by pieces.
struct Model {
    values: Chunked<Option<i64>>,
    slots: u32,
    swept: Swept,
    made: Vec<Option<i64>>,
}

#[derive(Clone, Debug)]
enum Turn {
    Write(u32, i64),
    Clear(u32),
    /// keys whose slots give this remainder of three are forgotten
    Forget(u32),
    Piece(usize),
}

impl Model {
    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Write(slot, value) => {
                let slot = slot.min(self.slots);
                self.slots = self.slots.max(slot + 1);
                self.swept.touch(&[slot]);
                self.values.set(slot, Some(value));
            }
            Turn::Clear(slot) if slot < self.slots => {
                self.swept.touch(&[slot]);
                self.values.set(slot, None);
            }
            Turn::Clear(_) => {}
            Turn::Forget(of_three) => {
                let kept = (0..self.slots).filter(|slot| slot % 3 != of_three);
                let moves: Vec<(u32, u32)> = kept.zip(0..).collect();
                self.swept.renumber(&moves);
                self.values.renumber(&moves);
                self.slots = moves.len() as u32;
            }
            Turn::Piece(most) => drop(self.piece(most)),
        }
    }

    /// How many slots are in it.
    fn piece(&mut self, most: usize) -> usize {
        let schema = Schema::new([Field::new("unused", Kind::Int64)]);
        let columns = Columns::new(&schema, &blank(&schema).unwrap()).unwrap();
        let values = Values::Keyed { written: &self.values, columns: &columns };
        let mut slots = self.swept.first(values, most);
        slots.extend(self.swept.again(most - slots.len()));
        for moves in self.swept.moves.drain(..) {
            let old = std::mem::take(&mut self.made);
            let moved = moves.iter().map(|(from, _)| old.get(*from as usize).copied().flatten());
            self.made = moved.collect();
        }
        for slot in &slots {
            self.made.resize(self.made.len().max(*slot as usize + 1), None);
            self.made[*slot as usize] = self.values.get(*slot).copied().flatten();
        }
        slots.len()
    }
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => (0..60u32, 0..1_000i64).prop_map(|(slot, value)| Turn::Write(slot, value)),
        2 => (0..60u32).prop_map(Turn::Clear),
        1 => (0..3u32).prop_map(Turn::Forget),
        3 => (1..9usize).prop_map(Turn::Piece),
    ]
}

proptest! {
    #[test]
    fn pieces_make_all_that_there_is_whatever_changes_or_is_renumbered_meanwhile(turns in prop::collection::vec(turn(), 1..120)) {
        let (values, made) = (Chunked::new(None), Vec::new());
        let mut model = Model { values, slots: 0, swept: Swept::default(), made };
        turns.into_iter().for_each(|turn| model.turn(turn));
        while model.piece(5) == 5 || !model.swept.has_seen_all() {}
        prop_assert_eq!(model.piece(100), 0);
        for slot in 0..model.slots {
            let made = model.made.get(slot as usize).copied().flatten();
            prop_assert_eq!(made, model.values.get(slot).copied().flatten());
        }
    }
}

fn guest(name: &str) -> Guest {
    // the sandbox measures deadlines for as long as it lives
    static SANDBOX: std::sync::OnceLock<Sandbox> = std::sync::OnceLock::new();
    let sandbox = SANDBOX.get_or_init(|| Sandbox::new(SandboxOptions { cache: None, instances_max: 100 }).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/guests/{name}.wasm"));
    let component: Component = sandbox.load(&path).expect("run `cargo xtask guests` first");
    component.guest(OperatorKind::Processor, GuestOptions::new("step")).unwrap()
}

fn in_store(area: &Area, generation: u16) -> usize {
    area.range(&generation_place(generation, &[]), &generation_end(generation)).count()
}

fn until(what: &str, is: impl Fn() -> bool) {
    let watch = Stopwatch::start();
    while !is() {
        assert!(watch.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Hands all over.
fn made(step: &mut ProcessStep) -> Made {
    let from = guest("version-process").signature().state.clone().unwrap();
    let kept = step.kept_columns(0).unwrap();
    let mut made = Made::new(vec![Migration { slot: 0, kept, from, guest: guest("migrate-process-2") }]).unwrap();
    let kept = made.kept();
    loop {
        let piece = step.sweeping().unwrap().piece(&kept, 1_000).unwrap();
        if !made.needs(&piece) {
            return made;
        }
        made.take_in(piece).unwrap();
    }
}

#[test]
fn rows_of_the_version_that_does_not_run_leave_the_scratch_store() {
    let input = Schema::new([Field::new("key", Kind::Int64), Field::new("sequence", Kind::Int64)]);
    let spill = testing::spill(100_000);
    let area = spill.area.clone();
    let (clock, spill) = (Clock::virtual_at_ms(0), Some(spill));
    let (inputs, keys, sides) = (vec![input.clone()], vec![vec![0]], vec![None]);
    let spec = ProcessSpec { inputs, keys, sides, state_ttl: None, on_error: OnError::Fail, clock, spill };
    let mut step = ProcessStep::new(guest("version-process"), spec).unwrap();
    for from in (0..10_000).step_by(500) {
        let rows: Vec<Vec<Cell>> = (from..from + 500).map(|key| vec![Cell::Int(key), Cell::Int(0)]).collect();
        let rows = Batch::new(cells::batch(&input, &rows), vec![0; 500].into()).unwrap();
        step.on_batch(rows, &mut Output::default()).unwrap();
    }
    let spilled = in_store(&area, 0);
    assert!(spilled > 5_000, "{spilled} keys in the store");

    // given up
    let given_up = made(&mut step);
    assert_eq!(in_store(&area, 1), spilled);
    step.sweeping().unwrap().end();
    drop(given_up);
    until("what was made goes", || in_store(&area, 1) == 0);
    assert_eq!(in_store(&area, 0), spilled);

    // carried out, under another number
    let mut carried_out = made(&mut step);
    let replacement = Replacement { guest: guest("migrate-process-2"), inputs: vec![1] };
    let left = step.adopt(0, replacement, carried_out.take(0).unwrap()).unwrap();
    drop((left, carried_out));
    until("what was there before goes", || in_store(&area, 0) == 0);
    assert_eq!((in_store(&area, 1), in_store(&area, 2)), (0, spilled));
    let state = step.snapshot().unwrap().made().unwrap();
    assert_eq!(state.rows("state").iter().map(RecordBatch::num_rows).sum::<usize>(), 10_000);
}
