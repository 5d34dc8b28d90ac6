/* Aggregate: the mean of `value`. The accumulator is a sum and a count; without rows the mean is null. */
#include "millstream.h"

enum { SUM, COUNT, ACCUMULATOR_COLUMNS };

static const ms_field inputs[] = {MS_FIELD("value", MS_FLOAT64, false)};
static const ms_field outputs[] = {MS_FIELD("mean", MS_FLOAT64, true)};
static const ms_field state[] = {MS_FIELD("sum", MS_FLOAT64, false), MS_FIELD("count", MS_INT64, false)};

static bool describe(ms_signature *signature, ms_text *why) {
    (void)why;
    signature->inputs = MS_FIELDS(inputs);
    signature->outputs = MS_FIELDS(outputs);
    signature->has_state = true;
    signature->state_version = 1;
    signature->state = MS_FIELDS(state);
    return true;
}

static bool create(ms_batch *output, ms_failure *why) {
    (void)why;
    *output = ms_new_batch(1, ACCUMULATOR_COLUMNS);
    output->columns[SUM] = ms_new_float64(1);
    output->columns[SUM].values.float64.ptr[0] = 0;
    output->columns[COUNT] = ms_new_int64(1);
    output->columns[COUNT].values.int64.ptr[0] = 0;
    return true;
}

static bool accumulate(const uint32_t *groups, ms_batch *accumulators, ms_batch *input, ms_batch *output,
                       ms_failure *why) {
    (void)why;
    const double *values = input->columns[0].values.float64.ptr;
    double *sums = accumulators->columns[SUM].values.float64.ptr;
    int64_t *counts = accumulators->columns[COUNT].values.int64.ptr;
    for (uint32_t row = 0; row < input->rows; row++) {
        sums[groups[row]] += values[row];
        counts[groups[row]] += 1;
    }
    *output = *accumulators;
    return true;
}

static bool merge(ms_batch *left, ms_batch *right, ms_batch *output, ms_failure *why) {
    (void)why;
    for (uint32_t i = 0; i < left->rows; i++) {
        left->columns[SUM].values.float64.ptr[i] += right->columns[SUM].values.float64.ptr[i];
        left->columns[COUNT].values.int64.ptr[i] += right->columns[COUNT].values.int64.ptr[i];
    }
    *output = *left;
    return true;
}

static bool finish(ms_batch *accumulators, ms_batch *output, ms_failure *why) {
    (void)why;
    uint32_t rows = accumulators->rows;
    const double *sums = accumulators->columns[SUM].values.float64.ptr;
    const int64_t *counts = accumulators->columns[COUNT].values.int64.ptr;
    *output = ms_new_batch(rows, 1);
    ms_column *mean = &output->columns[0];
    *mean = ms_new_float64(rows);
    ms_allow_nulls(mean, rows);
    for (uint32_t i = 0; i < rows; i++) {
        mean->validity.ptr[i] = counts[i] > 0;
        mean->values.float64.ptr[i] = counts[i] > 0 ? sums[i] / (double)counts[i] : 0;
    }
    return true;
}

MS_AGGREGATE(describe, create, accumulate, merge, finish)
