package main

import (
	"runtime"
	"sync/atomic"
	"time"
)

// parkAll starts goroutines that run first and wait, measures, and lets them end.
func parkAll(tasks int, first func(int) uint64, right uint64) *Outcome {
	var arrived, left atomic.Int64
	var sum atomic.Uint64
	gate := make(chan struct{})
	before := residentBytes()
	usage := usageNow()
	start := time.Now()
	for task := range tasks {
		go func() {
			value := first(task)
			arrived.Add(1)
			<-gate
			sum.Add(value)
			left.Add(1)
		}()
	}
	for arrived.Load() < int64(tasks) {
		time.Sleep(500 * time.Microsecond)
	}
	took := time.Since(start)
	usage = usageNow().since(usage)
	time.Sleep(50 * time.Millisecond)
	each := float32(took.Nanoseconds()) / float32(tasks)
	o := &Outcome{ops: uint64(tasks), seconds: took.Seconds(), samples: []float32{each}, usage: usage}
	o.describeMemory(tasks, before)
	close(gate)
	for left.Load() < int64(tasks) {
		time.Sleep(time.Millisecond)
	}
	check(sum.Load() == right, "the tasks' sum is %d and not %d", sum.Load(), right)
	return o
}

func idleMemory(p *Params, tasks int) *Outcome {
	tasks = p.Scaled(tasks, 20)
	wanted, there := uint64(tasks)*(8<<10), kilobytes("/proc/meminfo", "MemAvailable:")
	if wanted > there {
		cannotRun("it takes about %d MB of memory, and the machine has %d MB to spare", wanted>>20, there>>20)
	}
	right := uint64(tasks) * uint64(tasks-1) / 2
	return parkAll(tasks, func(task int) uint64 { return uint64(task) }, right)
}

const deepBytes = 48 << 10

// deep writes to 48 KiB of stack and returns a sum over it.
//
//go:noinline
func deep(seed byte) uint64 {
	var frame [deepBytes]byte
	for i := range frame {
		frame[i] = seed
	}
	sum := uint64(0)
	for i := 0; i < deepBytes; i += 64 {
		sum += uint64(frame[i])
	}
	return sum
}

func deepThenIdle(p *Params) *Outcome {
	tasks := p.Scaled(2_000, 20)
	right := uint64(0)
	for task := range tasks {
		right += uint64(byte(task)) * (deepBytes / 64)
	}
	o := parkAll(tasks, func(task int) uint64 { return deep(byte(task)) }, right)
	time.Sleep(time.Duration(min(0.5, p.Seconds) * 1e9))
	return o.with("rss_bytes_after_all_ended", residentBytes())
}

func ticker(p *Params) *Outcome {
	const tick, slice = time.Millisecond, 100 * time.Millisecond
	length := time.Duration(p.Seconds * 1e9)
	var over atomic.Bool
	slices := make(chan int)
	go func() {
		done := 0
		for begun := time.Now(); !over.Load() && time.Since(begun) < length+time.Second; {
			for end := time.Now().Add(slice); time.Now().Before(end); {
			}
			done++
			runtime.Gosched()
		}
		slices <- done
	}()
	result := make(chan *Outcome)
	go func() {
		o := &Outcome{}
		usage := usageNow()
		start := time.Now()
		for time.Since(start) < length {
			due := time.Now().Add(tick)
			time.Sleep(tick)
			late := time.Since(due)
			check(late >= 0, "a tick came early")
			o.samples = append(o.samples, float32(late.Nanoseconds()))
		}
		o.ops, o.seconds, o.usage = uint64(len(o.samples)), time.Since(start).Seconds(), usageNow().since(usage)
		result <- o
	}()
	o := <-result
	over.Store(true)
	worst := float32(0)
	for _, late := range o.samples {
		worst = max(worst, late)
	}
	return o.with("hog_slices", <-slices).with("worst_lateness_ns", worst)
}

// idle watches the process while it has nothing to do.
func idle(p *Params, o *Outcome) *Outcome {
	seconds := p.IdleSeconds()
	time.Sleep(time.Duration(seconds * 0.02 * 1e9))
	before := usageNow()
	time.Sleep(time.Duration(seconds * 1e9))
	used := usageNow().since(before)
	cpu := used.user + used.sys
	return o.with("idle_seconds", seconds).with("idle_cpu_seconds", cpu).
		with("idle_cpu_percent", 100*cpu/seconds).with("idle_context_switches", used.switches)
}
