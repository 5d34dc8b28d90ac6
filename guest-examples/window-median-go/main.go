// Window process: the median of the values of a window, which needs all of them.
package main

import (
	"slices"

	millstream "github.com/millstream/millstream/sdk/go"
	"github.com/millstream/millstream/sdk/go/windowprocessor"
)

func describe() (millstream.Signature, error) {
	return millstream.Signature{
		Inputs:  []millstream.Field{{Name: "value", Kind: millstream.Float64}},
		Outputs: []millstream.Field{{Name: "n", Kind: millstream.Int64}, {Name: "median", Kind: millstream.Float64}},
	}, nil
}

// Rows come window by window, and every window has some.
func process(windows *millstream.Windows) (origin []uint32, output *millstream.Batch, err error) {
	all := windows.Input.Columns[0].Float64s
	counts, medians := millstream.Column{Kind: millstream.Int64}, millstream.Column{Kind: millstream.Float64}
	first := 0
	for window := range windows.Starts {
		last := first
		for last < len(all) && windows.Groups[last] == uint32(window) {
			last++
		}
		values := all[first:last]
		slices.Sort(values)
		lower, upper := values[(len(values)-1)/2], values[len(values)/2]
		counts.Int64s = append(counts.Int64s, int64(len(values)))
		medians.Float64s = append(medians.Float64s, lower/2+upper/2)
		origin = append(origin, uint32(window))
		first = last
	}
	return origin, &millstream.Batch{Rows: len(origin), Columns: []millstream.Column{counts, medians}}, nil
}

func init() { windowprocessor.Register(describe, process) }

func main() {}
