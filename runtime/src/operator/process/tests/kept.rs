//! Processors with a budget of memory, against the same with as much as they like; and what a barrier costs.

use proptest::prelude::*;

use super::*;
use crate::spill::testing;
use crate::state::Later;

fn spilling(memory_bytes: usize, clock: Clock, state_ttl: Option<Duration>) -> ProcessStep {
    step_of(state_ttl, OnError::DeadLetter, clock, Some(testing::spill(memory_bytes)))
}

fn keys_spilled(step: &ProcessStep) -> u64 {
    step.spilled.as_ref().map_or(0, |spilled| spilled.keys_spilled())
}

#[test]
fn what_spills_comes_back_as_it_was() {
    for memory_bytes in [1, 40_000, 80_000] {
        let make = || -> Box<dyn Operator> { Box::new(spilling(memory_bytes, Clock::virtual_at_ms(0), None)) };
        let spilling = Restoring::new(make).keyed(&[&[1], &[0]]);
        let in_memory = Restoring::new(|| -> Box<dyn Operator> { Box::new(step()) }).keyed(&[&[1], &[0]]);
        spilling.same_as(&in_memory, &script());
        spilling.check(&script());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_rows_and_times_give_the_same_with_and_without_a_budget(
        turns in prop::collection::vec((prop::collection::vec((0usize..9, 0usize..9, 0i64..60), 1..8), 0i64..40), 1..20),
        memory_bytes in prop_oneof![Just(1_usize), 20_000_usize..90_000],
    ) {
        let words = ["timer", "x", "timer", "side", "clear", "timer", "forget", "step", "refuse"];
        let (mut script, mut now) = (Vec::new(), 0);
        for (rows, after) in turns {
            let names: Vec<String> = rows.iter().map(|(key, ..)| format!("k{key}")).collect();
            let asked_of = |(name, (_, word, at)): (&String, &(usize, usize, i64))| {
                (name.clone(), words[*word], now + at)
            };
            let all: Vec<_> = names.iter().zip(&rows).map(asked_of).collect();
            let all: Vec<Asked<'_>> = all.iter().map(|(k, word, at)| (Some(k.as_str()), *word, *at, now)).collect();
            script.push(Event::rows(0, asked(&all)));
            now += after;
            script.push(Event::Watermark(now));
        }
        script.push(Event::Watermark(i64::MAX));
        let make = || -> Box<dyn Operator> { Box::new(spilling(memory_bytes, Clock::virtual_at_ms(0), None)) };
        let spilling = Restoring::new(make).keyed(&[&[1], &[0]]);
        let in_memory = Restoring::new(|| -> Box<dyn Operator> { Box::new(step()) }).keyed(&[&[1], &[0]]);
        spilling.same_as(&in_memory, &script);
    }
}

/// All that a watermark makes due, part by part.
fn fired(step: &mut ProcessStep, time: i64) -> Vec<Vec<String>> {
    let mut parts = vec![watermark(step, time)];
    loop {
        let mut out = Output::default();
        if !step.go_on(&mut out).unwrap() {
            return parts;
        }
        parts.push(told(&out.batches));
    }
}

#[test]
fn many_keys_stay_within_their_budget_and_timers_come_in_the_order_of_time() {
    const MEMORY_BYTES: usize = 1 << 20;
    let mut step = spilling(MEMORY_BYTES, Clock::virtual_at_ms(0), None);
    let names: Vec<String> = (0..30_000).map(|key| format!("a key with number {key}")).collect();
    let mut most = 0;
    for (turn, names) in (0..).zip(names.chunks(1_000)) {
        let set: Vec<Asked<'_>> =
            (0..).zip(names).map(|(at, name)| (Some(name.as_str()), "timer", (at * 7 + turn) % 1_000, 0)).collect();
        rows(&mut step, &set);
        most = most.max(crate::operator::spilled_keys::ByKey::state_bytes(&step.handler));
    }
    assert!(most < MEMORY_BYTES && keys_spilled(&step) > 20_000, "{most} bytes, {} keys", keys_spilled(&step));
    let all: Vec<String> = [499, i64::MAX].iter().flat_map(|time| fired(&mut step, *time)).flatten().collect();
    let times: Vec<i64> = all.iter().map(|line| line.rsplit('@').next().unwrap().parse().unwrap()).collect();
    assert_eq!(all.len(), 30_000);
    assert!(times.is_sorted());
    let clear: Vec<Asked<'_>> = names.iter().map(|name| (Some(name.as_str()), "clear", 0, 0)).collect();
    clear.chunks(1_000).for_each(|some| drop(rows(&mut step, some)));
    assert_eq!(keys_spilled(&step), 0);
}

#[test]
fn timers_of_the_clock_wake_keys_that_have_left_memory() {
    let clock = Clock::virtual_at_ms(1_000);
    let mut step = spilling(1, clock.clone(), None);
    rows(&mut step, &[(Some("a"), "processing", 1_500, 7), (Some("b"), "processing", 1_200, 7)]);
    assert_eq!((keys_spilled(&step), step.next_processing_time()), (2, Some(1_200)));
    let at = |time_ms: i64, step: &mut ProcessStep| {
        clock.set_ms(time_ms);
        let mut out = Output::default();
        step.on_processing_time(time_ms, &mut out).unwrap();
        told(&out.batches).iter().map(|line| line.split(" @").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(at(1_300, &mut step), ["b processing 1200 1"]);
    assert_eq!(step.next_processing_time(), Some(1_500));
    assert_eq!(at(2_000, &mut step), ["a processing 1500 1"]);
    assert_eq!(step.next_processing_time(), None);
}

#[test]
fn state_that_outlives_its_time_in_the_store_is_gone_there_too() {
    let clock = Clock::virtual_at_ms(0);
    let mut step = spilling(1, clock.clone(), Some(Duration::from_secs(1)));
    rows(&mut step, &[(Some("a"), "x", 0, 0), (Some("b"), "x", 0, 0)]);
    clock.set_ms(500);
    assert_eq!(told(&rows(&mut step, &[(Some("b"), "x", 0, 0)]).batches), ["b x 2 @0"]);
    assert_eq!(keys_spilled(&step), 2);
    clock.set_ms(1_400);
    rows(&mut step, &[(Some("c"), "x", 0, 0)]);
    assert_eq!(keys_spilled(&step), 2);
    let state = step.snapshot().unwrap().made().unwrap();
    assert_eq!(state.rows("state").iter().map(|rows| rows.num_rows()).sum::<usize>(), 2);
}

fn ids(step: &mut ProcessStep) -> Vec<Vec<u128>> {
    step.snapshot().unwrap().tables.iter().map(|table| table.later.iter().map(Later::id).collect()).collect()
}

#[test]
fn a_barrier_copies_nothing_and_blocks_that_have_not_changed_stay_the_same() {
    let mut step = step();
    let names: Vec<String> = (0..80_000).map(|key| format!("k{key}")).collect();
    for (turn, names) in (0..).zip(names.chunks(4_000)) {
        rows(&mut step, &names.iter().map(|name| (Some(name.as_str()), "timer", turn, 0)).collect::<Vec<_>>());
    }
    let snapshot = step.snapshot().unwrap();
    assert!(snapshot.tables.iter().all(|table| table.rows.is_empty()), "rows are made at the barrier");
    let first = ids(&mut step);
    assert_eq!(first, ids(&mut step));
    assert_eq!((first[0].len(), first[1].len()), (3, 10));
    // the last key: its state and its timer are in the last block of each table
    rows(&mut step, &[(Some("k79999"), "timer", 1_000, 0)]);
    let second = ids(&mut step);
    let same = |table: usize| first[table].iter().zip(&second[table]).filter(|(one, other)| one == other).count();
    assert_eq!((same(0), same(1)), (2, 9));
    // the copy is of the barrier
    let state = snapshot.made().unwrap();
    let timers: usize = state.rows("timers").iter().map(|rows| rows.num_rows()).sum();
    assert_eq!(timers, 80_000);
}

#[test]
fn a_copy_of_what_is_in_the_store_stays_as_it_was() {
    let mut step = spilling(1, Clock::virtual_at_ms(0), None);
    let names: Vec<String> = (0..2_000).map(|key| format!("k{key}")).collect();
    rows(&mut step, &names.iter().map(|name| (Some(name.as_str()), "x", 0, 0)).collect::<Vec<_>>());
    assert_eq!(keys_spilled(&step), 1_001);
    let before = step.snapshot().unwrap();
    let same = ids(&mut step);
    assert_eq!(same, ids(&mut step));
    rows(&mut step, &names.iter().map(|name| (Some(name.as_str()), "clear", 0, 0)).collect::<Vec<_>>());
    assert_eq!(keys_spilled(&step), 0);
    let before = before.made().unwrap();
    assert_eq!(before.rows("state").iter().map(|rows| rows.num_rows()).sum::<usize>(), 2_000);
}
