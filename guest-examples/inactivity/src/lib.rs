//! Process: an alert for each user of whom nothing came for `gap_ms` of event time, with the number of rows before.
//!
//! Rows may come out of order. When a timer fires all rows up to its time are there, so what a timer finds does not depend
//! on the order, nor on how often watermarks come.

use millstream_sdk::{Context, List, Packed, Process, Row, Timer};
use serde::Deserialize;

/// The key.
#[derive(Clone, Debug, Row)]
pub struct User {
    pub user: String,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Silence {
    pub user: String,
    pub last: i64,
    pub rows: i64,
}

/// The step's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inactivity {
    gap_ms: i64,
}

#[millstream_sdk::process(config)]
impl Process for Inactivity {
    type Key = User;
    type Input<'a> = ();
    /// times of the rows since the last silence, ascending
    type State = List<i64>;
    type Output = Silence;

    fn on_row(&self, _row: (), state: &mut Option<List<i64>>, context: &mut Context<Self>) {
        let time = context.time();
        let Packed(times) = state.get_or_insert_default();
        times.insert(times.partition_point(|before| *before <= time), time);
        context.set_timer(time.saturating_add(self.gap_ms));
    }

    fn on_timer(&self, timer: Timer, state: &mut Option<List<i64>>, context: &mut Context<Self>) {
        let Some(Packed(times)) = state else { return };
        let last = timer.time - self.gap_ms;
        let before = times.partition_point(|time| *time <= last);
        if before == 0 || times.get(before).is_some_and(|next| *next <= timer.time) {
            return; // the silence was noticed before, or a row has ended it
        }
        times.drain(..before);
        if times.is_empty() {
            *state = None;
        }
        let rows = i64::try_from(before).unwrap_or(i64::MAX);
        context.emit(Silence { user: context.key().user.clone(), last, rows });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing::Processing;

    #[test]
    fn silence_is_noticed_once() {
        let ada = || User { user: "ada".into() };
        let mut inactivity = Processing::<Inactivity>::new(&[("gap_ms", 10.into())]).unwrap();
        for time in [100, 105, 103] {
            inactivity.row(ada(), (), time).unwrap();
        }
        inactivity.watermark(114).unwrap();
        assert_eq!(inactivity.take().unwrap(), []);
        inactivity.watermark(200).unwrap();
        assert_eq!(inactivity.take().unwrap(), [(115, Silence { user: "ada".into(), last: 105, rows: 3 })]);
        assert_eq!(inactivity.held(), (0, 0));
    }
}
