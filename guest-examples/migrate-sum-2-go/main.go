// Aggregate for tests of migrations: what `migrate-sum-1` has counted, and beside it what this version counts.
package main

import (
	"fmt"

	millstream "github.com/millstream/millstream/sdk/go"
	"github.com/millstream/millstream/sdk/go/aggregator"
	"github.com/millstream/millstream/sdk/go/migrator"
)

// columns of the accumulator
const (
	oldRows = iota
	oldSum
	rows
	sum
	columns
)

func fields(names ...string) []millstream.Field {
	fields := make([]millstream.Field, len(names))
	for i, name := range names {
		fields[i] = millstream.Field{Name: name, Kind: millstream.Int64}
	}
	return fields
}

func describe() (millstream.Signature, error) {
	return millstream.Signature{
		Inputs:       fields("amount"),
		Outputs:      fields("rows_1", "sum_1", "rows_2", "sum_2"),
		State:        fields("old_rows", "old_sum", "rows", "sum"),
		StateVersion: 2,
	}, nil
}

// zeros are so many accumulators without rows.
func zeros(count int) *millstream.Batch {
	batch := &millstream.Batch{Rows: count, Columns: make([]millstream.Column, columns)}
	for i := range batch.Columns {
		batch.Columns[i] = millstream.Column{Kind: millstream.Int64, Int64s: make([]int64, count)}
	}
	return batch
}

func create() (*millstream.Batch, error) { return zeros(1), nil }

func accumulate(groups []uint32, accumulators, input *millstream.Batch) (*millstream.Batch, error) {
	for row, amount := range input.Columns[0].Int64s {
		accumulators.Columns[rows].Int64s[groups[row]]++
		accumulators.Columns[sum].Int64s[groups[row]] += amount
	}
	return accumulators, nil
}

func merge(left, right *millstream.Batch) (*millstream.Batch, error) {
	for column := range left.Columns {
		for i, value := range right.Columns[column].Int64s {
			left.Columns[column].Int64s[i] += value
		}
	}
	return left, nil
}

// What is kept is what comes out.
func finish(accumulators *millstream.Batch) (*millstream.Batch, error) { return accumulators, nil }

func sources() ([]millstream.StateSchema, error) {
	return []millstream.StateSchema{{Version: 1, Fields: fields("rows", "sum")}}, nil
}

// What version 1 has seen stays its own.
func migrate(from uint32, older *millstream.Batch) (*millstream.Batch, error) {
	if from != 1 {
		return nil, fmt.Errorf("expected state of version 1, got %d", from)
	}
	state := zeros(older.Rows)
	state.Columns[oldRows], state.Columns[oldSum] = older.Columns[0], older.Columns[1]
	return state, nil
}

func init() {
	aggregator.Register(describe, aggregator.Aggregate{Create: create, Accumulate: accumulate, Merge: merge, Finish: finish})
	migrator.Register(sources, migrate)
}

func main() {}
