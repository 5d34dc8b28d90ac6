//go:build wasip1

// Package windowprocessor exports an operator that makes rows of all rows of a window.
package windowprocessor

import (
	"unsafe"

	millstream "github.com/millstream/millstream/sdk/go"
)

// Process answers the rows that come out, and for each the number of the window that it came from, never decreasing.
type Process func(windows *millstream.Windows) (origin []uint32, output *millstream.Batch, err error)

var (
	signature func() (millstream.Signature, error)
	process   Process
)

// Register says which operator this component is. Call it in an init function. An error of describe refuses the
// configuration.
func Register(describe func() (millstream.Signature, error), function Process) {
	signature, process = describe, function
}

//go:wasmexport millstream:operator/window-processor@0.1.0#describe
func exportDescribe() unsafe.Pointer { return millstream.Describe(signature) }

//go:wasmexport cabi_post_millstream:operator/window-processor@0.1.0#describe
func freeDescribe(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/window-processor@0.1.0#process
func exportProcess(starts unsafe.Pointer, startsLength uint32, ends unsafe.Pointer, endsLength uint32,
	groups unsafe.Pointer, groupsLength uint32, times unsafe.Pointer, timesLength uint32,
	rows uint32, columns unsafe.Pointer, length uint32) unsafe.Pointer {
	return millstream.AnswerExpansion(process(&millstream.Windows{
		Starts: millstream.Int64s(starts, startsLength),
		Ends:   millstream.Int64s(ends, endsLength),
		Groups: millstream.Groups(groups, groupsLength),
		Times:  millstream.Int64s(times, timesLength),
		Input:  millstream.Lift(rows, columns, length),
	}))
}

//go:wasmexport cabi_post_millstream:operator/window-processor@0.1.0#process
func freeProcess(unsafe.Pointer) { millstream.Free() }
