//! What a sweep notes, against a model that looks at everything; and what it leaves in the scratch store.

use std::path::Path;
use std::time::Duration;

use arrow_select::concat::concat_batches;
use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, Stopwatch};
use crate::operator::process_state::blank;
use crate::operator::spilled_keys::{generation_end, generation_place, note_place, notes_end};
use crate::operator::spilled_runs::{run_place, runs_end};
use crate::operator::{
    AggregateCall, AggregateStep, GuestFold, OnError, Operator, Output, ProcessSpec, ProcessStep, Replacement,
    WindowAggregateSpec,
};
use crate::record::{Batch, Field, Kind, Watermark};
use crate::spill::{Area, testing};
use crate::state::Snapshot;
use crate::state::cells::{self, Cell};
use crate::wasm::{Component, Guest, GuestOptions, OperatorKind, Sandbox, SandboxOptions};
use crate::window::{Firing, Trigger, WindowSpec};

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
        if let Some(moves) = self.swept.moves.take() {
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

fn guest(name: &str, kind: OperatorKind) -> Guest {
    // the sandbox measures deadlines for as long as it lives
    static SANDBOX: std::sync::OnceLock<Sandbox> = std::sync::OnceLock::new();
    let sandbox = SANDBOX.get_or_init(|| Sandbox::new(SandboxOptions { cache: None, instances_max: 100 }).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/guests/{name}.wasm"));
    let component: Component = sandbox.load(&path).expect("run `cargo xtask guests` first");
    component.guest(kind, GuestOptions::new("step")).unwrap()
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

fn input() -> Schema {
    Schema::new([Field::new("key", Kind::Int64), Field::new("sequence", Kind::Int64)])
}

/// Rows of these keys, each with `value`, some at a time.
fn rows(step: &mut impl Operator, keys: std::ops::Range<i64>, value: i64, time: i64) {
    for from in keys.clone().step_by(500) {
        let rows = (from..keys.end.min(from + 500)).map(|key| vec![Cell::Int(key), Cell::Int(value)]);
        let rows: Vec<Vec<Cell>> = rows.collect();
        let batch = Batch::new(cells::batch(&input(), &rows), vec![time; rows.len()].into()).unwrap();
        step.on_batch(batch, &mut Output::default()).unwrap();
    }
}

/// All rows of a table.
fn whole(state: &Snapshot, table: &str) -> Vec<ArrayRef> {
    let rows = state.rows(table);
    concat_batches(&rows[0].schema(), rows).unwrap().columns().to_vec()
}

/// A processor with ten thousand keys, most of which are in the store.
fn processor(memory_bytes: usize) -> (ProcessStep, Area) {
    let spill = testing::spill(memory_bytes);
    let area = spill.area.clone();
    let (clock, spill) = (Clock::virtual_at_ms(0), Some(spill));
    let (inputs, keys, sides) = (vec![input()], vec![vec![0]], vec![None]);
    let spec = ProcessSpec { inputs, keys, sides, state_ttl: None, on_error: OnError::Fail, clock, spill };
    let mut step = ProcessStep::new(guest("version-process", OperatorKind::Processor), spec).unwrap();
    rows(&mut step, 0..10_000, 0, 0);
    (step, area)
}

fn of_processor(step: &ProcessStep) -> Migration {
    let from = guest("version-process", OperatorKind::Processor).signature().state.clone().unwrap();
    let guest = guest("migrate-process-2", OperatorKind::Processor);
    Migration { slot: 0, kept: step.kept_columns(0).unwrap(), from, guest }
}

/// Hands over until nothing is left.
fn hand_over(step: &mut impl Operator, made: &mut Made) {
    let kept = made.kept();
    loop {
        let piece = step.sweeping().unwrap().piece(&kept, 1_000).unwrap();
        if !made.needs(&piece) {
            return;
        }
        made.take_in(piece).unwrap();
    }
}

fn all_made(step: &mut impl Operator, migration: Migration) -> Made {
    let mut made = Made::new(vec![migration]).unwrap();
    hand_over(step, &mut made);
    made
}

#[test]
fn rows_of_the_version_that_does_not_run_leave_the_scratch_store() {
    let (mut step, area) = processor(100_000);
    let spilled = in_store(&area, 0);
    assert!(spilled > 5_000, "{spilled} keys in the store");

    // given up
    let migration = of_processor(&step);
    let given_up = all_made(&mut step, migration);
    assert_eq!(in_store(&area, 1), spilled);
    step.sweeping().unwrap().end();
    drop(given_up);
    until("what was made goes", || in_store(&area, 1) == 0);
    assert_eq!(in_store(&area, 0), spilled);

    // carried out, under another number
    let migration = of_processor(&step);
    let mut carried_out = all_made(&mut step, migration);
    let guest = guest("migrate-process-2", OperatorKind::Processor);
    let left = step.adopt(0, Replacement { guest, inputs: vec![1] }, carried_out.take(0).unwrap()).unwrap();
    drop((left, carried_out));
    until("what was there before goes", || in_store(&area, 0) == 0);
    assert_eq!((in_store(&area, 1), in_store(&area, 2)), (0, spilled));
    let state = step.snapshot().unwrap().made().unwrap();
    assert_eq!(state.rows("state").iter().map(RecordBatch::num_rows).sum::<usize>(), 10_000);
}

#[test]
fn what_is_noted_of_changes_in_the_store_takes_little_memory_however_much_changes() {
    const MEMORY_BYTES: usize = 100_000;
    let (mut step, area) = processor(MEMORY_BYTES);
    let migration = of_processor(&step);
    let mut made = all_made(&mut step, migration);
    let notes = || area.range(&note_place(1, &[]), &notes_end(1)).count();
    // nobody asks for a piece while all keys come back and leave again, some more often
    for keys in [0..10_000, 0..12_000, 3_000..8_000] {
        for from in keys.step_by(500) {
            rows(&mut step, from..from + 500, 1, 1);
            let bytes = step.sweeping().unwrap().spilled.unwrap().notes_bytes();
            assert!(bytes <= MEMORY_BYTES / 16, "{bytes} bytes of notes");
        }
    }
    assert!(notes() > 8_000, "{} notes in the store", notes());
    let state = step.snapshot().unwrap().made().unwrap();
    let expected = of_processor(&step).run(state).unwrap();
    hand_over(&mut step, &mut made);
    assert_eq!(notes(), 0);
    let guest = guest("migrate-process-2", OperatorKind::Processor);
    let left = step.adopt(0, Replacement { guest, inputs: vec![1] }, made.take(0).unwrap()).unwrap();
    drop((left, made));
    assert!(whole(&step.snapshot().unwrap().made().unwrap(), "state") == whole(&expected, "state"));
}

#[test]
fn notes_of_a_migration_that_is_given_up_leave_the_scratch_store() {
    let (mut step, area) = processor(100_000);
    let migration = of_processor(&step);
    let made = all_made(&mut step, migration);
    rows(&mut step, 0..10_000, 1, 1);
    let notes = || area.range(&note_place(1, &[]), &notes_end(1)).count();
    assert!(notes() > 5_000);
    step.sweeping().unwrap().end();
    drop(made);
    until("notes go", || notes() == 0 && in_store(&area, 1) == 0);
}

/// Sums of tumbling windows of a second, which spill.
fn sums(memory_bytes: usize) -> (AggregateStep, Area) {
    let spill = testing::spill(memory_bytes);
    let area = spill.area.clone();
    let guest = guest("migrate-sum-1", OperatorKind::Aggregator);
    let output = guest.signature().outputs.clone();
    let fold = GuestFold::new(guest, vec![1], output.clone(), OnError::Fail).unwrap();
    let spec = WindowAggregateSpec {
        input: input(),
        keys: vec![0],
        window: WindowSpec::Tumbling { size: Duration::from_secs(1), offset_ms: 0 },
        allowed_lateness: Duration::ZERO,
        late: false,
        gap: None,
        trigger: Trigger::End,
        firing: Firing::Accumulating,
        clock: Clock::virtual_at_ms(0),
        aggregates: vec![AggregateCall::Fold(Box::new(fold))],
        spill: Some(spill),
    };
    (AggregateStep::new(spec, OnError::Fail, vec![Some(output)]).unwrap(), area)
}

fn of_sums(step: &AggregateStep) -> Migration {
    let from = guest("migrate-sum-1", OperatorKind::Aggregator).signature().state.clone().unwrap();
    let guest = guest("migrate-sum-2", OperatorKind::Aggregator);
    Migration { slot: 0, kept: step.kept_columns(0).unwrap(), from, guest }
}

#[test]
fn runs_of_the_version_that_does_not_run_leave_the_scratch_store_and_those_of_windows_that_are_gone() {
    let (mut step, area) = sums(200_000);
    let in_store = |generation| area.range(&run_place(generation, None), &runs_end(generation)).count();
    // the first window spills alone, then both, then the second
    rows(&mut step, 0..5_000, 1, 0);
    (0..3).for_each(|_| [0, 1_000].into_iter().for_each(|time| rows(&mut step, 0..5_000, 1, time)));
    rows(&mut step, 0..5_000, 1, 1_500);
    let spilled = in_store(0);
    assert!(spilled > 3_000, "{spilled} values in the store");

    let migration = of_sums(&step);
    let given_up = all_made(&mut step, migration);
    assert_eq!(in_store(1), spilled);
    step.sweeping().unwrap().end();
    drop(given_up);
    until("what was made goes", || in_store(1) == 0);
    assert_eq!(in_store(0), spilled);

    let migration = of_sums(&step);
    let mut carried_out = all_made(&mut step, migration);
    // more comes, and the first window goes
    rows(&mut step, 0..5_000, 1, 1_600);
    step.on_watermark(Watermark(999), &mut Output::default()).unwrap();
    while step.go_on(&mut Output::default()).unwrap() {}
    let (kept, state) = (in_store(0), step.snapshot().unwrap().made().unwrap());
    assert!(kept > 1_000 && kept < spilled, "{kept} values of {spilled}");
    let expected = of_sums(&step).run(state).unwrap();
    hand_over(&mut step, &mut carried_out);
    let guest = guest("migrate-sum-2", OperatorKind::Aggregator);
    let left = step.adopt(0, Replacement { guest, inputs: vec![1] }, carried_out.take(0).unwrap()).unwrap();
    assert!(in_store(2) > kept, "what was made of the first window is still there");
    drop((left, carried_out));
    until("what nobody reads goes", || in_store(0) == 0 && in_store(2) == kept);
    assert!(whole(&step.snapshot().unwrap().made().unwrap(), "windows") == whole(&expected, "windows"));
}

#[test]
fn runs_that_come_while_others_are_read_are_migrated_too() {
    let (mut step, area) = sums(200_000);
    let in_store = || area.range(&run_place(0, None), &runs_end(0)).count();
    let both = |step: &mut AggregateStep| [0, 1_000].into_iter().for_each(|time| rows(step, 0..5_000, 1, time));
    (0..4).for_each(|_| both(&mut step));
    let mut made = Made::new(vec![of_sums(&step)]).unwrap();
    let piece = step.sweeping().unwrap().piece(&made.kept(), 1_000).unwrap();
    made.take_in(piece).unwrap();
    assert!(!made.has_seen_all());
    // once while a part has been read, and once when all has been
    for _ in 0..2 {
        let before = in_store();
        both(&mut step);
        assert!(in_store() > before + 1_000);
        hand_over(&mut step, &mut made);
    }
    let state = step.snapshot().unwrap().made().unwrap();
    let expected = of_sums(&step).run(state).unwrap();
    let guest = guest("migrate-sum-2", OperatorKind::Aggregator);
    let left = step.adopt(0, Replacement { guest, inputs: vec![1] }, made.take(0).unwrap()).unwrap();
    drop((left, made));
    assert!(whole(&step.snapshot().unwrap().made().unwrap(), "windows") == whole(&expected, "windows"));
}
