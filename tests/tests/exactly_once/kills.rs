//! Killing.

use std::time::Duration;

use super::*;
use crate::broker_or_return;

/// Where a process dies in its third epoch, and which epoch the next start finds: the one before, or (`Some(0)`) that one.
/// The first epoch of all, 0, passes most of these places too.
const POINTS: [(&str, u64, u64); 11] = [
    // name, which time, epoch that is found
    ("cut", 2, 1),
    ("state-written", 4, 1),
    ("before-manifest", 3, 1),
    ("after-manifest", 3, 1),
    ("marked", 3, 1),
    ("drained", 3, 1),
    ("before-decision", 3, 1),
    ("decided", 3, 2),
    ("before-commit", 2, 2),
    ("after-commit", 2, 2),
    ("base-written", 1, 0),
];

async fn die_at(broker: &Broker, points: &[(&str, u64, u64)]) {
    for (point, nth, found) in points {
        let job = Job::new(broker, point, "retain = 2").await;
        let died = job.run_to(&format!("{point}:{nth}"), &["--parallelism", "3"]);
        assert_eq!(died.code, None, "{point} was not reached: {}", died.stderr);
        // again at the same place, where it may be another epoch, and at other parallelism
        let again = job.run_to(&format!("{point}:{nth}"), &["--parallelism", "2"]);
        if *point != "base-written" {
            assert_eq!(again.restored(), Some(*found), "{point}: {}", again.stderr);
        }
        let last = job.run(&["--parallelism", "3"]).expect(0);
        job.assert_once(&format!("{point}, then {:?}, then {:?}", again.restored(), last.restored()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_before_the_decision_loses_and_repeats_nothing() {
    let broker = broker_or_return!();
    die_at(broker, &POINTS[..6]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_round_the_decision_loses_and_repeats_nothing() {
    let broker = broker_or_return!();
    die_at(broker, &POINTS[6..]).await;
}

/// Inside of the commit either epoch may be found, and both are right.
#[tokio::test(flavor = "multi_thread")]
async fn dying_while_the_broker_decides_loses_and_repeats_nothing() {
    let broker = broker_or_return!();
    let job = Job::new(broker, "deciding", "retain = 1").await;
    for nth in [2, 3, 2, 4] {
        job.run_to(&format!("deciding:{nth}"), &["--parallelism", "2"]);
    }
    job.run(&[]).expect(0);
    job.assert_once("deciding");
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_during_a_start_loses_and_repeats_nothing() {
    let broker = broker_or_return!();
    let job = Job::new(broker, "starting", "retain = 2").await;
    assert_eq!(job.run_to("drained:3", &[]).code, None);
    for point in ["initialized", "initialized", "restored", "decided:1"] {
        job.run_to(point, &[]);
    }
    job.run(&[]).expect(0);
    job.assert_once("starting");
}

/// Kills it after random times until it gets through.
fn kill_until_done(job: &Job, seed: u64, parallelism: &[&str]) -> (Ended, usize) {
    let mut random = seed;
    for round in 0.. {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let process = job.start(&["--parallelism", parallelism[round % parallelism.len()]]);
        if round >= 7 {
            return (process.finish(), round);
        }
        std::thread::sleep(Duration::from_millis(250 + (random >> 33) % 450));
        process.signal("KILL");
        let ended = process.finish();
        if ended.code.is_some() {
            return (ended, round);
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_at_random_moments_loses_and_repeats_nothing_at_any_parallelism() {
    let broker = broker_or_return!();
    for (seed, parallelism) in [(1, &["1"][..]), (2, &["3", "2", "1"][..])] {
        let job = Job::new(broker, "random", "retain = 2").await;
        let (ended, kills) = kill_until_done(&job, seed, parallelism);
        ended.expect(0);
        job.assert_once(&format!("seed {seed}, {kills} kills"));
    }
}
