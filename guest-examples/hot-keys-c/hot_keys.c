/* Partition: keys that bring most of the rows have the first tasks to themselves, one each; the others share the rest. */
#include "millstream.h"

static const ms_field fields[] = {MS_FIELD("key", MS_INT64, false)};

/* so many keys from 0 on are hot */
static int64_t hot;

static bool describe(ms_signature *signature, ms_text *why) {
    ms_setting setting = ms_config(MS_LITERAL("hot"));
    if (!setting.present || setting.kind != MS_SETTING_INT64) {
        *why = MS_LITERAL("`hot` is missing: expected how many keys are hot");
        return false;
    }
    hot = setting.value.int64;
    signature->inputs = MS_FIELDS(fields);
    return true;
}

/* For each row the number of the task that gets it, less than targets. */
static bool route(ms_batch *input, uint32_t targets, ms_uint32s *tasks, ms_failure *why) {
    (void)why;
    const int64_t *keys = input->columns[0].values.int64.ptr;
    int64_t apart = hot < 0 ? 0 : hot < targets ? hot : targets - 1;
    int64_t shared = targets - apart;
    *tasks = (ms_uint32s){ms_alloc((size_t)input->rows * 4), input->rows};
    for (uint32_t row = 0; row < input->rows; row++) {
        int64_t key = keys[row], rest = key % shared;
        if (rest < 0) rest += shared;
        tasks->ptr[row] = (uint32_t)(key >= 0 && key < apart ? key : apart + rest);
    }
    return true;
}

MS_PARTITION(describe, route)
