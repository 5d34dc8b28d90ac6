//go:build wasip1

// Package processor exports an operator that handles rows key by key, with state and timers that the host keeps.
package processor

import (
	"unsafe"

	millstream "github.com/millstream/millstream/sdk/go"
)

// Process handles the rows or the timers of a call, and answers what becomes of the keys' state.
type Process func(call *millstream.Call) (*millstream.Outcome, error)

var (
	signature func() (millstream.ProcessSignature, error)
	process   Process
)

// Register says which operator this component is. Call it in an init function. An error of describe refuses the
// configuration.
func Register(describe func() (millstream.ProcessSignature, error), function Process) {
	signature, process = describe, function
}

//go:wasmexport millstream:operator/processor@0.1.0#describe
func exportDescribe() unsafe.Pointer { return millstream.DescribeProcess(signature) }

//go:wasmexport cabi_post_millstream:operator/processor@0.1.0#describe
func freeDescribe(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/processor@0.1.0#process
func exportProcess(call unsafe.Pointer) unsafe.Pointer {
	return millstream.AnswerOutcome(process(millstream.LiftCall(call)))
}

//go:wasmexport cabi_post_millstream:operator/processor@0.1.0#process
func freeProcess(unsafe.Pointer) { millstream.Free() }
