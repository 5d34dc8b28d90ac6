//go:build wasip1

// Package mapper exports an operator that puts out one row for each row in.
package mapper

import (
	"unsafe"

	millstream "github.com/millstream/millstream/sdk/go"
)

// Transform answers a batch with as many rows as it is given and the columns of the signature's outputs.
type Transform func(input *millstream.Batch) (*millstream.Batch, error)

var (
	signature func() (millstream.Signature, error)
	transform Transform
)

// Register says which operator this component is. Call it in an init function. An error of describe refuses the
// configuration.
func Register(describe func() (millstream.Signature, error), function Transform) {
	signature, transform = describe, function
}

//go:wasmexport millstream:operator/mapper@0.1.0#describe
func exportDescribe() unsafe.Pointer { return millstream.Describe(signature) }

//go:wasmexport cabi_post_millstream:operator/mapper@0.1.0#describe
func freeDescribe(unsafe.Pointer) { millstream.Free() }

//go:wasmexport millstream:operator/mapper@0.1.0#transform
func exportTransform(rows uint32, columns unsafe.Pointer, length uint32) unsafe.Pointer {
	return millstream.AnswerBatch(transform(millstream.Lift(rows, columns, length)))
}

//go:wasmexport cabi_post_millstream:operator/mapper@0.1.0#transform
func freeTransform(unsafe.Pointer) { millstream.Free() }
