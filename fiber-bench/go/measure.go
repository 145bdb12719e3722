package main

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// samples kept; a run that has more keeps the first.
const samples = 1 << 18

// sampleEvery: every how many operations one is timed by itself, where they are too short to time all.
const sampleEvery = 64

// Usage is what the kernel counted.
type Usage struct {
	user, sys float64
	switches  int64
}

func usageNow() Usage {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return Usage{seconds(u.Utime), seconds(u.Stime), int64(u.Nvcsw + u.Nivcsw)}
}

func (u Usage) since(earlier Usage) Usage {
	return Usage{u.user - earlier.user, u.sys - earlier.sys, u.switches - earlier.switches}
}

// Outcome is what one run came to.
type Outcome struct {
	ops     uint64
	seconds float64
	samples []float32
	usage   Usage
	extra   map[string]any
}

func (o *Outcome) with(name string, value any) *Outcome {
	if o.extra == nil {
		o.extra = map[string]any{}
	}
	o.extra[name] = value
	return o
}

// Report is the one object that a run prints.
type Report struct {
	Benchmark       string         `json:"benchmark"`
	Runtime         string         `json:"runtime"`
	Version         string         `json:"version"`
	Workers         int            `json:"workers"`
	Ops             uint64         `json:"ops"`
	Seconds         float64        `json:"seconds"`
	OpsPerSec       float64        `json:"ops_per_sec"`
	P50             float64        `json:"p50_ns"`
	P99             float64        `json:"p99_ns"`
	UserSeconds     float64        `json:"user_seconds"`
	SysSeconds      float64        `json:"sys_seconds"`
	ContextSwitches int64          `json:"context_switches"`
	PeakRss         uint64         `json:"peak_rss_bytes"`
	Checks          string         `json:"checks"`
	Extra           map[string]any `json:"extra"`
}

func (o *Outcome) report(p *Params, name string) Report {
	if o.extra == nil {
		o.extra = map[string]any{}
	}
	slices.Sort(o.samples)
	percentile := func(share float64) float64 {
		if len(o.samples) == 0 {
			return 0
		}
		return float64(o.samples[int(float64(len(o.samples)-1)*share+0.5)])
	}
	return Report{
		p.Benchmark, name, strings.TrimPrefix(runtime.Version(), "go"), p.Workers, o.ops, o.seconds,
		float64(o.ops) / o.seconds, percentile(0.5), percentile(0.99), o.usage.user, o.usage.sys, o.usage.switches,
		kilobytes("/proc/self/status", "VmHWM:"), "ok", o.extra,
	}
}

// Rounds runs rounds and times them: for rounds.more() { work; rounds.done(operations) }
type Rounds struct {
	seconds       float64
	begun, warm   bool
	started, mark time.Time
	usage         Usage
	ops           uint64
	ofRounds      []float32
	ofSingle      []float32
}

func newRounds(p *Params) *Rounds {
	return &Rounds{seconds: p.Seconds, ofRounds: make([]float32, 0, 1<<12)}
}

// more says whether there is to be another round. At least one is counted; the first tenth of the time isn't.
func (r *Rounds) more() bool {
	if !r.begun {
		r.begun = true
		r.start()
		return true
	}
	elapsed := time.Since(r.started).Seconds()
	if !r.warm && elapsed >= r.seconds*0.1 {
		r.warm = true
		// A single round that fills the time is the measurement.
		if elapsed < r.seconds*0.5 {
			r.start()
			return true
		}
	}
	r.mark = time.Now()
	return elapsed < r.seconds
}

func (r *Rounds) start() {
	r.ops = 0
	r.ofRounds, r.ofSingle = r.ofRounds[:0], r.ofSingle[:0]
	r.usage = usageNow()
	r.mark = time.Now()
	r.started = r.mark
}

func (r *Rounds) done(ops uint64) {
	r.ops += ops
	if len(r.ofRounds) < samples {
		r.ofRounds = append(r.ofRounds, float32(time.Since(r.mark).Nanoseconds())/float32(max(ops, 1)))
	}
}

func (r *Rounds) single(took time.Duration) {
	if len(r.ofSingle) < samples {
		r.ofSingle = append(r.ofSingle, float32(took.Nanoseconds()))
	}
}

func (r *Rounds) finish() *Outcome {
	o := &Outcome{
		ops: r.ops, seconds: time.Since(r.started).Seconds(), samples: r.ofRounds, usage: usageNow().since(r.usage),
	}
	if len(r.ofSingle) > 0 {
		o.samples = r.ofSingle
	}
	return o
}

func kilobytes(file, key string) uint64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, key); found {
			number, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return number * 1024
		}
	}
	return 0
}

func residentBytes() uint64 {
	return kilobytes("/proc/self/smaps_rollup", "Rss:")
}

// describeMemory adds resident memory, page tables and mappings.
func (o *Outcome) describeMemory(tasks int, before uint64) {
	maps, _ := os.ReadFile("/proc/self/maps")
	resident := residentBytes()
	o.with("rss_bytes", resident)
	o.with("page_table_bytes", kilobytes("/proc/self/status", "VmPTE:"))
	o.with("mappings", strings.Count(string(maps), "\n"))
	o.with("rss_bytes_per_task", float64((max(resident, before)-before)/uint64(max(tasks, 1))))
}

// work: units steps of a xorshift generator.
func work(seed uint32, units int) uint32 {
	x := seed
	for range units {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
	}
	return x
}

func workSum(from, to, units int) uint64 {
	sum := uint64(0)
	for i := from; i < to; i++ {
		sum += uint64(work(uint32(i), units))
	}
	return sum
}
