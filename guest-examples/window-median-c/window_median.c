/* Window process: the median of the values of a window, which needs all of them. */
#include "millstream.h"

enum { N, MEDIAN, OUTPUT_COLUMNS };

static const ms_field inputs[] = {MS_FIELD("value", MS_FLOAT64, false)};
static const ms_field outputs[] = {MS_FIELD("n", MS_INT64, false), MS_FIELD("median", MS_FLOAT64, false)};

static bool describe(ms_signature *signature, ms_text *why) {
    (void)why;
    signature->inputs = MS_FIELDS(inputs);
    signature->outputs = MS_FIELDS(outputs);
    return true;
}

static void sink_down(double *heap, uint32_t at, uint32_t count) {
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1] > heap[child]) child++;
        if (heap[at] >= heap[child]) return;
        double larger = heap[child];
        heap[child] = heap[at];
        heap[at] = larger;
    }
}

static void sort(double *values, uint32_t count) {
    for (uint32_t at = count / 2; at-- > 0;) sink_down(values, at, count);
    while (count > 1) {
        double largest = values[0];
        values[0] = values[--count];
        values[count] = largest;
        sink_down(values, 0, count);
    }
}

/* Rows come window by window, and every window has some. */
static bool process(ms_windows *windows, ms_expansion *output, ms_failure *why) {
    (void)why;
    double *values = windows->input.columns[0].values.float64.ptr;
    output->origin = (ms_uint32s){ms_alloc((size_t)windows->windows * 4), windows->windows};
    output->output = ms_new_batch(windows->windows, OUTPUT_COLUMNS);
    output->output.columns[N] = ms_new_int64(windows->windows);
    output->output.columns[MEDIAN] = ms_new_float64(windows->windows);
    for (uint32_t window = 0, first = 0; window < windows->windows; window++) {
        uint32_t last = first;
        while (last < windows->input.rows && windows->groups[last] == window) last++;
        uint32_t count = last - first;
        sort(values + first, count);
        double lower = values[first + (count - 1) / 2], upper = values[first + count / 2];
        output->output.columns[N].values.int64.ptr[window] = count;
        output->output.columns[MEDIAN].values.float64.ptr[window] = lower / 2 + upper / 2;
        output->origin.ptr[window] = window;
        first = last;
    }
    return true;
}

MS_WINDOW_PROCESS(describe, process)
