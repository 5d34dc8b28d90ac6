// Watermark assigner: machines report in seconds of their own clock, and say when nothing follows for a second.
//
// An assigner is a map whose columns are `event_time` and, if it knows, `watermark`. A row without an event time is a bad
// record; a row without a watermark says nothing about those that follow.
package main

import (
	"math"

	millstream "github.com/millstream/millstream/sdk/go"
	"github.com/millstream/millstream/sdk/go/mapper"
)

func describe() (millstream.Signature, error) {
	return millstream.Signature{
		Inputs: []millstream.Field{
			{Name: "seconds", Kind: millstream.Int64, Nullable: true},
			{Name: "complete", Kind: millstream.Boolean, Nullable: true},
		},
		Outputs: []millstream.Field{
			{Name: "event_time", Kind: millstream.TimestampMs, Nullable: true},
			{Name: "watermark", Kind: millstream.TimestampMs, Nullable: true},
		},
	}, nil
}

func times(rows int) millstream.Column {
	return millstream.Column{Kind: millstream.TimestampMs, Int64s: make([]int64, rows), Validity: make([]byte, rows)}
}

// Seconds to milliseconds; a complete second ends with its last millisecond.
func transform(input *millstream.Batch) (*millstream.Batch, error) {
	seconds, complete := &input.Columns[0], &input.Columns[1]
	starts, watermarks := times(input.Rows), times(input.Rows)
	for row, second := range seconds.Int64s {
		if seconds.IsNull(row) || second > math.MaxInt64/1000 || second < math.MinInt64/1000 {
			continue
		}
		start := second * 1000
		starts.Int64s[row], starts.Validity[row] = start, 1
		if !complete.IsNull(row) && complete.Booleans[row] != 0 && start <= math.MaxInt64-999 {
			watermarks.Int64s[row], watermarks.Validity[row] = start+999, 1
		}
	}
	return &millstream.Batch{Rows: input.Rows, Columns: []millstream.Column{starts, watermarks}}, nil
}

func init() { mapper.Register(describe, transform) }

func main() {}
