//go:build wasip1

package millstream

import (
	"runtime"
	"unsafe"
)

//go:wasmimport millstream:operator/host@0.1.0 log
func hostLog(level uint32, text unsafe.Pointer, length uint32)

//go:wasmimport millstream:operator/host@0.1.0 counter
func hostCounter(name unsafe.Pointer, length uint32, delta uint64)

//go:wasmimport millstream:operator/config@0.1.0 get
func configGet(name unsafe.Pointer, length uint32, result unsafe.Pointer)

// Level is how important a log line is.
type Level uint32

// The levels.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Log writes a line to the pipeline's log.
func Log(level Level, line string) {
	hostLog(uint32(level), unsafe.Pointer(unsafe.StringData(line)), uint32(len(line)))
	runtime.KeepAlive(line)
}

// Counter adds to the counter name of this step.
func Counter(name string, delta uint64) {
	hostCounter(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), delta)
	runtime.KeepAlive(name)
}

// Config is the setting name of the step: a bool, int64, float64 or string, or nil where the pipeline does not set it.
func Config(name string) any {
	var result struct {
		present uint64
		kind    uint64
		value   uint64
	}
	configGet(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), unsafe.Pointer(&result))
	runtime.KeepAlive(name)
	if result.present&0xff == 0 {
		return nil
	}
	switch result.kind & 0xff {
	case 0:
		return result.value&0xff != 0
	case 1:
		return int64(result.value)
	case 2:
		return *(*float64)(unsafe.Pointer(&result.value))
	default:
		return string(unsafe.Slice((*byte)(pointer(uint32(result.value))), int(result.value>>32)))
	}
}
