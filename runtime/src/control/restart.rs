//! Whether a pipeline that has failed is started again, and when. Pure: failures in, a decision out.
//!
//! Exponential delay, as Flink calls it: each failure doubles the pause up to a bound, and what lies longer back than
//! `within` is forgotten, so a pipeline that has run well for that long begins with the first pause again. Pauses vary by a
//! tenth, so that pipelines that failed together do not come back together.

use std::time::Duration;

/// How often and how soon a pipeline is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// so many times within [`RestartPolicy::within`]; 0 never
    pub attempts: usize,
    /// failures that are older do not count
    pub within: Duration,
    /// the pause after the first failure
    pub first: Duration,
    /// the longest pause, but for the variation
    pub max: Duration,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// start it again
    Again {
        /// after this time
        pause: Duration,
    },
    /// leave it
    GiveUp {
        /// restarts that there have been within [`RestartPolicy::within`]
        restarts: usize,
    },
}

/// The part of a pause by which it varies at most.
const JITTER: f64 = 0.1;

/// Decides about a failure at `now`; `before` are the times of earlier ones, in any order, and `random` is in 0..1.
pub fn decide(policy: &RestartPolicy, before: &[Duration], now: Duration, random: f64) -> Decision {
    let recent = before.iter().filter(|at| now.saturating_sub(**at) < policy.within).count();
    if recent >= policy.attempts {
        return Decision::GiveUp { restarts: recent };
    }
    let doublings = u32::try_from(recent).unwrap_or(u32::MAX).min(31);
    let pause = policy.first.saturating_mul(1 << doublings).min(policy.max);
    let varied = pause.as_secs_f64() * (1.0 + JITTER * (2.0 * random.clamp(0.0, 1.0) - 1.0));
    Decision::Again { pause: Duration::try_from_secs_f64(varied).unwrap_or(pause) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RestartPolicy = RestartPolicy { attempts: 4, within: s(100), first: s(1), max: s(5) };

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_double_up_to_the_bound_and_failures_that_lie_back_are_forgotten() {
        let again = |seconds| Decision::Again { pause: s(seconds) };
        // failures before, now, decision
        let table: [(&[u64], u64, Decision); 9] = [
            (&[], 7, again(1)),
            (&[7], 8, again(2)),
            (&[7, 8], 10, again(4)),
            (&[7, 8, 10], 14, again(5)),
            (&[7, 8, 10, 14], 19, Decision::GiveUp { restarts: 4 }),
            (&[7, 8, 10, 14], 106, Decision::GiveUp { restarts: 4 }),
            (&[7, 8, 10, 14], 107, again(5)),
            (&[7, 8, 10, 14], 113, again(2)),
            (&[7, 8, 10, 14], 1_000, again(1)),
        ];
        for (before, now, expected) in table {
            let before: Vec<Duration> = before.iter().copied().map(s).collect();
            assert_eq!(decide(&POLICY, &before, s(now), 0.5), expected, "{before:?}, then {now}");
        }
    }

    #[test]
    fn without_attempts_a_failure_is_the_end() {
        let never = RestartPolicy { attempts: 0, ..POLICY };
        assert_eq!(decide(&never, &[], s(1), 0.5), Decision::GiveUp { restarts: 0 });
    }

    #[test]
    fn pauses_vary_by_a_tenth_and_extreme_figures_do_no_harm() {
        let pause =
            |policy: &RestartPolicy, before: usize, random| match decide(policy, &vec![s(1); before], s(2), random) {
                Decision::Again { pause } => pause,
                Decision::GiveUp { .. } => panic!("gave up"),
            };
        assert_eq!(pause(&POLICY, 0, 0.0), Duration::from_millis(900));
        assert_eq!(pause(&POLICY, 0, 1.0), Duration::from_millis(1_100));
        let extreme = RestartPolicy { attempts: usize::MAX, within: Duration::MAX, first: s(1), max: Duration::MAX };
        for before in [31, 32, 33, 200] {
            assert!(pause(&extreme, before, f64::NAN) >= s(1 << 30));
        }
        let extreme = RestartPolicy { first: Duration::MAX, ..extreme };
        assert_eq!(pause(&extreme, 5, 1.0), Duration::MAX);
    }
}
