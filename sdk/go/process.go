package millstream

// ProcessSignature is what a processor reads, produces and remembers; wit/processor.wit says what each means.
type ProcessSignature struct {
	Inputs []Field
	// SecondInputs is nil where there is one input.
	SecondInputs []Field
	// Keys are the key columns that the operator wants to know.
	Keys    []Field
	Outputs []Field
	// Sides are further outputs, by number.
	Sides []Side
	// State has the fields of one key's state.
	State []Field
	// StateVersion is raised whenever the state's fields or their meaning change. It starts at 1.
	StateVersion uint32
}

// Side is an output beside the operator's own.
type Side struct {
	Name   string
	Fields []Field
}

// Timers of keys, in lists of one length.
type Timers struct {
	Groups []uint32
	// Times are milliseconds since 1970-01-01T00:00:00Z.
	Times []int64
	// Clocks are 0 for event time and 1 for processing time.
	Clocks []byte
}

// Add adds a timer.
func (t *Timers) Add(group uint32, time int64, clock byte) {
	t.Groups, t.Times, t.Clocks = append(t.Groups, group), append(t.Times, time), append(t.Clocks, clock)
}

// Call is what a processor has to do: rows of one input, or timers that are due.
type Call struct {
	Now, Watermark int64
	Keys           *Batch
	// Present has one byte a key: 1 where it has state.
	Present []byte
	// State has a row for each of these.
	State *Batch
	Port  uint32
	// Groups has the key of each row.
	Groups []uint32
	Times  []int64
	Input  *Batch
	Fired  Timers
}

// SideRows are rows for a further output.
type SideRows struct {
	Side   uint32
	Origin []uint32
	Output *Batch
}

// Outcome is what came of a call. Present and State of the call may be handed back.
type Outcome struct {
	Present []byte
	State   *Batch
	// Origin has for each row of Output the row, or the timer, that it came from, never decreasing.
	Origin  []uint32
	Output  *Batch
	Sides   []SideRows
	Deleted Timers
	Set     Timers
}

// Windows are all rows of some windows, window by window.
type Windows struct {
	// Starts and Ends have one entry a window, in milliseconds since 1970-01-01T00:00:00Z.
	Starts, Ends []int64
	// Groups has the number of its window for each row.
	Groups []uint32
	Times  []int64
	Input  *Batch
}
