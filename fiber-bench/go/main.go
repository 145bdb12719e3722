// The benchmarks for Go: the same work as in ../src/blocking, in goroutines. Started by fiber-bench, which sets
// GOMAXPROCS and, for go-nogc, GOGC.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Params is what a run is told.
type Params struct {
	Benchmark string
	Workers   int
	Seconds   float64
	Scale     float64
}

// Scaled is a size, scaled; at least least.
func (p *Params) Scaled(size, least int) int {
	return max(int(float64(size)*p.Scale), least)
}

// Number is the number behind the last underscore of the benchmark's name.
func (p *Params) Number() int {
	digits := p.Benchmark[strings.LastIndexByte(p.Benchmark, '_')+1:]
	number, err := strconv.Atoi(digits)
	if err != nil {
		panic(p.Benchmark + " ends in a number")
	}
	return number
}

// IdleSeconds is how long the benchmarks that idle do so.
func (p *Params) IdleSeconds() float64 {
	if p.Seconds >= 1 {
		return 10
	}
	return min(p.Seconds*4, 1)
}

var benchmarks = map[string]func(*Params) *Outcome{
	"spawn_nursery":              nursery,
	"spawn_sequential":           sequential,
	"trivial_task":               trivial,
	"switch_task":                switchTask,
	"yield_many":                 yieldMany,
	"chained_spawn":              chained,
	"skynet":                     skynet,
	"fib_30":                     fib30,
	"ping_pong_local":            func(p *Params) *Outcome { return pingPong(p, false) },
	"ping_pong_cross":            func(p *Params) *Outcome { return pingPong(p, true) },
	"chan_single_thread":         single,
	"select_2":                   select2,
	"blocking_pressure":          pressure,
	"parked_20000":               parked,
	"herd_1000":                  herd,
	"counters_adjacent":          countersAdjacent,
	"counters_apart":             countersApart,
	"parallel_for_0":             store,
	"parallel_for_15":            store,
	"parallel_for_1000":          store,
	"parallel_for_shared_atomic": sharedAtomic,
	"parallel_for_per_chunk":     perChunk,
	"parallel_for_no_atomic":     noAtomic,
	"parallel_reduce":            reduce,
	"idle_memory_10k":            func(p *Params) *Outcome { return idleMemory(p, 10_000) },
	"idle_memory_100k":           func(p *Params) *Outcome { return idleMemory(p, 100_000) },
	"idle_memory_1m":             func(p *Params) *Outcome { return idleMemory(p, 1_000_000) },
	"deep_then_idle":             deepThenIdle,
	"hog_and_ticker":             ticker,
	"idle_cpu":                   func(p *Params) *Outcome { return idle(p, nursery(p)) },
	"task_pool_cross":            cross,
}

func find(name string) func(*Params) *Outcome {
	for prefix, senders := range map[string]int{"spsc_": 1, "mpsc_": sides} {
		if strings.HasPrefix(name, prefix) {
			return func(p *Params) *Outcome { return manyToOne(p, senders) }
		}
	}
	if strings.HasPrefix(name, "mpmc_") {
		return manyToMany
	}
	return benchmarks[name]
}

func main() {
	if len(os.Args) < 2 {
		usage("a benchmark is missing")
	}
	p := &Params{Benchmark: os.Args[1]}
	flags := flag.NewFlagSet("fiber-bench-go", flag.ExitOnError)
	name := flags.String("runtime", "go", "name in the report")
	flags.IntVar(&p.Workers, "workers", 2, "GOMAXPROCS, which fiber-bench sets")
	flags.Float64Var(&p.Seconds, "seconds", 1, "length of the measured part")
	flags.Float64Var(&p.Scale, "scale", 1, "factor on the sizes of rounds")
	_ = flags.Parse(os.Args[2:])
	run := find(p.Benchmark)
	if run == nil {
		usage("there is no benchmark " + p.Benchmark)
	}
	runtime.GOMAXPROCS(p.Workers)
	outcome := run(p)
	report, err := json.Marshal(outcome.report(p, *name))
	if err != nil {
		panic(err)
	}
	fmt.Println(string(report))
}

func usage(sentence string) {
	fmt.Fprintln(os.Stderr, "fiber-runner: "+sentence)
	os.Exit(2)
}

// check ends the process unless the result is what it must be.
func check(right bool, format string, args ...any) {
	if !right {
		fmt.Fprintf(os.Stderr, "fiber-runner: check failed: "+format+"\n", args...)
		os.Exit(3)
	}
}

// checkSum checks the sum of all numbers below count.
func checkSum(sum, count uint64) {
	right := count * (count - 1) / 2
	if count%2 == 0 {
		right = count / 2 * (count - 1)
	} else {
		right = (count - 1) / 2 * count
	}
	check(sum == right, "the sum is %d and not %d", sum, right)
}

// cannotRun ends the process because the run needs what isn't there.
func cannotRun(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "fiber-runner: "+format+"\n", args...)
	os.Exit(5)
}
