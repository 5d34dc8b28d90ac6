/* Aggregate for tests of migrations: what `migrate-sum-1` has counted, and beside it what this version counts. */
#include "millstream.h"

enum { OLD_ROWS, OLD_SUM, ROWS, SUM, STATE_COLUMNS };
enum { ROWS_1, SUM_1, STATE_COLUMNS_1 };

static const ms_field inputs[] = {MS_FIELD("amount", MS_INT64, false)};
static const ms_field outputs[] = {
    MS_FIELD("rows_1", MS_INT64, false),
    MS_FIELD("sum_1", MS_INT64, false),
    MS_FIELD("rows_2", MS_INT64, false),
    MS_FIELD("sum_2", MS_INT64, false),
};
static const ms_field state[] = {
    MS_FIELD("old_rows", MS_INT64, false),
    MS_FIELD("old_sum", MS_INT64, false),
    MS_FIELD("rows", MS_INT64, false),
    MS_FIELD("sum", MS_INT64, false),
};
static const ms_field state_1[] = {MS_FIELD("rows", MS_INT64, false), MS_FIELD("sum", MS_INT64, false)};
static const ms_state_schema known[] = {{1, MS_STATE(state_1)}};

static bool describe(ms_signature *signature, ms_text *why) {
    (void)why;
    signature->inputs = MS_FIELDS(inputs);
    signature->outputs = MS_FIELDS(outputs);
    signature->has_state = true;
    signature->state_version = 2;
    signature->state = MS_FIELDS(state);
    return true;
}

static int64_t *numbers(const ms_batch *batch, uint32_t column) { return batch->columns[column].values.int64.ptr; }

/* Columns of zeros. */
static ms_batch zeros(uint32_t rows) {
    ms_batch batch = ms_new_batch(rows, STATE_COLUMNS);
    for (uint32_t column = 0; column < STATE_COLUMNS; column++) {
        batch.columns[column] = ms_new_int64(rows);
        memset(numbers(&batch, column), 0, (size_t)rows * 8);
    }
    return batch;
}

static bool create(ms_batch *output, ms_failure *why) {
    (void)why;
    *output = zeros(1);
    return true;
}

static bool accumulate(const uint32_t *groups, ms_batch *accumulators, ms_batch *input, ms_batch *output,
                       ms_failure *why) {
    (void)why;
    for (uint32_t row = 0; row < input->rows; row++) {
        numbers(accumulators, ROWS)[groups[row]] += 1;
        numbers(accumulators, SUM)[groups[row]] += numbers(input, 0)[row];
    }
    *output = *accumulators;
    return true;
}

static bool merge(ms_batch *left, ms_batch *right, ms_batch *output, ms_failure *why) {
    (void)why;
    for (uint32_t column = 0; column < STATE_COLUMNS; column++)
        for (uint32_t i = 0; i < left->rows; i++) numbers(left, column)[i] += numbers(right, column)[i];
    *output = *left;
    return true;
}

/* What is kept is what comes out. */
static bool finish(ms_batch *accumulators, ms_batch *output, ms_failure *why) {
    (void)why;
    *output = *accumulators;
    return true;
}

static bool sources(ms_state_schemas *sources, ms_text *why) {
    (void)why;
    *sources = (ms_state_schemas){known, sizeof(known) / sizeof(known[0])};
    return true;
}

/* What version 1 has seen stays its own. */
static bool migrate(uint32_t from, ms_batch *older, ms_batch *output, ms_failure *why) {
    if (from != 1 || older->columns_len != STATE_COLUMNS_1) return ms_fail(why, MS_LITERAL("expected state of version 1"));
    *output = zeros(older->rows);
    output->columns[OLD_ROWS] = older->columns[ROWS_1];
    output->columns[OLD_SUM] = older->columns[SUM_1];
    return true;
}

MS_AGGREGATE(describe, create, accumulate, merge, finish)
MS_MIGRATE(sources, migrate)
