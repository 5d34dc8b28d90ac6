//! Watermarks against Flink's rules, by example and against a model.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn spec(out_of_orderness_ms: u64, idle_after_ms: Option<u64>) -> WatermarkSpec {
    WatermarkSpec {
        max_out_of_orderness: Duration::from_millis(out_of_orderness_ms),
        idle_after: idle_after_ms.map(Duration::from_millis),
        max_drift: None,
    }
}

fn advanced(time_ms: i64) -> Progress {
    Progress { watermark: Some(Watermark(time_ms)), idle: None }
}

#[test]
fn the_watermark_is_the_latest_time_less_the_bound_and_one() {
    let mut marks = PartitionWatermarks::new(spec(2_000, None));
    marks.observe(0, 10_000, 0);
    assert_eq!(marks.progress(0), advanced(7_999));
    marks.observe(0, 9_000, 0);
    assert_eq!(marks.progress(0), Progress::default());
    marks.observe(0, 10_001, 0);
    assert_eq!(marks.progress(0), advanced(8_000));
}

#[test]
fn the_slowest_partition_holds_the_watermark_back() {
    let mut marks = PartitionWatermarks::new(spec(0, None));
    marks.add(1, 0);
    marks.observe(0, 500, 0);
    assert_eq!(marks.progress(0), Progress::default(), "partition 1 has shown nothing yet");
    marks.observe(1, 100, 0);
    assert_eq!(marks.progress(0), advanced(99));
    marks.end(1);
    assert_eq!(marks.progress(0), advanced(499));
}

#[test]
fn a_partition_that_comes_late_does_not_take_the_watermark_back() {
    let mut marks = PartitionWatermarks::new(spec(0, None));
    marks.observe(0, 500, 0);
    assert_eq!(marks.progress(0), advanced(499));
    marks.observe(1, 100, 0);
    assert_eq!(marks.progress(0), Progress::default());
    marks.observe(1, 501, 0);
    assert_eq!(marks.progress(0), Progress::default(), "partition 0 is at 500 still");
    marks.observe(0, 800, 0);
    assert_eq!(marks.progress(0), advanced(500));
}

#[test]
fn a_partition_that_resumes_behind_the_watermark_does_not_hold_it_until_it_has_caught_up() {
    let mut marks = PartitionWatermarks::new(spec(0, Some(1_000)));
    marks.add(1, 0);
    marks.observe(0, 500, 900);
    assert_eq!(marks.progress(1_000), advanced(499), "partition 1 is idle");
    marks.observe(1, 100, 1_100);
    marks.observe(0, 600, 1_100);
    assert_eq!(marks.progress(1_100), advanced(599), "partition 1 is behind: what it brings may be late");
    marks.observe(1, 600, 1_200);
    assert_eq!(marks.progress(1_200), Progress::default(), "it has caught up");
    marks.observe(0, 900, 1_300);
    assert_eq!(marks.progress(1_300), Progress::default(), "and counts again");
    marks.observe(1, 800, 1_400);
    assert_eq!(marks.progress(1_400), advanced(799));
}

#[test]
fn a_subtask_whose_only_partition_is_behind_is_active_and_waits_for_it() {
    let mut marks = PartitionWatermarks::new(spec(0, None));
    marks.observe(0, 500, 0);
    assert_eq!(marks.progress(0), advanced(499));
    marks.observe(1, 100, 0);
    marks.end(0);
    assert_eq!(marks.progress(0), Progress::default());
    marks.observe(1, 700, 0);
    assert_eq!(marks.progress(0), advanced(699));
}

#[test]
fn punctuated_watermarks_are_what_each_partition_says() {
    let mut marks = PartitionWatermarks::new(spec(0, None)).punctuated();
    marks.observe(0, 5_000, 0);
    assert_eq!(marks.progress(0), Progress::default(), "rows promise nothing");
    marks.mark(0, Watermark(4_000), 0);
    assert_eq!(marks.progress(0), advanced(4_000));
    marks.mark(0, Watermark(3_000), 0);
    assert_eq!(marks.progress(0), Progress::default(), "a promise is not taken back");
    marks.observe(1, 9_000, 0);
    marks.mark(1, Watermark(4_500), 0);
    marks.mark(0, Watermark::MAX, 0);
    assert_eq!(marks.progress(0), advanced(4_500), "the slower partition");
    marks.end(1);
    assert_eq!(marks.progress(0), advanced(i64::MAX - 1), "the end of time is the end of input's to say");
}

#[test]
fn time_in_which_nobody_asks_makes_no_partition_silent() {
    let mut asked = AskedTime::default();
    let mut marks = PartitionWatermarks::new(spec(0, Some(1_000)));
    marks.add(0, asked.ms());
    asked.start(100);
    asked.stop(200);
    // the pipeline is held up for a minute
    asked.start(60_200);
    asked.start(60_300);
    asked.stop(61_000);
    asked.stop(70_000);
    assert_eq!(asked.ms(), 900);
    assert_eq!(marks.progress(asked.ms()), Progress::default());
    asked.start(70_000);
    asked.stop(70_100);
    assert_eq!(marks.progress(asked.ms()), Progress { watermark: None, idle: Some(true) });
}

#[test]
fn only_who_is_further_ahead_than_the_drift_is_to_wait() {
    let ahead = |own, slowest| is_ahead(Watermark(own), Watermark(slowest), 1_000);
    assert!(!ahead(2_000, 1_000));
    assert!(ahead(2_001, 1_000));
    assert!(!ahead(i64::MIN, i64::MIN));
    assert!(ahead(i64::MIN + 1_001, i64::MIN), "others have shown nothing yet");
    assert!(!ahead(i64::MAX, i64::MAX), "nobody else is left");
}

#[test]
fn a_silent_partition_goes_idle_and_comes_back() {
    let mut marks = PartitionWatermarks::new(spec(0, Some(1_000)));
    marks.add(1, 0);
    marks.observe(0, 50, 500);
    assert_eq!(marks.progress(999), Progress::default());
    assert_eq!(marks.progress(1_000), advanced(49), "partition 1 is idle");
    assert_eq!(marks.progress(1_500), Progress { watermark: None, idle: Some(true) });
    assert_eq!(marks.progress(1_600), Progress::default(), "a change is told once");
    marks.observe(1, 70, 1_700);
    assert_eq!(marks.progress(1_700), Progress { watermark: Some(Watermark(69)), idle: Some(false) });
}

#[test]
fn a_subtask_whose_partitions_have_all_ended_is_idle() {
    let mut marks = PartitionWatermarks::new(spec(0, None));
    marks.observe(0, 50, 0);
    assert_eq!(marks.progress(0), advanced(49));
    marks.end(0);
    assert_eq!(marks.progress(0), Progress { watermark: None, idle: Some(true) });
}

#[test]
fn a_subtask_without_partitions_is_idle_from_the_start() {
    let mut marks = PartitionWatermarks::new(spec(0, None));
    assert_eq!(marks.progress(0), Progress { watermark: None, idle: Some(true) });
}

#[test]
fn rows_without_a_time_keep_a_partition_awake_and_advance_nothing() {
    let mut marks = PartitionWatermarks::new(spec(0, Some(1_000)));
    marks.observe(0, NO_EVENT_TIME, 0);
    assert_eq!(marks.progress(0), Progress::default());
    marks.observe(0, NO_EVENT_TIME, 900);
    assert_eq!(marks.progress(1_800), Progress::default());
    assert_eq!(marks.progress(1_900), Progress { watermark: None, idle: Some(true) });
}

#[test]
fn extreme_times_saturate() {
    let mut marks =
        PartitionWatermarks::new(WatermarkSpec { max_out_of_orderness: Duration::MAX, ..WatermarkSpec::default() });
    marks.observe(0, i64::MIN + 1, 0);
    assert_eq!(marks.progress(0), Progress::default(), "saturates at the watermark that says nothing");
    marks.observe(0, i64::MAX, 0);
    assert_eq!(marks.progress(i64::MAX), advanced(-1));
}

#[derive(Clone, Debug)]
enum Step {
    Observe { partition: u32, time_ms: i64 },
    End { partition: u32 },
    Wait { ms: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3_u32, -50..500_i64).prop_map(|(partition, time_ms)| Step::Observe { partition, time_ms }),
        1 => (0..3_u32).prop_map(|partition| Step::End { partition }),
        2 => (1..40_i64).prop_map(|ms| Step::Wait { ms }),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// After each step the announced watermark is the best that may be said: the largest minimum so far of those that count.
    #[test]
    fn the_watermark_is_the_running_maximum_of_the_minimum(
        steps in steps(),
        bound_ms in 0..50_u64,
        idle_after_ms in proptest::option::of(10..60_u64),
    ) {
        let mut marks = PartitionWatermarks::new(spec(bound_ms, idle_after_ms));
        // watermark, seen, counts
        let mut model: std::collections::HashMap<u32, (i64, i64, bool)> = std::collections::HashMap::new();
        let (mut now_ms, mut announced, mut expected) = (0_i64, i64::MIN, i64::MIN);
        for step in steps {
            match step {
                Step::Observe { partition, time_ms } => {
                    marks.observe(partition, time_ms, now_ms);
                    let promised = time_ms - bound_ms as i64 - 1;
                    let entry = model.entry(partition).or_insert((promised, now_ms, false));
                    *entry = (entry.0.max(promised), now_ms, entry.2);
                }
                Step::End { partition } => {
                    marks.end(partition);
                    model.remove(&partition);
                }
                Step::Wait { ms } => now_ms += ms,
            }
            let awake = |seen_ms: i64| idle_after_ms.is_none_or(|after| now_ms - seen_ms < after as i64);
            for (promised, seen_ms, counts) in model.values_mut() {
                *counts = awake(*seen_ms) && (*counts || *promised >= announced);
            }
            let counted = model.values().filter(|(_, _, counts)| *counts).map(|(promised, ..)| *promised);
            if let Some(minimum) = counted.min() {
                expected = expected.max(minimum);
            }
            let all_idle = !model.values().any(|(_, seen_ms, _)| awake(*seen_ms));
            let progress = marks.progress(now_ms);
            if let Some(Watermark(time_ms)) = progress.watermark {
                prop_assert!(time_ms > announced, "went from {announced} to {time_ms}");
                announced = time_ms;
            }
            prop_assert_eq!(announced, expected);
            prop_assert_eq!(marks.idle, all_idle);
            prop_assert_eq!(marks.progress(now_ms), Progress::default());
        }
    }
}
