// Aggregate: the mean of `value`. The accumulator is a sum and a count; without rows the mean is null.
package main

import (
	millstream "github.com/millstream/millstream/sdk/go"
	"github.com/millstream/millstream/sdk/go/aggregator"
)

// columns of the accumulator
const (
	sum = iota
	count
)

func describe() (millstream.Signature, error) {
	return millstream.Signature{
		Inputs:       []millstream.Field{{Name: "value", Kind: millstream.Float64}},
		Outputs:      []millstream.Field{{Name: "mean", Kind: millstream.Float64, Nullable: true}},
		State:        []millstream.Field{{Name: "sum", Kind: millstream.Float64}, {Name: "count", Kind: millstream.Int64}},
		StateVersion: 1,
	}, nil
}

func create() (*millstream.Batch, error) {
	return &millstream.Batch{Rows: 1, Columns: []millstream.Column{
		{Kind: millstream.Float64, Float64s: []float64{0}},
		{Kind: millstream.Int64, Int64s: []int64{0}},
	}}, nil
}

func accumulate(groups []uint32, accumulators, input *millstream.Batch) (*millstream.Batch, error) {
	sums, counts := accumulators.Columns[sum].Float64s, accumulators.Columns[count].Int64s
	for row, value := range input.Columns[0].Float64s {
		sums[groups[row]] += value
		counts[groups[row]]++
	}
	return accumulators, nil
}

func merge(left, right *millstream.Batch) (*millstream.Batch, error) {
	for i := range left.Rows {
		left.Columns[sum].Float64s[i] += right.Columns[sum].Float64s[i]
		left.Columns[count].Int64s[i] += right.Columns[count].Int64s[i]
	}
	return left, nil
}

func finish(accumulators *millstream.Batch) (*millstream.Batch, error) {
	mean := millstream.Column{
		Kind:     millstream.Float64,
		Float64s: make([]float64, accumulators.Rows),
		Validity: make([]byte, accumulators.Rows),
	}
	for i := range accumulators.Rows {
		if rows := accumulators.Columns[count].Int64s[i]; rows > 0 {
			mean.Float64s[i] = accumulators.Columns[sum].Float64s[i] / float64(rows)
			mean.Validity[i] = 1
		}
	}
	return &millstream.Batch{Rows: accumulators.Rows, Columns: []millstream.Column{mean}}, nil
}

func init() {
	aggregator.Register(describe, aggregator.Aggregate{Create: create, Accumulate: accumulate, Merge: merge, Finish: finish})
}

func main() {}
