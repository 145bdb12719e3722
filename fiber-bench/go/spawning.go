package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

func checkPlaces(places []uint64, round uint64) {
	sum, n := uint64(0), uint64(len(places))
	for _, place := range places {
		sum += place
	}
	check(sum == n*round+n*(n-1)/2, "the tasks' sum is %d", sum)
}

// all starts count goroutines and waits for all of them.
func all(count int, child func(int)) {
	var group sync.WaitGroup
	group.Add(count)
	for index := range count {
		go func() {
			child(index)
			group.Done()
		}()
	}
	group.Wait()
}

func nursery(p *Params) *Outcome {
	children := p.Scaled(1_000, 10)
	places := make([]uint64, children)
	rounds := newRounds(p)
	for round := uint64(0); rounds.more(); round++ {
		all(children, func(child int) { places[child] = round + uint64(child) })
		checkPlaces(places, round)
		rounds.done(uint64(children))
	}
	return rounds.finish()
}

func sequential(p *Params) *Outcome {
	fibers := p.Scaled(1_000, sampleEvery)
	result := make(chan int)
	rounds := newRounds(p)
	for rounds.more() {
		sum := 0
		for i := range fibers {
			if i%sampleEvery == 0 {
				start := time.Now()
				go func() { result <- i }()
				sum += <-result
				rounds.single(time.Since(start))
			} else {
				go func() { result <- i }()
				sum += <-result
			}
		}
		checkSum(uint64(sum), uint64(fibers))
		rounds.done(uint64(fibers))
	}
	return rounds.finish()
}

func trivial(p *Params) *Outcome {
	tasks := p.Scaled(10_000, 10)
	places := make([]uint64, tasks)
	rounds := newRounds(p)
	for round := uint64(0); rounds.more(); round++ {
		all(tasks, func(i int) { places[i] = uint64(work(uint32(i+1), 1)) + round })
		sum, right := uint64(0), workSum(1, tasks+1, 1)+uint64(tasks)*round
		for _, place := range places {
			sum += place
		}
		check(sum == right, "the tasks' sum is %d and not %d", sum, right)
		rounds.done(uint64(tasks))
	}
	return rounds.finish()
}

func switchTask(p *Params) *Outcome {
	tasks := p.Scaled(1_000, 10)
	places := make([]uint64, tasks)
	rounds := newRounds(p)
	for round := uint64(0); rounds.more(); round++ {
		all(tasks, func(task int) {
			places[task] = round
			runtime.Gosched()
			places[task] += uint64(task)
		})
		checkPlaces(places, round)
		rounds.done(uint64(tasks))
	}
	return rounds.finish()
}

func yieldMany(p *Params) *Outcome {
	fibers, yields := p.Scaled(200, 4), p.Scaled(1_000, 10)
	places := make([]int, fibers)
	rounds := newRounds(p)
	for rounds.more() {
		all(fibers, func(fiber int) {
			done := 0
			for range yields {
				runtime.Gosched()
				done++
			}
			places[fiber] = done
		})
		for fiber, done := range places {
			check(done == yields, "a fiber yielded %d times", done)
			places[fiber] = 0
		}
		rounds.done(uint64(fibers * yields))
	}
	return rounds.finish()
}

func link(left int, sum uint64, done chan<- uint64) {
	go func() {
		if left == 1 {
			done <- sum + 1
		} else {
			link(left-1, sum+uint64(left), done)
		}
	}()
}

func chained(p *Params) *Outcome {
	length := p.Scaled(1_000, 10)
	done := make(chan uint64, 1)
	rounds := newRounds(p)
	for rounds.more() {
		link(length, 0, done)
		checkSum(<-done, uint64(length)+1)
		rounds.done(uint64(length))
	}
	return rounds.finish()
}

func node(first, leaves uint64, result chan<- uint64) {
	if leaves == 1 {
		result <- first
		return
	}
	each := leaves / 10
	results := make(chan uint64)
	for child := range uint64(10) {
		go node(first+child*each, each, results)
	}
	sum := uint64(0)
	for range 10 {
		sum += <-results
	}
	result <- sum
}

func skynet(p *Params) *Outcome {
	leaves := uint64(1)
	for leaves*10 <= uint64(p.Scaled(1_000_000, 100)) {
		leaves *= 10
	}
	rounds := newRounds(p)
	for rounds.more() {
		result := make(chan uint64)
		go node(0, leaves, result)
		checkSum(<-result, leaves)
		rounds.done(leaves)
	}
	return rounds.finish()
}

func fib(n int) uint64 {
	if n < 2 {
		return uint64(n)
	}
	left := make(chan uint64, 1)
	go func() { left <- fib(n - 1) }()
	right := fib(n - 2)
	return <-left + right
}

func fib30(p *Params) *Outcome {
	n := 30
	if p.Scale < 1 {
		n = 12
	}
	right, next := uint64(0), uint64(1)
	for range n {
		right, next = next, right+next
	}
	rounds := newRounds(p)
	for rounds.more() {
		result := fib(n)
		check(result == right, "fib(%d) is %d", n, result)
		rounds.done(2*next - 1)
	}
	return rounds.finish()
}

func cross(p *Params) *Outcome {
	const backlog = 1_024
	tasks := p.Scaled(100_000, 100)
	var sum atomic.Uint64
	// Apart from the sum, as in the other versions: one word that the spawner reads.
	var completed atomic.Uint64
	spawned, early := uint64(0), uint64(0)
	rounds := newRounds(p)
	for rounds.more() {
		if early == 0 && spawned > 0 {
			early = residentBytes()
		}
		for range tasks {
			value := spawned
			spawned++
			go func() {
				sum.Add(value)
				completed.Add(1)
			}()
			// Without a call that lets others run: the other worker steals.
			for spawned-completed.Load() > backlog {
			}
		}
		rounds.done(uint64(tasks))
	}
	o := rounds.finish()
	for completed.Load() < spawned {
		runtime.Gosched()
	}
	checkSum(sum.Load(), spawned)
	end := residentBytes()
	return o.with("tasks", spawned).with("rss_bytes_early", early).with("rss_bytes_end", end)
}
