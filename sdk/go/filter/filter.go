//go:build wasip1

// Package filter exports an operator that keeps or drops rows.
package filter

import (
	"unsafe"

	millstream "github.com/millstream/millstream/sdk/go"
)

// Select answers one byte a row: 1 keeps it, 0 drops it.
type Select func(input *millstream.Batch) ([]byte, error)

var (
	signature func() (millstream.Signature, error)
	choose    Select
)

// Register says which operator this component is. Call it in an init function. An error of describe refuses the
// configuration.
func Register(describe func() (millstream.Signature, error), function Select) {
	signature, choose = describe, function
}

//go:wasmexport millstream:operator/filter@0.1.0#describe
func exportDescribe() unsafe.Pointer { return millstream.Describe(signature) }

//go:wasmexport cabi_post_millstream:operator/filter@0.1.0#describe
func freeDescribe(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/filter@0.1.0#select
func exportSelect(rows uint32, columns unsafe.Pointer, length uint32) unsafe.Pointer {
	return millstream.AnswerBytes(choose(millstream.Lift(rows, columns, length)))
}

//go:wasmexport cabi_post_millstream:operator/filter@0.1.0#select
func freeSelect(unsafe.Pointer) { millstream.Free() }
