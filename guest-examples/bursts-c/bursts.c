/* Process: counts the rows of a key that follow each other within a second, and says when there was a pause. */
#include "millstream.h"

enum { N, SUM, UNTIL, STATE_COLUMNS, OVER = UNTIL, OUTPUT_COLUMNS = STATE_COLUMNS };

/* how long a burst goes on without rows, ms */
static const int64_t PAUSE_MS = 1000;

static const ms_field inputs[] = {MS_FIELD("v", MS_INT64, false)};
static const ms_field outputs[] = {MS_FIELD("n", MS_INT64, false), MS_FIELD("sum", MS_INT64, false),
                                   MS_FIELD("over", MS_BOOLEAN, false)};
static const ms_field state[] = {MS_FIELD("n", MS_INT64, false), MS_FIELD("sum", MS_INT64, false),
                                 MS_FIELD("until", MS_INT64, false)};

static bool describe(ms_process_signature *signature, ms_text *why) {
    (void)why;
    signature->inputs = MS_FIELDS(inputs);
    signature->outputs = MS_FIELDS(outputs);
    signature->state_version = 1;
    signature->state = MS_FIELDS(state);
    return true;
}

/* the burst of a key */
typedef struct {
    int64_t n, sum, until;
    int64_t timer; /* that the host has */
    bool open, had_timer;
} burst;

static burst *read_state(const ms_call *call) {
    burst *bursts = ms_alloc(sizeof(burst) * call->present.len);
    uint32_t row = 0;
    for (uint32_t key = 0; key < call->present.len; key++) {
        bursts[key] = (burst){.open = call->present.ptr[key] == 1};
        if (!bursts[key].open) continue;
        bursts[key].n = call->state.columns[N].values.int64.ptr[row];
        bursts[key].sum = call->state.columns[SUM].values.int64.ptr[row];
        bursts[key].until = bursts[key].timer = call->state.columns[UNTIL].values.int64.ptr[row++];
        bursts[key].had_timer = true;
    }
    return bursts;
}

/* State and timers as they are from now on. */
static void write_state(const burst *bursts, const ms_call *call, ms_outcome *output) {
    uint32_t keys = call->present.len, rows = 0;
    output->present = call->present;
    output->state = ms_new_batch(0, STATE_COLUMNS);
    for (uint32_t column = 0; column < STATE_COLUMNS; column++) output->state.columns[column] = ms_new_int64(keys);
    output->deleted = ms_new_timers(keys);
    output->set = ms_new_timers(keys);
    for (uint32_t key = 0; key < keys; key++) {
        const burst *burst = &bursts[key];
        output->present.ptr[key] = burst->open;
        if (!burst->open) continue;
        output->state.columns[N].values.int64.ptr[rows] = burst->n;
        output->state.columns[SUM].values.int64.ptr[rows] = burst->sum;
        output->state.columns[UNTIL].values.int64.ptr[rows++] = burst->until;
        if (burst->had_timer) ms_add_timer(&output->deleted, key, burst->timer, 0);
        ms_add_timer(&output->set, key, burst->until, 0);
    }
    output->state.rows = rows;
    for (uint32_t column = 0; column < STATE_COLUMNS; column++) output->state.columns[column].values.int64.len = rows;
}

static void tell(ms_outcome *output, const burst *burst, uint32_t from, bool over) {
    uint32_t row = output->output.rows++;
    output->origin.ptr[row] = from;
    output->output.columns[N].values.int64.ptr[row] = burst->n;
    output->output.columns[SUM].values.int64.ptr[row] = burst->sum;
    output->output.columns[OVER].values.boolean.ptr[row] = over;
}

static bool process(ms_call *call, ms_outcome *output, ms_failure *why) {
    uint32_t rows = call->input.rows, fired = call->fired.times.len, most = rows + fired;
    burst *bursts = read_state(call);
    output->origin = (ms_uint32s){ms_alloc((size_t)most * 4), 0};
    output->output = ms_new_batch(0, OUTPUT_COLUMNS);
    output->output.columns[N] = ms_new_int64(most);
    output->output.columns[SUM] = ms_new_int64(most);
    output->output.columns[OVER] = (ms_column){.kind = MS_BOOLEAN};
    output->output.columns[OVER].values.boolean.ptr = ms_alloc(most);
    ms_row_failure *failures = ms_alloc(sizeof(ms_row_failure) * rows);
    uint32_t failed = 0;
    for (uint32_t row = 0; row < rows; row++) {
        burst *burst = &bursts[call->groups.ptr[row]];
        int64_t v = call->input.columns[0].values.int64.ptr[row];
        if (v < 0) {
            failures[failed++] = (ms_row_failure){row, MS_LITERAL("v is negative")};
            continue;
        }
        if (!burst->open) burst->n = burst->sum = 0;
        burst->open = true;
        burst->n += 1;
        burst->sum += v;
        burst->until = call->times.ptr[row] + PAUSE_MS;
        tell(output, burst, row, false);
    }
    for (uint32_t timer = 0; timer < fired; timer++) {
        burst *burst = &bursts[call->fired.groups.ptr[timer]];
        if (burst->open) tell(output, burst, timer, true);
        burst->open = false;
    }
    if (failed > 0) {
        why->kind = MS_ROWS_FAILED;
        why->what.rows.ptr = failures;
        why->what.rows.len = failed;
        return false;
    }
    write_state(bursts, call, output);
    uint32_t told = output->origin.len = output->output.rows;
    output->output.columns[N].values.int64.len = output->output.columns[SUM].values.int64.len = told;
    output->output.columns[OVER].values.boolean.len = told;
    return true;
}

MS_PROCESS(describe, process)
