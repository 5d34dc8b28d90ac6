// Package millstream has the columns, signatures and failures of Millstream operators in Go.
//
// An operator is one function over columns. Import the package of its kind (mapper, filter, flatmapper, aggregator,
// processor, windowprocessor or partitioner; migrator beside an aggregator or a processor that takes over state of other
// versions), which exports it, and call Register in an init function:
//
//	package main
//
//	import (
//		millstream "github.com/millstream/millstream/sdk/go"
//		"github.com/millstream/millstream/sdk/go/mapper"
//	)
//
//	func main() {}
//
//	func init() {
//		mapper.Register(signature, func(in *millstream.Batch) (*millstream.Batch, error) { ... })
//	}
//
// Columns that are passed in are the guest's own memory, without a copy: they may be changed and handed back, and they
// are valid until the function returns. Nothing may be kept between calls.
package millstream

// Kind is what a column holds.
type Kind uint8

// The kinds, in the contract's order.
const (
	Boolean Kind = iota
	Int64
	Float64
	Text
	Binary
	TimestampMs
)

// Field is a named, typed column as an operator declares it.
type Field struct {
	Name     string
	Kind     Kind
	Nullable bool
}

// Signature is what an operator reads, produces and remembers.
type Signature struct {
	Inputs  []Field
	Outputs []Field
	// State has the accumulator's fields; aggregates only.
	State []Field
	// StateVersion is raised whenever the accumulator's fields or their meaning change. It starts at 1.
	StateVersion uint32
}

// StateSchema is state of one version: all its fields, in their order.
type StateSchema struct {
	Version uint32
	Fields  []Field
}

// Varlen holds values of varying length: row i is Bytes[Offsets[i]:Offsets[i+1]].
type Varlen struct {
	Offsets []uint32
	Bytes   []byte
}

// Row is the bytes of row i.
func (v *Varlen) Row(i int) []byte { return v.Bytes[v.Offsets[i]:v.Offsets[i+1]] }

// Append adds a row.
func (v *Varlen) Append(value []byte) {
	if len(v.Offsets) == 0 {
		v.Offsets = append(v.Offsets, 0)
	}
	v.Bytes = append(v.Bytes, value...)
	v.Offsets = append(v.Offsets, uint32(len(v.Bytes)))
}

// Column is the values of one column. Kind says which of the slices is used.
type Column struct {
	Kind     Kind
	Booleans []byte    // Boolean: one byte a row, 0 is false
	Int64s   []int64   // Int64, TimestampMs
	Float64s []float64 // Float64
	Varlen   Varlen    // Text, Binary
	// Validity has one byte a row, 0 where the row is null. Nil: no row is null.
	Validity []byte
}

// IsNull is whether row i is null.
func (c *Column) IsNull(i int) bool { return c.Validity != nil && c.Validity[i] == 0 }

// Batch is rows as columns, in the order of the declared fields.
type Batch struct {
	Rows    int
	Columns []Column
}

// RowFailure is one row that cannot be handled.
type RowFailure struct {
	Row    int
	Reason string
}

// RowsFailed is the error of these rows alone: the host takes them out and calls again with the others.
// Any other error is the failure of the whole batch.
type RowsFailed []RowFailure

func (r RowsFailed) Error() string {
	if len(r) == 0 {
		return "rows failed, but none is named"
	}
	return r[0].Reason
}

// Retry is the error of something passing: the host calls again with the same batch, a bounded number of times.
type Retry string

func (r Retry) Error() string { return string(r) }
