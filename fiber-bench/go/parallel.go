package main

import "sync/atomic"

const (
	chunkItems = 4_096
	workUnits  = 15
)

func items(p *Params) int {
	return p.Scaled(1_000_000, 1_000)
}

// chunks runs body on chunks of 0..length, a goroutine each: Go has no loop of its own for this.
func chunks(length, chunk int, body func(from, to int)) {
	all((length+chunk-1)/chunk, func(index int) {
		body(index*chunk, min(length, (index+1)*chunk))
	})
}

func sixtyFourth(length int) int {
	return max((length+63)/64, 1)
}

func store(p *Params) *Outcome {
	length, units := items(p), p.Number()
	places := make([]uint32, length)
	right := workSum(0, length, units)
	rounds := newRounds(p)
	for rounds.more() {
		chunks(length, sixtyFourth(length), func(from, to int) {
			for i := from; i < to; i++ {
				places[i] = work(uint32(i), units)
			}
		})
		rounds.done(uint64(length))
	}
	o := rounds.finish()
	sum := uint64(0)
	for _, place := range places {
		sum += uint64(place)
	}
	check(sum == right, "the items' sum is %d and not %d", sum, right)
	return o
}

func sumOf(p *Params, run func(length int) uint64) *Outcome {
	length := items(p)
	right := workSum(0, length, workUnits)
	rounds := newRounds(p)
	for rounds.more() {
		sum := run(length)
		check(sum == right, "the items' sum is %d and not %d", sum, right)
		rounds.done(uint64(length))
	}
	return rounds.finish()
}

func sharedAtomic(p *Params) *Outcome {
	return sumOf(p, func(length int) uint64 {
		var sum atomic.Uint64
		chunks(length, sixtyFourth(length), func(from, to int) {
			for i := from; i < to; i++ {
				sum.Add(uint64(work(uint32(i), workUnits)))
			}
		})
		return sum.Load()
	})
}

func perChunk(p *Params) *Outcome {
	return sumOf(p, func(length int) uint64 {
		var sum atomic.Uint64
		chunks(length, chunkItems, func(from, to int) { sum.Add(workSum(from, to, workUnits)) })
		return sum.Load()
	})
}

func inPlaces(length, chunk int) uint64 {
	sums := make([]uint64, (length+chunk-1)/chunk)
	chunks(length, chunk, func(from, to int) { sums[from/chunk] = workSum(from, to, workUnits) })
	total := uint64(0)
	for _, sum := range sums {
		total += sum
	}
	return total
}

func noAtomic(p *Params) *Outcome {
	return sumOf(p, func(length int) uint64 { return inPlaces(length, chunkItems) })
}

func reduce(p *Params) *Outcome {
	return sumOf(p, func(length int) uint64 { return inPlaces(length, sixtyFourth(length)) })
}
