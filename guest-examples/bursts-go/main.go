// Process: counts the rows of a key that follow each other within a second, and says when there was a pause.
package main

import (
	millstream "github.com/millstream/millstream/sdk/go"
	"github.com/millstream/millstream/sdk/go/processor"
)

// columns of the state; the output has n and sum in the same places
const (
	n = iota
	sum
	until
)

// how long a burst goes on without rows, ms
const pauseMs = 1000

func describe() (millstream.ProcessSignature, error) {
	int64s := func(name string) millstream.Field { return millstream.Field{Name: name, Kind: millstream.Int64} }
	return millstream.ProcessSignature{
		Inputs:       []millstream.Field{int64s("v")},
		Outputs:      []millstream.Field{int64s("n"), int64s("sum"), {Name: "over", Kind: millstream.Boolean}},
		State:        []millstream.Field{int64s("n"), int64s("sum"), int64s("until")},
		StateVersion: 1,
	}, nil
}

// the burst of a key
type burst struct {
	open, hadTimer       bool
	n, sum, until, timer int64
}

func readState(call *millstream.Call) []burst {
	bursts := make([]burst, len(call.Present))
	row := 0
	for key, present := range call.Present {
		if present == 1 {
			columns := call.State.Columns
			end := columns[until].Int64s[row]
			bursts[key] = burst{true, true, columns[n].Int64s[row], columns[sum].Int64s[row], end, end}
			row++
		}
	}
	return bursts
}

// writeState says what state and timers are from now on.
func writeState(bursts []burst, outcome *millstream.Outcome) {
	columns := make([]millstream.Column, 3)
	for column := range columns {
		columns[column].Kind = millstream.Int64
	}
	outcome.State = &millstream.Batch{Columns: columns}
	outcome.Present = make([]byte, len(bursts))
	for key, burst := range bursts {
		if !burst.open {
			continue
		}
		outcome.Present[key] = 1
		outcome.State.Rows++
		columns[n].Int64s = append(columns[n].Int64s, burst.n)
		columns[sum].Int64s = append(columns[sum].Int64s, burst.sum)
		columns[until].Int64s = append(columns[until].Int64s, burst.until)
		if burst.hadTimer {
			outcome.Deleted.Add(uint32(key), burst.timer, 0)
		}
		outcome.Set.Add(uint32(key), burst.until, 0)
	}
}

func tell(outcome *millstream.Outcome, told *burst, from int, over byte) {
	outcome.Origin = append(outcome.Origin, uint32(from))
	output := outcome.Output
	output.Rows++
	output.Columns[0].Int64s = append(output.Columns[0].Int64s, told.n)
	output.Columns[1].Int64s = append(output.Columns[1].Int64s, told.sum)
	output.Columns[2].Booleans = append(output.Columns[2].Booleans, over)
}

func process(call *millstream.Call) (*millstream.Outcome, error) {
	bursts := readState(call)
	outcome := &millstream.Outcome{Output: &millstream.Batch{Columns: []millstream.Column{
		{Kind: millstream.Int64}, {Kind: millstream.Int64}, {Kind: millstream.Boolean},
	}}}
	var failed millstream.RowsFailed
	for row, v := range call.Input.Columns[0].Int64s {
		if v < 0 {
			failed = append(failed, millstream.RowFailure{Row: row, Reason: "v is negative"})
			continue
		}
		burst := &bursts[call.Groups[row]]
		if !burst.open {
			burst.n, burst.sum = 0, 0
		}
		burst.open = true
		burst.n++
		burst.sum += v
		burst.until = call.Times[row] + pauseMs
		tell(outcome, burst, row, 0)
	}
	for timer, group := range call.Fired.Groups {
		burst := &bursts[group]
		if burst.open {
			tell(outcome, burst, timer, 1)
		}
		burst.open = false
	}
	if failed != nil {
		return nil, failed
	}
	writeState(bursts, outcome)
	return outcome, nil
}

func init() { processor.Register(describe, process) }

func main() {}
