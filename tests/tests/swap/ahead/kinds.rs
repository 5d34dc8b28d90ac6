//! Every kind of step that keeps state of a component, in memory and in the scratch store: what was migrated ahead is what a
//! migration at the cut makes, and it goes on as one does that was restored from that.

use std::collections::BTreeMap;

use millstream::clock::Clock;
use millstream::metrics::NodeCounters;
use millstream::operator::{ProcessSpec, ProcessStep};
use millstream::spill::{Spill, SpillStore};

use super::*;

/// Bytes of state that fit into memory where they are bounded: of some thousand keys.
const MEMORY_BYTES: usize = 400_000;

#[derive(Clone, Copy, Debug)]
enum Kept {
    Sums(WindowSpec, Trigger, Firing),
    Counts { state_ttl: Option<Duration> },
}

fn kinds() -> Vec<Kept> {
    let (size, every) = (Duration::from_secs(4), Duration::from_secs(1));
    let count = |rows, at_end| Trigger::Count { rows, at_end };
    let tumbling = WindowSpec::Tumbling { size, offset_ms: 0 };
    let session = WindowSpec::Session { gap: Duration::from_secs(2) };
    vec![
        Kept::Counts { state_ttl: None },
        Kept::Counts { state_ttl: Some(Duration::from_secs(3)) },
        Kept::Sums(session, Trigger::End, Firing::Accumulating),
        Kept::Sums(session, count(2, true), Firing::Discarding),
        Kept::Sums(WindowSpec::Count { rows: 3 }, Trigger::End, Firing::Accumulating),
        Kept::Sums(WindowSpec::SlidingCount { rows: 4, every: 2 }, Trigger::End, Firing::Accumulating),
        Kept::Sums(WindowSpec::Global, count(3, false), Firing::Discarding),
        Kept::Sums(tumbling, Trigger::Every { interval: every }, Firing::Accumulating),
        Kept::Sums(tumbling, Trigger::ProcessingTime { interval: every }, Firing::Discarding),
        Kept::Sums(WindowSpec::Rolling { emit: Emit::Latest }, Trigger::End, Firing::Accumulating),
        Kept::Sums(WindowSpec::Rolling { emit: Emit::Changes }, Trigger::End, Firing::Accumulating),
        Kept::Sums(tumbling, Trigger::End, Firing::Accumulating),
        Kept::Sums(WindowSpec::Sliding { size, every, offset_ms: 0 }, Trigger::End, Firing::Accumulating),
    ]
}

/// A step in one task.
struct Subject {
    kind: Kept,
    sandbox: Sandbox,
    clock: Clock,
    store: Option<(tempfile::TempDir, Arc<SpillStore>)>,
    counters: Arc<NodeCounters>,
    operator: Box<dyn Operator>,
    watermark: i64,
}

fn input() -> Schema {
    Schema::new([Field::new("key", Kind::Int64), Field::new("sequence", Kind::Int64)])
}

fn batch(rows: &[(i64, i64)], time: i64) -> Batch {
    let (keys, values): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(Int64Array::from(keys)), Arc::new(Int64Array::from(values))];
    let batch = RecordBatch::try_new(input().arrow().clone(), columns).unwrap();
    Batch::new(batch, vec![time; rows.len()].into()).unwrap()
}

/// Rows as text.
fn lines<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<String> {
    let rows = batches.into_iter().flat_map(run::record_batch_rows);
    rows.map(|row| serde_json::to_string(&row).unwrap()).collect()
}

/// The same in any order.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

fn rows_of(snapshot: &Snapshot) -> Vec<String> {
    lines(snapshot.tables.iter().flat_map(|table| &table.rows))
}

/// What a step is told of.
enum Turn {
    Rows(Vec<(i64, i64)>, i64),
    Watermark(i64),
    /// the clock has been set
    Clock,
}

/// All that it puts out of this.
fn tell(operator: &mut dyn Operator, clock: &Clock, turn: &Turn) -> Vec<String> {
    let mut all = Vec::new();
    let mut out = Output::default();
    match turn {
        Turn::Rows(rows, time) => operator.on_batch(batch(rows, *time), &mut out).unwrap(),
        Turn::Watermark(time) => operator.on_watermark(Watermark(*time), &mut out).unwrap(),
        Turn::Clock if operator.next_processing_time().is_some_and(|time| time <= clock.now_ms()) => {
            operator.on_processing_time(clock.now_ms(), &mut out).unwrap();
        }
        Turn::Clock => {}
    }
    loop {
        assert!(out.dead.is_empty(), "{:?}", out.dead);
        all.extend(lines(out.batches.iter().map(Batch::columns)));
        out = Output::default();
        if matches!(turn, Turn::Rows(..)) || !operator.go_on(&mut out).unwrap() {
            return all;
        }
    }
}

impl Subject {
    fn new(kind: Kept, spills: bool) -> Self {
        let sandbox = Sandbox::new(SandboxOptions::default()).unwrap();
        let (clock, counters) = (Clock::virtual_at_ms(0), Arc::default());
        let store = spills.then(|| {
            let folder = tempfile::tempdir().unwrap();
            let store = SpillStore::open(folder.path(), "kinds", 1 << 20).unwrap();
            (folder, store)
        });
        let operator = operator(kind, 1, &sandbox, &clock, spill(store.as_ref(), &counters));
        Self { kind, sandbox, clock, store, counters, operator, watermark: i64::MIN }
    }

    /// Another one without state, of version `version`.
    fn other(&self, version: usize) -> Box<dyn Operator> {
        operator(self.kind, version, &self.sandbox, &self.clock, spill(self.store.as_ref(), &Arc::default()))
    }

    fn tell(&mut self, turn: &Turn) -> Vec<String> {
        if let Turn::Watermark(time) = turn {
            self.watermark = *time;
        }
        tell(self.operator.as_mut(), &self.clock, turn)
    }

    fn spilled(&self) -> bool {
        self.counters.read().spilled_bytes > 100_000
    }

    fn migration(&mut self, from: usize, to: &std::path::Path) -> Migration {
        let from = guest_of(self.kind, &self.sandbox, &version(self.kind, from)).signature().state.clone().unwrap();
        let kept = self.operator.kept_columns(slot(self.kind)).unwrap();
        Migration { slot: slot(self.kind), kept, from, guest: guest_of(self.kind, &self.sandbox, to) }
    }

    fn begin(&mut self, from: usize, to: &std::path::Path) -> (Arc<Sweep>, SweepTask) {
        let sweep = Arc::new(Sweep::new(vec![self.migration(from, to)]).unwrap());
        sweep.spawn().unwrap();
        (Arc::clone(&sweep), SweepTask::begin(sweep))
    }

    fn catch_up(&mut self, sweep: &Sweep, task: &SweepTask) -> SweepProgress {
        let watch = Stopwatch::start();
        loop {
            assert!(task.go_on(self.operator.as_mut()) && watch.elapsed() < PATIENCE);
            let progress = sweep.progress();
            if progress.caught_up || progress.failed.is_some() {
                return progress;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn adopt(&mut self, task: &SweepTask, to: usize) {
        let guest = guest_of(self.kind, &self.sandbox, &version(self.kind, to));
        let slot = slot(self.kind);
        let left = self.operator.adopt(slot, Replacement { guest, inputs: vec![1] }, task.made(slot).unwrap());
        task.leave(left.unwrap());
    }

    fn state(&mut self) -> Snapshot {
        self.operator.snapshot().unwrap().made().unwrap()
    }
}

fn slot(kind: Kept) -> usize {
    usize::from(matches!(kind, Kept::Sums(..)))
}

fn version(kind: Kept, version: usize) -> PathBuf {
    let name = match (kind, version) {
        (Kept::Sums(..), 1) => "migrate-sum-1",
        (Kept::Sums(..), _) => "migrate-sum-2",
        (Kept::Counts { .. }, 1) => "version-process",
        (Kept::Counts { .. }, _) => "migrate-process-2",
    };
    built::guest(name).unwrap()
}

fn guest_of(kind: Kept, sandbox: &Sandbox, path: &std::path::Path) -> Guest {
    let operator = if let Kept::Sums(..) = kind { OperatorKind::Aggregator } else { OperatorKind::Processor };
    sandbox.load(path).unwrap().guest(operator, GuestOptions::new("step")).unwrap()
}

fn spill(store: Option<&(tempfile::TempDir, Arc<SpillStore>)>, counters: &Arc<NodeCounters>) -> Option<Spill> {
    let (_, store) = store?;
    Some(Spill { area: store.area(), memory_bytes: MEMORY_BYTES, counters: Arc::clone(counters) })
}

fn operator(kind: Kept, number: usize, sandbox: &Sandbox, clock: &Clock, spill: Option<Spill>) -> Box<dyn Operator> {
    let guest = guest_of(kind, sandbox, &version(kind, number));
    let clock = clock.clone();
    let Kept::Sums(window, trigger, firing) = kind else {
        let Kept::Counts { state_ttl } = kind else { unreachable!() };
        let (inputs, on_error) = (vec![input()], OnError::Fail);
        let spec = ProcessSpec { inputs, keys: vec![vec![0]], sides: vec![None], state_ttl, on_error, clock, spill };
        return Box::new(ProcessStep::new(guest, spec).unwrap());
    };
    let output = guest.signature().outputs.clone();
    let fold = GuestFold::new(guest, vec![1], output.clone(), OnError::Fail).unwrap();
    let count = AggregateCall::BuiltIn { output: "rows".into(), function: AggregateFunction::Count, column: None };
    let spec = WindowAggregateSpec {
        input: input(),
        keys: vec![0],
        window,
        allowed_lateness: Duration::ZERO,
        late: false,
        gap: None,
        trigger,
        firing,
        clock,
        aggregates: vec![count, AggregateCall::Fold(Box::new(fold))],
        spill,
    };
    Box::new(AggregateStep::new(spec, OnError::Fail, vec![None, Some(output)]).unwrap())
}

/// Keys for a sweep of several pieces.
const KEYS: i64 = 12_000;

/// Rows of old keys and of new ones.
fn some_rows(random: &mut u64, rows: usize) -> Vec<(i64, i64)> {
    let below = KEYS.unsigned_abs() * 5 / 4;
    (0..rows).map(|_| (draw(random, below).cast_signed(), draw(random, 100).cast_signed())).collect()
}

/// When a turn comes: each a quarter of a second after the one before, but for one before which all windows close and all that
/// has a time to live outlives it.
fn time_of(turn: i64) -> i64 {
    turn * SECOND / 4 + if turn >= 15 { 100 * SECOND } else { 0 }
}

/// Time goes on, and rows come.
fn turns(random: &mut u64, turn: i64, clock: &Clock) -> [Turn; 4] {
    let now = time_of(turn);
    clock.set_ms(now);
    let rows = Turn::Rows(some_rows(random, 300), now);
    [Turn::Watermark(now - SECOND), Turn::Clock, rows, Turn::Watermark(now - SECOND)]
}

fn as_at_the_cut(kind: Kept, spills: bool, seed: u64) {
    let mut subject = Subject::new(kind, spills);
    let mut random = seed;
    for from in (0..KEYS).step_by(2_000) {
        subject.tell(&Turn::Rows((from..from + 2_000).map(|key| (key, key)).collect(), 0));
    }
    assert_eq!(subject.spilled(), spills, "{kind:?}");
    let (sweep, task) = subject.begin(1, &version(kind, 2));
    let clock = subject.clock.clone();
    for turn in 0..30 {
        for turn in turns(&mut random, turn, &clock) {
            subject.tell(&turn);
            assert!(task.go_on(subject.operator.as_mut()));
        }
        std::thread::sleep(Duration::from_micros(draw(&mut random, 2_000)));
    }
    subject.catch_up(&sweep, &task);
    subject.tell(&Turn::Rows(vec![(1, 1), (30_000, 1)], time_of(30)));
    let state = subject.state();
    let expected = subject.migration(1, &version(kind, 2)).run(state).unwrap();
    task.finish(subject.operator.as_mut()).unwrap();
    subject.adopt(&task, 2);
    let adopted = subject.state();
    assert!(rows_of(&adopted) == rows_of(&expected), "{kind:?}, spills: {spills}, seed {seed}");
    assert!(!rows_of(&adopted).is_empty());

    let mut reference = subject.other(2);
    reference.restore(&expected, Watermark(subject.watermark)).unwrap();
    for turn in 30..50 {
        for turn in turns(&mut random, turn, &clock) {
            let (told, expected) = (subject.tell(&turn), tell(reference.as_mut(), &clock, &turn));
            assert!(sorted(told) == sorted(expected), "{kind:?}, spills: {spills}, seed {seed}");
        }
    }
    let expected = reference.snapshot().unwrap().made().unwrap();
    assert!(sorted(rows_of(&subject.state())) == sorted(rows_of(&expected)), "{kind:?}, spills: {spills}");
    drop(task);
    sweep.end();
}

#[test]
fn every_kind_of_step_takes_over_what_a_migration_at_the_cut_makes() {
    for (seed, kind) in (1..).zip(kinds()) {
        as_at_the_cut(kind, false, seed);
    }
}

#[test]
fn and_so_it_does_with_keys_in_the_scratch_store() {
    for (seed, kind) in (1..).zip(kinds()) {
        as_at_the_cut(kind, true, seed);
    }
}

#[test]
fn of_every_kind_no_more_is_left_for_the_cut_than_the_keys_touched_since() {
    const TOUCHED: i64 = 10;
    for (kind, spills) in kinds().into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let mut subject = Subject::new(kind, spills);
        for from in (0..2 * KEYS).step_by(2_000) {
            subject.tell(&Turn::Rows((from..from + 2_000).map(|key| (key, key)).collect(), 0));
        }
        let (sweep, task) = subject.begin(1, &version(kind, 2));
        let ahead = subject.catch_up(&sweep, &task);
        assert!(ahead.rows_ahead >= 2 * KEYS.unsigned_abs() && ahead.rounds >= 2, "{kind:?}: {ahead:?}");
        subject.tell(&Turn::Rows((0..TOUCHED).map(|at| (at * 2_311, 2)).collect(), 1));
        task.finish(subject.operator.as_mut()).unwrap();
        // a key that has come back from the store has left it; of windows that slide by rows each key has two
        let windows = if matches!(kind, Kept::Sums(WindowSpec::SlidingCount { .. }, ..)) { 2 } else { 1 };
        let comes_back = spills && !keeps_slices(kind);
        let most = TOUCHED.unsigned_abs() * (windows + u64::from(comes_back));
        let left = sweep.progress().rows_at_cut;
        assert!(left >= TOUCHED.unsigned_abs() && left <= most, "{kind:?}, spills: {spills}: {left} rows");
        subject.adopt(&task, 2);
        drop(task);
        sweep.end();
    }
}

/// Whether accumulators of slices are kept: what has left memory stays as it is, and what comes is beside it.
fn keeps_slices(kind: Kept) -> bool {
    matches!(kind, Kept::Sums(WindowSpec::Tumbling { .. } | WindowSpec::Sliding { .. }, Trigger::End, _))
}

/// A candidate that does not migrate one key, and rows after which there is one.
fn hostile(kind: Kept, spills: bool) -> (PathBuf, Vec<(i64, i64)>) {
    match kind {
        // a sum of 0, beside the one in the store
        Kept::Sums(..) if spills && keeps_slices(kind) => (built::guest("hostile-migrate").unwrap(), vec![(77, 0)]),
        // a sum of 0
        Kept::Sums(..) => (built::guest("hostile-migrate").unwrap(), vec![(77, -77)]),
        // 13 rows
        Kept::Counts { .. } => (traps_at_13(), vec![(77, 0); 12]),
    }
}

/// A processor whose migration traps on a key that has had 13 rows.
pub(super) fn traps_at_13() -> PathBuf {
    static FOLDER: std::sync::OnceLock<Second> = std::sync::OnceLock::new();
    FOLDER.get_or_init(Second::new).write("migrate-process-2", "migrates-all", "not-thirteen")
}

#[test]
fn a_key_that_does_not_migrate_leaves_every_kind_as_it_was_in_memory_or_in_the_store() {
    for (kind, spills) in kinds().into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        if matches!(kind, Kept::Sums(_, Trigger::Count { .. }, _)) {
            continue; // which empties windows before they have such a sum
        }
        let mut subject = Subject::new(kind, spills);
        let (to, rows) = hostile(kind, spills);
        for from in (1..=KEYS).step_by(2_000) {
            subject.tell(&Turn::Rows((from..from + 2_000).map(|key| (key, key)).collect(), 0));
        }
        let (sweep, task) = subject.begin(1, &to);
        assert_eq!(subject.catch_up(&sweep, &task).failed, None, "{kind:?}");
        // the key was good until now
        subject.tell(&Turn::Rows(rows, 0));
        let before = rows_of(&subject.state());
        let refused = task.finish(subject.operator.as_mut()).unwrap_err();
        assert!(refused.contains("of the key key = 77: "), "{kind:?}: {refused}");
        task.stop(subject.operator.as_mut());
        drop(task);
        sweep.end();
        assert!(rows_of(&subject.state()) == before, "{kind:?}, spills: {spills}");
        // it is found wherever it lies, and one that can do it takes over all of it
        for from in (20_001..32_000).step_by(2_000).filter(|_| spills) {
            subject.tell(&Turn::Rows((from..from + 2_000).map(|key| (key, key)).collect(), 0));
        }
        let (sweep, task) = subject.begin(1, &to);
        let failed = subject.catch_up(&sweep, &task).failed.unwrap();
        assert!(failed.contains("of the key key = 77: "), "{kind:?}, spills: {spills}: {failed}");
        task.stop(subject.operator.as_mut());
        drop(task);
        sweep.end();
        let (sweep, task) = subject.begin(1, &version(kind, 2));
        subject.catch_up(&sweep, &task);
        let state = subject.state();
        let expected = subject.migration(1, &version(kind, 2)).run(state).unwrap();
        task.finish(subject.operator.as_mut()).unwrap();
        subject.adopt(&task, 2);
        assert!(rows_of(&subject.state()) == rows_of(&expected), "{kind:?}, spills: {spills}");
        drop(task);
        sweep.end();
    }
}

/// A snapshot in the middle of a migration is of the version that runs, and changes nothing.
fn as_of_a_checkpoint(kind: Kept, spills: bool, seed: u64) {
    let mut subject = Subject::new(kind, spills);
    let (mut random, clock) = (seed, subject.clock.clone());
    for from in (0..KEYS).step_by(2_000) {
        subject.tell(&Turn::Rows((from..from + 2_000).map(|key| (key, key)).collect(), 0));
    }
    let (sweep, task) = subject.begin(1, &version(kind, 2));
    let mut reference = subject.other(1);
    for turn in 0..24 {
        if turn == 10 {
            let state = subject.state();
            reference.restore(&state, Watermark(subject.watermark)).unwrap();
        }
        for each in turns(&mut random, turn, &clock) {
            let told = subject.tell(&each);
            assert!(task.go_on(subject.operator.as_mut()));
            if turn >= 10 {
                let expected = tell(reference.as_mut(), &clock, &each);
                assert!(sorted(told) == sorted(expected), "{kind:?}, spills: {spills}, turn {turn}");
            }
        }
    }
    subject.catch_up(&sweep, &task);
    // given up: all goes on as the version that there was
    task.stop(subject.operator.as_mut());
    drop(task);
    sweep.end();
    for turn in 24..40 {
        for each in turns(&mut random, turn, &clock) {
            let (told, expected) = (subject.tell(&each), tell(reference.as_mut(), &clock, &each));
            assert!(sorted(told) == sorted(expected), "{kind:?}, spills: {spills}, turn {turn}");
        }
    }
}

#[test]
fn a_snapshot_while_state_is_migrated_is_what_the_running_version_keeps() {
    for (seed, kind) in (1..).zip(kinds()) {
        as_of_a_checkpoint(kind, false, seed);
        as_of_a_checkpoint(kind, true, seed);
    }
}

#[test]
fn what_means_nothing_is_not_shown_to_a_component_that_would_refuse_it() {
    let to = built::guest("hostile-migrate").unwrap();
    let session = WindowSpec::Session { gap: Duration::from_secs(2) };
    let trigger = Trigger::Count { rows: 2, at_end: true };
    let kind = Kept::Sums(session, trigger, Firing::Discarding);
    for spills in [false, true] {
        let mut subject = Subject::new(kind, spills);
        for from in (1..=KEYS).step_by(2_000) {
            subject.tell(&Turn::Rows((from..from + 2_000).map(|key| (key, key)).collect(), 0));
        }
        // every third window has put out its rows and is empty
        for from in (1..=KEYS).step_by(2_000) {
            subject.tell(&Turn::Rows((from..from + 2_000).step_by(3).map(|key| (key, key)).collect(), 0));
        }
        let state = subject.state();
        let empty = |row: &String| row.contains("\"rows\":0");
        let count = rows_of(&state).iter().filter(|row| empty(row)).count();
        assert!(count > 3_000, "{count} windows without rows");
        // at the cut, and so it is where a start or a copy migrates
        let expected = subject.migration(1, &to).run(state).unwrap();
        let empty: Vec<String> = rows_of(&expected).into_iter().filter(empty).collect();
        assert_eq!(empty.len(), count);
        let (sweep, task) = subject.begin(1, &to);
        assert_eq!(subject.catch_up(&sweep, &task).failed, None, "spills: {spills}");
        task.finish(subject.operator.as_mut()).unwrap();
        drop(task);
        sweep.end();
    }
}

#[test]
fn state_in_the_store_is_migrated_there_and_back_again() {
    let session = WindowSpec::Session { gap: Duration::from_secs(2) };
    let tumbling = WindowSpec::Tumbling { size: Duration::from_secs(4), offset_ms: 0 };
    for window in [session, tumbling, WindowSpec::Rolling { emit: Emit::Latest }] {
        there_and_back(window);
    }
}

fn there_and_back(window: WindowSpec) {
    let mut subject = Subject::new(Kept::Sums(window, Trigger::End, Firing::Accumulating), true);
    let mut random = 3;
    for from in (0..KEYS).step_by(2_000) {
        subject.tell(&Turn::Rows((from..from + 2_000).map(|key| (key, key)).collect(), 0));
    }
    let mut count: BTreeMap<i64, i64> = (0..KEYS).map(|key| (key, 1)).collect();
    for (from, to) in [(1, 2), (2, 1), (1, 2), (2, 1)] {
        let to_path = version(subject.kind, to);
        let (sweep, task) = subject.begin(from, &to_path);
        for _ in 0..20 {
            let rows = some_rows(&mut random, 300);
            rows.iter().for_each(|(key, _)| *count.entry(*key).or_default() += 1);
            subject.tell(&Turn::Rows(rows, 0));
            assert!(task.go_on(subject.operator.as_mut()));
        }
        subject.catch_up(&sweep, &task);
        task.finish(subject.operator.as_mut()).unwrap();
        subject.adopt(&task, to);
        drop(task);
        sweep.end();
    }
    assert!(subject.spilled());
    // on the way back all is counted as the first version's
    let state = subject.state();
    let rows = state.tables[0].rows.iter().flat_map(run::record_batch_rows);
    // a key of several runs has several
    let mut of_keys: BTreeMap<i64, i64> = BTreeMap::new();
    rows.for_each(|row| *of_keys.entry(int(&row, "key")).or_default() += int(&row, "rows_1.rows"));
    assert!(of_keys == count, "{window:?}");
}
