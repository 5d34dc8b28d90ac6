//go:build wasip1

// Package partitioner exports an operator that decides which task of a step gets a row.
package partitioner

import (
	"unsafe"

	millstream "github.com/millstream/millstream/sdk/go"
)

// Route answers for each row the number of the task that gets it, less than targets.
type Route func(input *millstream.Batch, targets uint32) ([]uint32, error)

var (
	signature func() (millstream.Signature, error)
	choose    Route
)

// Register says which operator this component is. Call it in an init function. An error of describe refuses the
// configuration.
func Register(describe func() (millstream.Signature, error), function Route) {
	signature, choose = describe, function
}

//go:wasmexport millstream:operator/partitioner@0.1.0#describe
func exportDescribe() unsafe.Pointer { return millstream.Describe(signature) }

//go:wasmexport cabi_post_millstream:operator/partitioner@0.1.0#describe
func freeDescribe(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/partitioner@0.1.0#route
func exportRoute(rows uint32, columns unsafe.Pointer, length, targets uint32) unsafe.Pointer {
	return millstream.AnswerNumbers(choose(millstream.Lift(rows, columns, length), targets))
}

//go:wasmexport cabi_post_millstream:operator/partitioner@0.1.0#route
func freeRoute(unsafe.Pointer) { millstream.Free() }
