/* Map: the text of `value` with its ASCII letters in upper case; other characters stay as they are.
 *
 * The batch is changed in place and handed back: the loop runs over the bytes of all rows at once. */
#include "millstream.h"

static const ms_field line[] = {MS_FIELD("value", MS_TEXT, false)};

static bool describe(ms_signature *signature, ms_text *why) {
    (void)why;
    signature->inputs = MS_FIELDS(line);
    signature->outputs = MS_FIELDS(line);
    return true;
}

static bool uppercase(ms_batch *input, ms_batch *output, ms_failure *why) {
    (void)why;
    /* Locals: a store through uint8_t* could change the struct that holds the length, which would keep the loop scalar. */
    uint8_t *bytes = input->columns[0].values.varlen.bytes.ptr;
    uint32_t length = input->columns[0].values.varlen.bytes.len;
    for (uint32_t i = 0; i < length; i++) bytes[i] -= (uint8_t)(bytes[i] - 'a') < 26 ? 'a' - 'A' : 0;
    *output = *input;
    return true;
}

MS_MAP(describe, uppercase)
