package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// awaitAll lets others run until as many goroutines have come.
func awaitAll(arrived *atomic.Int64, all int) {
	for arrived.Load() < int64(all) {
		time.Sleep(200 * time.Microsecond)
	}
}

func pressure(p *Params) *Outcome {
	tasks := p.Scaled(5_000, 20)
	var arrived atomic.Int64
	usage := usageNow()
	start := time.Now()
	rendezvous := make(chan uint64)
	ends := make([]float32, tasks)
	var group sync.WaitGroup
	group.Add(tasks)
	for task := range tasks {
		go func() {
			arrived.Add(1)
			rendezvous <- uint64(task)
			ends[task] = float32(time.Since(start).Nanoseconds())
			group.Done()
		}()
	}
	awaitAll(&arrived, tasks)
	sum := uint64(0)
	for range tasks {
		sum += <-rendezvous
	}
	group.Wait()
	seconds := time.Since(start).Seconds()
	checkSum(sum, uint64(tasks))
	check(seconds < 4, "%d tasks took %.2f s", tasks, seconds)
	o := &Outcome{ops: uint64(tasks), seconds: seconds, samples: ends, usage: usageNow().since(usage)}
	return o.with("completed", tasks)
}

func parked(p *Params) *Outcome {
	fibers := p.Scaled(20_000, 20)
	places := make([]uint64, fibers)
	wakers := make([]chan struct{}, fibers)
	for fiber := range wakers {
		wakers[fiber] = make(chan struct{}, 1)
	}
	resident := uint64(0)
	rounds := newRounds(p)
	for rounds.more() {
		var arrived atomic.Int64
		var group sync.WaitGroup
		var sum atomic.Uint64
		group.Add(fibers)
		for fiber := range fibers {
			go func() {
				arrived.Add(1)
				<-wakers[fiber]
				sum.Add(places[fiber])
				group.Done()
			}()
		}
		awaitAll(&arrived, fibers)
		if resident == 0 {
			resident = residentBytes()
		}
		for fiber := range fibers {
			places[fiber] = 3
			wakers[fiber] <- struct{}{}
		}
		group.Wait()
		check(sum.Load() == uint64(3*fibers), "the fibers' sum is %d", sum.Load())
		rounds.done(uint64(fibers))
	}
	return rounds.finish().with("rss_bytes_parked", resident)
}

func herd(p *Params) *Outcome {
	fibers := p.Scaled(1_000, 10)
	places := make([]uint64, fibers)
	rounds := newRounds(p)
	for rounds.more() {
		var arrived atomic.Int64
		var group sync.WaitGroup
		gate := make(chan struct{})
		group.Add(fibers)
		for fiber := range fibers {
			go func() {
				arrived.Add(1)
				<-gate
				places[fiber] = uint64(fiber)
				group.Done()
			}()
		}
		for arrived.Load() < int64(fibers) {
			runtime.Gosched()
		}
		close(gate)
		group.Wait()
		checkPlaces(places, 0)
		clear(places)
		rounds.done(uint64(fibers))
	}
	return rounds.finish()
}

func counters(p *Params, first, second *sync.WaitGroup) *Outcome {
	additions := p.Scaled(100_000, 100)
	rounds := newRounds(p)
	for rounds.more() {
		var arrived atomic.Int64
		var both sync.WaitGroup
		both.Add(2)
		for _, group := range []*sync.WaitGroup{first, second} {
			group.Add(1)
			go func() {
				meet(&arrived, 2)
				for range additions {
					group.Add(1)
					group.Done()
				}
				group.Done()
				group.Wait()
				both.Done()
			}()
		}
		both.Wait()
		rounds.done(uint64(2 * additions))
	}
	distance := uintptr(unsafe.Pointer(second)) - uintptr(unsafe.Pointer(first))
	return rounds.finish().with("bytes_apart", distance)
}

func countersAdjacent(p *Params) *Outcome {
	two := new([2]sync.WaitGroup)
	return counters(p, &two[0], &two[1])
}

func countersApart(p *Params) *Outcome {
	two := new(struct {
		first   sync.WaitGroup
		between [4096]byte
		second  sync.WaitGroup
	})
	return counters(p, &two.first, &two.second)
}
