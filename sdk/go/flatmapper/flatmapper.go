//go:build wasip1

// Package flatmapper exports an operator that puts out any number of rows for each row in.
package flatmapper

import (
	"unsafe"

	millstream "github.com/millstream/millstream/sdk/go"
)

// Expand answers the rows that come out, and for each the index of the input row that it came from, never decreasing.
type Expand func(input *millstream.Batch) (origin []uint32, output *millstream.Batch, err error)

var (
	signature func() (millstream.Signature, error)
	expand    Expand
)

// Register says which operator this component is. Call it in an init function. An error of describe refuses the
// configuration.
func Register(describe func() (millstream.Signature, error), function Expand) {
	signature, expand = describe, function
}

//go:wasmexport millstream:operator/flat-mapper@0.1.0#describe
func exportDescribe() unsafe.Pointer { return millstream.Describe(signature) }

//go:wasmexport cabi_post_millstream:operator/flat-mapper@0.1.0#describe
func freeDescribe(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/flat-mapper@0.1.0#expand
func exportExpand(rows uint32, columns unsafe.Pointer, length uint32) unsafe.Pointer {
	return millstream.AnswerExpansion(expand(millstream.Lift(rows, columns, length)))
}

//go:wasmexport cabi_post_millstream:operator/flat-mapper@0.1.0#expand
func freeExpand(unsafe.Pointer) { millstream.Free() }
