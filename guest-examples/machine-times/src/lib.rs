//! Watermark assigner: machines report in seconds of their own clock, and say when nothing follows for a second.
//!
//! An assigner is a map whose columns are `event_time` and, if it knows, `watermark`. A row without an event time is a bad
//! record; a row without a watermark says nothing about those that follow.

use millstream_sdk::{Row, Timestamp};

/// What a machine reports.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Report {
    /// its clock; broken ones send none
    pub seconds: Option<i64>,
    /// nothing more comes for this second or an earlier one
    pub complete: Option<bool>,
}

/// When it happened, and what is complete.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Times {
    /// milliseconds since 1970
    pub event_time: Option<Timestamp>,
    /// no more rows at or before this time
    pub watermark: Option<Timestamp>,
}

/// Seconds to milliseconds; a complete second ends with its last millisecond.
#[millstream_sdk::map]
pub fn machine_times(report: Report) -> Times {
    let start_ms = report.seconds.and_then(|seconds| seconds.checked_mul(1_000));
    let complete = start_ms.filter(|_| report.complete == Some(true));
    Times {
        event_time: start_ms.map(Timestamp),
        watermark: complete.and_then(|start_ms| start_ms.checked_add(999)).map(Timestamp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn only_complete_seconds_are_watermarks() {
        let report = |seconds, complete| Report { seconds, complete };
        let reports = [report(Some(7), None), report(Some(7), Some(true)), report(None, Some(true))];
        let times = testing::map::<machine_times, _, Times>(&[], reports).unwrap().to_rows().unwrap();
        let at = |ms| Some(Timestamp(ms));
        assert_eq!(times[0], Times { event_time: at(7_000), watermark: None });
        assert_eq!(times[1], Times { event_time: at(7_000), watermark: at(7_999) });
        assert_eq!(times[2], Times { event_time: None, watermark: None });
    }
}
