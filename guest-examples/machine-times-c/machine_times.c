/* Watermark assigner: machines report in seconds of their own clock, and say when nothing follows for a second.
 *
 * An assigner is a map whose columns are `event_time` and, if it knows, `watermark`. A row without an event time is a bad
 * record; a row without a watermark says nothing about those that follow. */
#include "millstream.h"

enum { SECONDS, COMPLETE };
enum { EVENT_TIME, WATERMARK, OUTPUT_COLUMNS };

static const ms_field inputs[] = {MS_FIELD("seconds", MS_INT64, true), MS_FIELD("complete", MS_BOOLEAN, true)};
static const ms_field outputs[] = {MS_FIELD("event_time", MS_TIMESTAMP_MS, true), MS_FIELD("watermark", MS_TIMESTAMP_MS, true)};

static bool describe(ms_signature *signature, ms_text *why) {
    (void)why;
    signature->inputs = MS_FIELDS(inputs);
    signature->outputs = MS_FIELDS(outputs);
    return true;
}

/* Seconds to milliseconds; a complete second ends with its last millisecond. */
static bool transform(ms_batch *input, ms_batch *output, ms_failure *why) {
    (void)why;
    const ms_column *seconds = &input->columns[SECONDS], *complete = &input->columns[COMPLETE];
    *output = ms_new_batch(input->rows, OUTPUT_COLUMNS);
    ms_column *times = &output->columns[EVENT_TIME], *watermarks = &output->columns[WATERMARK];
    *times = ms_new_timestamp_ms(input->rows);
    *watermarks = ms_new_timestamp_ms(input->rows);
    ms_allow_nulls(times, input->rows);
    ms_allow_nulls(watermarks, input->rows);
    for (uint32_t row = 0; row < input->rows; row++) {
        int64_t second = seconds->values.int64.ptr[row];
        bool known = !ms_is_null(seconds, row) && second <= INT64_MAX / 1000 && second >= INT64_MIN / 1000;
        int64_t start = known ? second * 1000 : 0;
        bool ended = known && !ms_is_null(complete, row) && complete->values.boolean.ptr[row] && start <= INT64_MAX - 999;
        times->validity.ptr[row] = known;
        times->values.int64.ptr[row] = start;
        watermarks->validity.ptr[row] = ended;
        watermarks->values.int64.ptr[row] = ended ? start + 999 : 0;
    }
    return true;
}

MS_MAP(describe, transform)
