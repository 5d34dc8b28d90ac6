//go:build wasip1

package millstream

import "unsafe"

// What follows is the canonical ABI of wasm32: addresses and lengths are 32 bits wide, though Go's are 64.
// The packages of the operator kinds call it; operators do not.

// kept holds on to the memory that the host was given or will read, so that the collector, which does not move
// anything, leaves it where it is. A call's memory is dropped when its result has been read.
var kept []any

// room is what the last call's list grew to, so that the next need not grow.
const room = 64

//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if size <= oldSize {
		return old
	}
	// whole words: aligned to 8, which is the most that the contract needs
	words := make([]uint64, (size+7)/8)
	kept = append(kept, words)
	start := unsafe.Pointer(unsafe.SliceData(words))
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(start), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return start
}

// Free drops the memory of a call whose result has been read.
func Free() {
	if cap(kept) > room {
		kept = make([]any, 0, room)
		return
	}
	clear(kept)
	kept = kept[:0]
}

// Columns is a list of columns as the host passes it.
type Columns = unsafe.Pointer

type list struct{ ptr, len uint32 }

type column struct {
	kind     uint8
	first    list // the values; offsets of text and binary
	second   list // bytes of text and binary
	hasNulls uint8
	validity list
}

type field struct {
	name     list
	kind     uint8
	nullable bool
}

func pointer(address uint32) unsafe.Pointer { return unsafe.Pointer(uintptr(address)) }

func address(p unsafe.Pointer) uint32 { return uint32(uintptr(p)) }

func slice[T any](l list) []T { return unsafe.Slice((*T)(pointer(l.ptr)), int(l.len)) }

func lower[T any](values []T) list {
	if len(values) == 0 {
		return list{ptr: 8} // aligned, and never read
	}
	kept = append(kept, values)
	return list{address(unsafe.Pointer(unsafe.SliceData(values))), uint32(len(values))}
}

func lowerText(text string) list { return lower([]byte(text)) }

// Groups is a list of group numbers as the host passes it.
func Groups(start unsafe.Pointer, length uint32) []uint32 {
	return unsafe.Slice((*uint32)(start), int(length))
}

// Lift reads a batch that the host passes. Its slices are the memory that the host wrote.
func Lift(rows uint32, columns Columns, length uint32) *Batch {
	batch := &Batch{Rows: int(rows), Columns: make([]Column, length)}
	for i, raw := range unsafe.Slice((*column)(columns), int(length)) {
		lifted := &batch.Columns[i]
		lifted.Kind = Kind(raw.kind)
		switch lifted.Kind {
		case Boolean:
			lifted.Booleans = slice[byte](raw.first)
		case Int64, TimestampMs:
			lifted.Int64s = slice[int64](raw.first)
		case Float64:
			lifted.Float64s = slice[float64](raw.first)
		case Text, Binary:
			lifted.Varlen = Varlen{slice[uint32](raw.first), slice[byte](raw.second)}
		}
		if raw.hasNulls != 0 {
			lifted.Validity = slice[byte](raw.validity)
		}
	}
	return batch
}

// Result is where the answer of a call lies.
type Result = unsafe.Pointer

func keep[T any](value *T) Result {
	kept = append(kept, value)
	return unsafe.Pointer(value)
}

type rawBatch struct {
	rows    uint32
	columns list
}

func lowerBatch(batch *Batch) rawBatch {
	columns := make([]column, len(batch.Columns))
	for i := range batch.Columns {
		given := &batch.Columns[i]
		raw := &columns[i]
		raw.kind = uint8(given.Kind)
		switch given.Kind {
		case Boolean:
			raw.first = lower(given.Booleans)
		case Int64, TimestampMs:
			raw.first = lower(given.Int64s)
		case Float64:
			raw.first = lower(given.Float64s)
		case Text, Binary:
			offsets := given.Varlen.Offsets
			if len(offsets) == 0 {
				offsets = []uint32{0}
			}
			raw.first, raw.second = lower(offsets), lower(given.Varlen.Bytes)
		}
		if given.Validity != nil {
			raw.hasNulls, raw.validity = 1, lower(given.Validity)
		}
	}
	return rawBatch{uint32(batch.Rows), lower(columns)}
}

// Describe answers describe: the signature, or why the configuration is refused.
func Describe(signature func() (Signature, error)) Result {
	given, err := signature()
	if err != nil {
		return keep(&struct {
			failed uint32
			reason list
			unused [7]uint32
		}{failed: 1, reason: lowerText(err.Error())})
	}
	result := &struct {
		failed          uint32
		inputs, outputs list
		hasState        uint32
		version         uint32
		state           list
	}{inputs: lowerFields(given.Inputs), outputs: lowerFields(given.Outputs)}
	if given.StateVersion > 0 {
		result.hasState, result.version, result.state = 1, given.StateVersion, lowerFields(given.State)
	}
	return keep(result)
}

func lowerFields(fields []Field) list {
	raw := make([]field, len(fields))
	for i, given := range fields {
		raw[i] = field{lowerText(given.Name), uint8(given.Kind), given.Nullable}
	}
	return lower(raw)
}

// AnswerSources answers sources: the states of other versions that the operator knows, or why the configuration is refused.
func AnswerSources(sources []StateSchema, err error) Result {
	if err != nil {
		return keep(&struct {
			failed uint32
			reason list
		}{failed: 1, reason: lowerText(err.Error())})
	}
	type schema struct {
		version uint32
		fields  list
	}
	raw := make([]schema, len(sources))
	for i, given := range sources {
		raw[i] = schema{given.Version, lowerFields(given.Fields)}
	}
	return keep(&struct {
		failed  uint32
		sources list
	}{sources: lower(raw)})
}

// AnswerBatch answers a call whose result is a batch.
func AnswerBatch(batch *Batch, err error) Result {
	if err != nil {
		return fail(err)
	}
	return keep(&struct {
		failed uint32
		batch  rawBatch
	}{batch: lowerBatch(batch)})
}

// AnswerBytes answers a call whose result is one byte a row.
func AnswerBytes(bytes []byte, err error) Result {
	if err != nil {
		return fail(err)
	}
	return keep(&struct {
		failed uint32
		bytes  list
		unused uint32
	}{bytes: lower(bytes)})
}

// AnswerNumbers answers a call whose result is one number a row.
func AnswerNumbers(numbers []uint32, err error) Result {
	if err != nil {
		return fail(err)
	}
	return keep(&struct {
		failed  uint32
		numbers list
		unused  uint32
	}{numbers: lower(numbers)})
}

// AnswerExpansion answers a flat map's call.
func AnswerExpansion(origin []uint32, batch *Batch, err error) Result {
	if err != nil {
		return fail(err)
	}
	return keep(&struct {
		failed uint32
		origin list
		batch  rawBatch
	}{origin: lower(origin), batch: lowerBatch(batch)})
}

func fail(err error) Result {
	result := &struct {
		failed uint32
		kind   uint32
		what   list
		unused [21]uint32 // of the largest success, an outcome
	}{failed: 1}
	switch err := err.(type) {
	case RowsFailed:
		type row struct {
			row    uint32
			reason list
		}
		rows := make([]row, len(err))
		for i, failure := range err {
			rows[i] = row{uint32(failure.Row), lowerText(failure.Reason)}
		}
		result.what = lower(rows)
	case Retry:
		result.kind, result.what = 2, lowerText(err.Error())
	default:
		result.kind, result.what = 1, lowerText(err.Error())
	}
	return keep(result)
}

type rawTimers struct{ groups, times, clocks list }

type rawCall struct {
	now, watermark int64
	keys           rawBatch
	present        list
	state          rawBatch
	port           uint32
	groups, times  list
	input          rawBatch
	fired          rawTimers
}

func (raw rawBatch) lift() *Batch {
	return Lift(raw.rows, pointer(raw.columns.ptr), raw.columns.len)
}

// LiftCall reads a processor's call.
func LiftCall(call unsafe.Pointer) *Call {
	raw := (*rawCall)(call)
	fired := Timers{slice[uint32](raw.fired.groups), slice[int64](raw.fired.times), slice[byte](raw.fired.clocks)}
	return &Call{
		Now: raw.now, Watermark: raw.watermark,
		Keys: raw.keys.lift(), Present: slice[byte](raw.present), State: raw.state.lift(),
		Port: raw.port, Groups: slice[uint32](raw.groups), Times: slice[int64](raw.times), Input: raw.input.lift(),
		Fired: fired,
	}
}

// Int64s is a list of numbers as the host passes it.
func Int64s(start unsafe.Pointer, length uint32) []int64 {
	return unsafe.Slice((*int64)(start), int(length))
}

// DescribeProcess answers a processor's describe.
func DescribeProcess(signature func() (ProcessSignature, error)) Result {
	given, err := signature()
	if err != nil {
		return keep(&struct {
			failed uint32
			reason list
			unused [12]uint32
		}{failed: 1, reason: lowerText(err.Error())})
	}
	type side struct{ name, fields list }
	sides := make([]side, len(given.Sides))
	for i, output := range given.Sides {
		sides[i] = side{lowerText(output.Name), lowerFields(output.Fields)}
	}
	result := &struct {
		failed                uint32
		inputs                list
		hasSecond             uint32
		second, keys, outputs list
		sides                 list
		version               uint32
		state                 list
	}{
		inputs: lowerFields(given.Inputs), keys: lowerFields(given.Keys), outputs: lowerFields(given.Outputs),
		sides: lower(sides), version: given.StateVersion, state: lowerFields(given.State),
	}
	if given.SecondInputs != nil {
		result.hasSecond, result.second = 1, lowerFields(given.SecondInputs)
	}
	return keep(result)
}

func lowerTimers(timers Timers) rawTimers {
	return rawTimers{lower(timers.Groups), lower(timers.Times), lower(timers.Clocks)}
}

// AnswerOutcome answers a processor's call.
func AnswerOutcome(outcome *Outcome, err error) Result {
	if err != nil {
		return fail(err)
	}
	type rows struct {
		side   uint32
		origin list
		output rawBatch
	}
	sides := make([]rows, len(outcome.Sides))
	for i, given := range outcome.Sides {
		sides[i] = rows{given.Side, lower(given.Origin), lowerBatch(given.Output)}
	}
	return keep(&struct {
		failed       uint32
		present      list
		state        rawBatch
		origin       list
		output       rawBatch
		sides        list
		deleted, set rawTimers
	}{
		present: lower(outcome.Present), state: lowerBatch(outcome.State), origin: lower(outcome.Origin),
		output: lowerBatch(outcome.Output), sides: lower(sides),
		deleted: lowerTimers(outcome.Deleted), set: lowerTimers(outcome.Set),
	})
}
