/* Write Millstream operators in C. One header, no libc: it needs clang and wasm-ld, or zig cc.
 *
 * The structs below are the contract's (wit/types.wit) as they lie in memory, so nothing is converted. Include the
 * header in one file and name the operator's functions there, once, with MS_MAP, MS_FILTER, MS_FLAT_MAP, MS_AGGREGATE,
 * MS_PROCESS, MS_WINDOW_PROCESS or MS_PARTITION (and MS_MIGRATE beside an aggregate or a process):
 *
 *     #include "millstream.h"
 *
 *     static const ms_field line[] = {MS_FIELD("value", MS_TEXT, false)};
 *
 *     static bool describe(ms_signature *signature, ms_text *why) {
 *         (void)why;
 *         signature->inputs = MS_FIELDS(line);
 *         signature->outputs = MS_FIELDS(line);
 *         return true;
 *     }
 *
 *     static bool uppercase(ms_batch *input, ms_batch *output, ms_failure *why) { ... }
 *
 *     MS_MAP(describe, uppercase)
 *
 * A function answers true and fills its result, or answers false and fills `why`.
 *
 * Memory: ms_alloc gives memory that lasts until the result of the call has been read, then all of it is free again.
 * Nothing is ever freed by hand. What is passed in may be changed and handed back. An operator keeps nothing between
 * calls; configuration may be kept in static variables.
 */
#ifndef MILLSTREAM_H
#define MILLSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the contract ---- */

/* UTF-8, not ended by a zero */
typedef struct {
    const char *ptr;
    uint32_t len;
} ms_text;

/* what a column holds */
typedef enum { MS_BOOLEAN, MS_INT64, MS_FLOAT64, MS_TEXT, MS_BINARY, MS_TIMESTAMP_MS } ms_kind;

typedef struct {
    ms_text name;
    uint8_t kind; /* ms_kind */
    bool nullable;
} ms_field;

typedef struct {
    const ms_field *ptr;
    uint32_t len;
} ms_fields;

typedef struct {
    uint8_t *ptr;
    uint32_t len;
} ms_bytes;

typedef struct {
    uint32_t *ptr;
    uint32_t len;
} ms_uint32s;

typedef struct {
    int64_t *ptr;
    uint32_t len;
} ms_int64s;

typedef struct {
    double *ptr;
    uint32_t len;
} ms_float64s;

/* row i is bytes[offsets[i] .. offsets[i + 1]]; there is one offset more than rows */
typedef struct {
    ms_uint32s offsets;
    ms_bytes bytes;
} ms_varlen;

typedef struct {
    uint8_t kind; /* ms_kind: says which of these it is */
    union {
        ms_bytes boolean;
        ms_int64s int64; /* also timestamps */
        ms_float64s float64;
        ms_varlen varlen; /* text and binary */
    } values;
    bool has_validity; /* false: no row is null */
    ms_bytes validity; /* one byte a row: 0 is null */
} ms_column;

typedef struct {
    uint32_t rows;
    ms_column *columns;
    uint32_t columns_len;
} ms_batch;

typedef struct {
    ms_fields inputs;
    ms_fields outputs;
    bool has_state; /* aggregates only */
    uint32_t state_version;
    ms_fields state;
} ms_signature;

typedef struct {
    uint32_t row;
    ms_text reason;
} ms_row_failure;

typedef struct {
    enum { MS_ROWS_FAILED, MS_BATCH_FAILED, MS_RETRY } kind;
    union {
        struct {
            ms_row_failure *ptr;
            uint32_t len;
        } rows;
        ms_text reason; /* MS_BATCH_FAILED, MS_RETRY */
    } what;
} ms_failure;

typedef struct {
    ms_uint32s origin;
    ms_batch output;
} ms_expansion;

/* an output of a processor beside its own */
typedef struct {
    ms_text name;
    ms_fields fields;
} ms_side_output;

typedef struct {
    ms_fields inputs;
    bool has_second_inputs; /* false: one input */
    ms_fields second_inputs;
    ms_fields keys; /* key columns that the operator wants to know */
    ms_fields outputs;
    struct {
        const ms_side_output *ptr;
        uint32_t len;
    } sides;
    uint32_t state_version; /* from 1 */
    ms_fields state;
} ms_process_signature;

/* timer i is of key groups[i], at times[i]; clocks[i] is 0 for event time and 1 for processing time */
typedef struct {
    ms_uint32s groups;
    ms_int64s times;
    ms_bytes clocks;
} ms_timers;

/* What a processor has to do: rows of one input, or timers that are due (wit/processor.wit says what each means). */
typedef struct {
    int64_t now;
    int64_t watermark;
    ms_batch keys;
    ms_bytes present; /* one byte a key: 1 where it has state */
    ms_batch state;   /* a row for each of these */
    uint32_t port;
    ms_uint32s groups; /* the key of each row */
    ms_int64s times;
    ms_batch input;
    ms_timers fired;
} ms_call;

typedef struct {
    uint32_t side;
    ms_uint32s origin;
    ms_batch output;
} ms_side_rows;

typedef struct {
    ms_bytes present;
    ms_batch state;
    ms_uint32s origin;
    ms_batch output;
    struct {
        ms_side_rows *ptr;
        uint32_t len;
    } sides;
    ms_timers deleted;
    ms_timers set;
} ms_outcome;

/* state of another version: all its fields, in their order */
typedef struct {
    uint32_t version;
    ms_fields fields;
} ms_state_schema;

typedef struct {
    const ms_state_schema *ptr;
    uint32_t len;
} ms_state_schemas;

/* All rows of some windows, window by window: row j is of window groups[j]. */
typedef struct {
    uint32_t windows;
    const int64_t *starts;
    const int64_t *ends;
    const uint32_t *groups;
    const int64_t *times;
    ms_batch input;
} ms_windows;

#define MS_LITERAL(text) ((ms_text){(text), sizeof(text) - 1})
#define MS_FIELD(name, kind, nullable) {{(name), sizeof(name) - 1}, (kind), (nullable)}
#define MS_FIELDS(array) ((ms_fields){(array), sizeof(array) / sizeof((array)[0])})
/* as the value of a static array of sources: {1, MS_STATE(fields of version 1)} */
#define MS_STATE(array) {(array), sizeof(array) / sizeof((array)[0])}

_Static_assert(sizeof(void *) == 4, "operators are built for wasm32");
_Static_assert(sizeof(ms_field) == 12 && sizeof(ms_column) == 32 && sizeof(ms_batch) == 12, "as the contract lays it out");
_Static_assert(sizeof(ms_signature) == 32 && sizeof(ms_failure) == 12, "as the contract lays it out");

_Static_assert(sizeof(ms_process_signature) == 56 && sizeof(ms_side_output) == 16, "as the contract lays it out");
_Static_assert(sizeof(ms_call) == 104 && sizeof(ms_outcome) == 96 && sizeof(ms_side_rows) == 24, "as the contract lays it out");
_Static_assert(sizeof(ms_state_schema) == 12, "as the contract lays it out");

/* ---- memory: an arena that each call starts anew ---- */

extern unsigned char __heap_base;
static uintptr_t ms_arena_next;

/* Memory for this call, aligned to 16. Traps where there is no more, which fails the call. */
static inline void *ms_alloc(size_t size) {
    if (ms_arena_next == 0) ms_arena_next = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
    uintptr_t start = ms_arena_next;
    if (size > UINT32_MAX - 65536 - start) __builtin_trap();
    uintptr_t end = (start + size + 15) & ~(uintptr_t)15;
    size_t have = __builtin_wasm_memory_size(0) << 16;
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535) >> 16) == SIZE_MAX) __builtin_trap();
    ms_arena_next = end;
    return (void *)start;
}

static inline void ms_free_all(void) { ms_arena_next = 0; }

/* The compiler may call these whatever flags it is given. Where they are not inlined, so they become one instruction. */
__attribute__((weak)) void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    __builtin_memcpy(to, from, size);
    return to;
}
__attribute__((weak)) void *memmove(void *to, const void *from, size_t size) {
    __builtin_memmove(to, from, size);
    return to;
}
__attribute__((weak)) void *memset(void *to, int byte, size_t size) {
    __builtin_memset(to, byte, size);
    return to;
}
__attribute__((weak)) int memcmp(const void *left, const void *right, size_t size) {
    const unsigned char *a = left, *b = right;
    for (size_t i = 0; i < size; i++)
        if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
    return 0;
}

__attribute__((export_name("cabi_realloc"))) void *ms_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)align;
    if (size <= old_size) return old;
    void *fresh = ms_alloc(size);
    if (old_size != 0) memcpy(fresh, old, old_size);
    return fresh;
}

/* ---- columns ---- */

static inline ms_column ms_new_int64(uint32_t rows) {
    ms_column column = {.kind = MS_INT64};
    column.values.int64 = (ms_int64s){ms_alloc((size_t)rows * 8), rows};
    return column;
}

static inline ms_column ms_new_float64(uint32_t rows) {
    ms_column column = {.kind = MS_FLOAT64};
    column.values.float64 = (ms_float64s){ms_alloc((size_t)rows * 8), rows};
    return column;
}

static inline ms_column ms_new_timestamp_ms(uint32_t rows) {
    ms_column column = ms_new_int64(rows);
    column.kind = MS_TIMESTAMP_MS;
    return column;
}

/* Lets the column have nulls; all rows are there until validity.ptr[row] = 0. */
static inline void ms_allow_nulls(ms_column *column, uint32_t rows) {
    column->has_validity = true;
    column->validity = (ms_bytes){ms_alloc(rows), rows};
    memset(column->validity.ptr, 1, rows);
}

static inline bool ms_is_null(const ms_column *column, uint32_t row) {
    return column->has_validity && column->validity.ptr[row] == 0;
}

/* The text or bytes of a row. */
static inline ms_text ms_get_text(const ms_column *column, uint32_t row) {
    const uint32_t *offsets = column->values.varlen.offsets.ptr;
    const char *bytes = (const char *)column->values.varlen.bytes.ptr;
    return (ms_text){bytes + offsets[row], offsets[row + 1] - offsets[row]};
}

/* An uninitialised array of columns as a batch. */
static inline ms_batch ms_new_batch(uint32_t rows, uint32_t columns) {
    return (ms_batch){rows, ms_alloc(sizeof(ms_column) * columns), columns};
}

/* Room for at most so many timers; there are none yet. */
static inline ms_timers ms_new_timers(uint32_t most) {
    return (ms_timers){{ms_alloc((size_t)most * 4), 0}, {ms_alloc((size_t)most * 8), 0}, {ms_alloc(most), 0}};
}

static inline void ms_add_timer(ms_timers *timers, uint32_t group, int64_t time, uint8_t clock) {
    timers->groups.ptr[timers->groups.len++] = group;
    timers->times.ptr[timers->times.len++] = time;
    timers->clocks.ptr[timers->clocks.len++] = clock;
}

static inline bool ms_fail(ms_failure *why, ms_text reason) {
    why->kind = MS_BATCH_FAILED;
    why->what.reason = reason;
    return false;
}

/* ---- what an operator may ask of the runtime ---- */

typedef enum { MS_LOG_TRACE, MS_LOG_DEBUG, MS_LOG_INFO, MS_LOG_WARN, MS_LOG_ERROR } ms_log_level;

#define MS_HOST_(interface, name) \
    __attribute__((import_module("millstream:operator/" interface "@0.1.0"), import_name(name))) extern

MS_HOST_("host", "log") void ms_host_log(uint32_t level, const char *ptr, uint32_t len);
MS_HOST_("host", "counter") void ms_host_counter(const char *ptr, uint32_t len, uint64_t delta);
MS_HOST_("host", "gauge") void ms_host_gauge(const char *ptr, uint32_t len, double value);

static inline void ms_log(ms_log_level level, ms_text line) { ms_host_log(level, line.ptr, line.len); }
static inline void ms_counter(ms_text name, uint64_t delta) { ms_host_counter(name.ptr, name.len, delta); }
static inline void ms_gauge(ms_text name, double value) { ms_host_gauge(name.ptr, name.len, value); }

typedef enum { MS_SETTING_BOOLEAN, MS_SETTING_INT64, MS_SETTING_FLOAT64, MS_SETTING_TEXT } ms_setting_kind;

/* A setting of the step's configuration. Text lasts as long as what ms_alloc gives. */
typedef struct {
    uint8_t present; /* 0: the pipeline does not set it */
    uint8_t unused_[7];
    uint8_t kind; /* ms_setting_kind */
    uint8_t unused2_[7];
    union {
        bool boolean;
        int64_t int64;
        double float64;
        ms_text text;
    } value;
} ms_setting;

_Static_assert(sizeof(ms_setting) == 24, "as the contract lays it out");

MS_HOST_("config", "get") void ms_config_get(const char *ptr, uint32_t len, ms_setting *setting);

static inline ms_setting ms_config(ms_text name) {
    ms_setting setting;
    ms_config_get(name.ptr, name.len, &setting);
    return setting;
}

/* ---- exports ---- */

/* a result: tag 0 is success; the payload is what the tag says */
#define MS_RESULT_(name, type) \
    typedef struct { \
        uint8_t failed; \
        union { \
            type value; \
            ms_failure failure; \
            ms_text refused; \
        } u; \
    } name

MS_RESULT_(ms_describe_result, ms_signature);
MS_RESULT_(ms_batch_result, ms_batch);
MS_RESULT_(ms_bytes_result, ms_bytes);
MS_RESULT_(ms_uint32s_result, ms_uint32s);
MS_RESULT_(ms_expansion_result, ms_expansion);
MS_RESULT_(ms_describe_process_result, ms_process_signature);
MS_RESULT_(ms_outcome_result, ms_outcome);
MS_RESULT_(ms_sources_result, ms_state_schemas);

#define MS_EXPORT_(name) __attribute__((export_name("millstream:operator/" name)))
#define MS_FREE_(symbol, name) \
    __attribute__((export_name("cabi_post_millstream:operator/" name))) void symbol(void *result) { \
        (void)result; \
        ms_free_all(); \
    }

#define MS_DESCRIBE_(interface, describe) MS_DESCRIBE_AS_(interface, describe, ms_describe_result, ms_signature)

#define MS_DESCRIBE_AS_(interface, describe, result_type, signature_type) \
    MS_EXPORT_(interface "#describe") result_type *ms_export_describe(void) { \
        static result_type result; \
        result = (result_type){0}; \
        ms_text why = {"the configuration is refused", 28}; \
        signature_type signature = {0}; \
        result.failed = !describe(&signature, &why); \
        if (result.failed) result.u.refused = why; \
        else result.u.value = signature; \
        return &result; \
    } \
    MS_FREE_(ms_free_describe, interface "#describe")

/* Fills a static result from a call that answers whether it went well. */
#define MS_ANSWER_(type, value_type, call) \
    static type result; \
    value_type output = {0}; \
    ms_failure failure = {.kind = MS_BATCH_FAILED, .what.reason = {"failed", 6}}; \
    ms_failure *why = &failure; \
    result.failed = !(call); \
    if (result.failed) result.u.failure = failure; \
    else result.u.value = output; \
    return &result

/* bool transform(ms_batch *input, ms_batch *output, ms_failure *why) */
#define MS_MAP(describe, transform) \
    MS_DESCRIBE_("mapper@0.1.0", describe) \
    MS_EXPORT_("mapper@0.1.0#transform") \
    ms_batch_result *ms_export_transform(uint32_t rows, ms_column *columns, uint32_t len) { \
        ms_batch input = {rows, columns, len}; \
        MS_ANSWER_(ms_batch_result, ms_batch, transform(&input, &output, why)); \
    } \
    MS_FREE_(ms_free_transform, "mapper@0.1.0#transform")

/* bool select(ms_batch *input, ms_bytes *keep, ms_failure *why): one byte a row, 1 keeps it */
#define MS_FILTER(describe, select) \
    MS_DESCRIBE_("filter@0.1.0", describe) \
    MS_EXPORT_("filter@0.1.0#select") \
    ms_bytes_result *ms_export_select(uint32_t rows, ms_column *columns, uint32_t len) { \
        ms_batch input = {rows, columns, len}; \
        MS_ANSWER_(ms_bytes_result, ms_bytes, select(&input, &output, why)); \
    } \
    MS_FREE_(ms_free_select, "filter@0.1.0#select")

/* bool route(ms_batch *input, uint32_t targets, ms_uint32s *output, ms_failure *why): one number a row, less than targets */
#define MS_PARTITION(describe, route) \
    MS_DESCRIBE_("partitioner@0.1.0", describe) \
    MS_EXPORT_("partitioner@0.1.0#route") \
    ms_uint32s_result *ms_export_route(uint32_t rows, ms_column *columns, uint32_t len, uint32_t targets) { \
        ms_batch input = {rows, columns, len}; \
        MS_ANSWER_(ms_uint32s_result, ms_uint32s, route(&input, targets, &output, why)); \
    } \
    MS_FREE_(ms_free_route, "partitioner@0.1.0#route")

/* bool expand(ms_batch *input, ms_expansion *output, ms_failure *why) */
#define MS_FLAT_MAP(describe, expand) \
    MS_DESCRIBE_("flat-mapper@0.1.0", describe) \
    MS_EXPORT_("flat-mapper@0.1.0#expand") \
    ms_expansion_result *ms_export_expand(uint32_t rows, ms_column *columns, uint32_t len) { \
        ms_batch input = {rows, columns, len}; \
        MS_ANSWER_(ms_expansion_result, ms_expansion, expand(&input, &output, why)); \
    } \
    MS_FREE_(ms_free_expand, "flat-mapper@0.1.0#expand")

/* bool create(ms_batch *output, ms_failure *why)
 * bool accumulate(const uint32_t *groups, ms_batch *accumulators, ms_batch *input, ms_batch *output, ms_failure *why)
 * bool merge(ms_batch *left, ms_batch *right, ms_batch *output, ms_failure *why)
 * bool finish(ms_batch *accumulators, ms_batch *output, ms_failure *why) */
#define MS_AGGREGATE(describe, create, accumulate, merge, finish) \
    MS_DESCRIBE_("aggregator@0.1.0", describe) \
    MS_EXPORT_("aggregator@0.1.0#create") ms_batch_result *ms_export_create(void) { \
        MS_ANSWER_(ms_batch_result, ms_batch, create(&output, why)); \
    } \
    MS_FREE_(ms_free_create, "aggregator@0.1.0#create") \
    MS_EXPORT_("aggregator@0.1.0#accumulate") \
    ms_batch_result *ms_export_accumulate(const uint32_t *groups, uint32_t groups_len, uint32_t rows, ms_column *columns, \
                                          uint32_t len, uint32_t input_rows, ms_column *input_columns, \
                                          uint32_t input_len) { \
        (void)groups_len; \
        ms_batch accumulators = {rows, columns, len}; \
        ms_batch input = {input_rows, input_columns, input_len}; \
        MS_ANSWER_(ms_batch_result, ms_batch, accumulate(groups, &accumulators, &input, &output, why)); \
    } \
    MS_FREE_(ms_free_accumulate, "aggregator@0.1.0#accumulate") \
    MS_EXPORT_("aggregator@0.1.0#merge") \
    ms_batch_result *ms_export_merge(uint32_t rows, ms_column *columns, uint32_t len, uint32_t right_rows, \
                                     ms_column *right_columns, uint32_t right_len) { \
        ms_batch left = {rows, columns, len}; \
        ms_batch right = {right_rows, right_columns, right_len}; \
        MS_ANSWER_(ms_batch_result, ms_batch, merge(&left, &right, &output, why)); \
    } \
    MS_FREE_(ms_free_merge, "aggregator@0.1.0#merge") \
    MS_EXPORT_("aggregator@0.1.0#finish") \
    ms_batch_result *ms_export_finish(uint32_t rows, ms_column *columns, uint32_t len) { \
        ms_batch accumulators = {rows, columns, len}; \
        MS_ANSWER_(ms_batch_result, ms_batch, finish(&accumulators, &output, why)); \
    } \
    MS_FREE_(ms_free_finish, "aggregator@0.1.0#finish")

/* bool describe(ms_process_signature *signature, ms_text *why)
 * bool process(ms_call *call, ms_outcome *output, ms_failure *why): present and state of the call may be handed back */
#define MS_PROCESS(describe, process) \
    MS_DESCRIBE_AS_("processor@0.1.0", describe, ms_describe_process_result, ms_process_signature) \
    MS_EXPORT_("processor@0.1.0#process") ms_outcome_result *ms_export_process(ms_call *call) { \
        MS_ANSWER_(ms_outcome_result, ms_outcome, process(call, &output, why)); \
    } \
    MS_FREE_(ms_free_process, "processor@0.1.0#process")

/* bool process(ms_windows *windows, ms_expansion *output, ms_failure *why): origin numbers windows */
#define MS_WINDOW_PROCESS(describe, process) \
    MS_DESCRIBE_("window-processor@0.1.0", describe) \
    MS_EXPORT_("window-processor@0.1.0#process") \
    ms_expansion_result *ms_export_process(const int64_t *starts, uint32_t starts_len, const int64_t *ends, \
                                           uint32_t ends_len, const uint32_t *groups, uint32_t groups_len, \
                                           const int64_t *times, uint32_t times_len, uint32_t rows, ms_column *columns, \
                                           uint32_t len) { \
        (void)ends_len, (void)groups_len, (void)times_len; \
        ms_windows windows = {starts_len, starts, ends, groups, times, {rows, columns, len}}; \
        MS_ANSWER_(ms_expansion_result, ms_expansion, process(&windows, &output, why)); \
    } \
    MS_FREE_(ms_free_process, "window-processor@0.1.0#process")

/* Beside MS_AGGREGATE or MS_PROCESS: the operator takes over state of other versions (wit/migrator.wit).
 * bool sources(ms_state_schemas *sources, ms_text *why): the states that it knows beside its own
 * bool migrate(uint32_t from, ms_batch *state, ms_batch *output, ms_failure *why): row i of the answer is what row i becomes;
 * `from` is a version of sources, and state has its fields */
#define MS_MIGRATE(sources, migrate) \
    MS_EXPORT_("migrator@0.1.0#sources") ms_sources_result *ms_export_sources(void) { \
        static ms_sources_result result; \
        result = (ms_sources_result){0}; \
        ms_text why = {"the configuration is refused", 28}; \
        ms_state_schemas known = {0}; \
        result.failed = !sources(&known, &why); \
        if (result.failed) result.u.refused = why; \
        else result.u.value = known; \
        return &result; \
    } \
    MS_FREE_(ms_free_sources, "migrator@0.1.0#sources") \
    MS_EXPORT_("migrator@0.1.0#migrate") \
    ms_batch_result *ms_export_migrate(uint32_t from, uint32_t rows, ms_column *columns, uint32_t len) { \
        ms_batch state = {rows, columns, len}; \
        MS_ANSWER_(ms_batch_result, ms_batch, migrate(from, &state, &output, why)); \
    } \
    MS_FREE_(ms_free_migrate, "migrator@0.1.0#migrate")

#endif
