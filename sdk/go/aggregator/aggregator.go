//go:build wasip1

// Package aggregator exports an operator that folds rows into accumulators, which the host keeps.
package aggregator

import (
	"unsafe"

	millstream "github.com/millstream/millstream/sdk/go"
)

// Aggregate is an aggregate over columns. Merge must be associative, and folding rows in two accumulators and merging
// these must equal folding them in one.
type Aggregate struct {
	// Create answers the empty accumulator: one row.
	Create func() (*millstream.Batch, error)
	// Accumulate folds row i of input into row groups[i] of accumulators and answers these.
	Accumulate func(groups []uint32, accumulators, input *millstream.Batch) (*millstream.Batch, error)
	// Merge answers row i of left, the earlier, and row i of right in one.
	Merge func(left, right *millstream.Batch) (*millstream.Batch, error)
	// Finish answers the result of each accumulator.
	Finish func(accumulators *millstream.Batch) (*millstream.Batch, error)
}

var (
	signature func() (millstream.Signature, error)
	operator  Aggregate
)

// Register says which operator this component is. Call it in an init function. An error of describe refuses the
// configuration.
func Register(describe func() (millstream.Signature, error), aggregate Aggregate) {
	signature, operator = describe, aggregate
}

//go:wasmexport millstream:operator/aggregator@0.1.0#describe
func exportDescribe() unsafe.Pointer { return millstream.Describe(signature) }

//go:wasmexport cabi_post_millstream:operator/aggregator@0.1.0#describe
func freeDescribe(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/aggregator@0.1.0#create
func exportCreate() unsafe.Pointer { return millstream.AnswerBatch(operator.Create()) }

//go:wasmexport cabi_post_millstream:operator/aggregator@0.1.0#create
func freeCreate(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/aggregator@0.1.0#accumulate
func exportAccumulate(groups unsafe.Pointer, groupsLength, rows uint32, columns unsafe.Pointer, length,
	inputRows uint32, inputColumns unsafe.Pointer, inputLength uint32) unsafe.Pointer {
	return millstream.AnswerBatch(operator.Accumulate(millstream.Groups(groups, groupsLength),
		millstream.Lift(rows, columns, length), millstream.Lift(inputRows, inputColumns, inputLength)))
}

//go:wasmexport cabi_post_millstream:operator/aggregator@0.1.0#accumulate
func freeAccumulate(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/aggregator@0.1.0#merge
func exportMerge(rows uint32, columns unsafe.Pointer, length, rightRows uint32, rightColumns unsafe.Pointer,
	rightLength uint32) unsafe.Pointer {
	return millstream.AnswerBatch(operator.Merge(millstream.Lift(rows, columns, length),
		millstream.Lift(rightRows, rightColumns, rightLength)))
}

//go:wasmexport cabi_post_millstream:operator/aggregator@0.1.0#merge
func freeMerge(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/aggregator@0.1.0#finish
func exportFinish(rows uint32, columns unsafe.Pointer, length uint32) unsafe.Pointer {
	return millstream.AnswerBatch(operator.Finish(millstream.Lift(rows, columns, length)))
}

//go:wasmexport cabi_post_millstream:operator/aggregator@0.1.0#finish
func freeFinish(unsafe.Pointer) { millstream.Free() }
