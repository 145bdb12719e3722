package main

import (
	"sync/atomic"
	"time"
)

const sides = 4

// meet waits, without giving the worker away, until as many goroutines have come here.
func meet(arrived *atomic.Int64, all int64) {
	arrived.Add(1)
	for arrived.Load() < all {
	}
}

func pingPong(p *Params, apart bool) *Outcome {
	trips := uint64(p.Scaled(10_000, sampleEvery))
	var arrived atomic.Int64
	ping, pong := make(chan uint64), make(chan uint64)
	go func() {
		if apart {
			meet(&arrived, 2)
		}
		for value := range ping {
			pong <- value + 1
		}
	}()
	result := make(chan *Outcome)
	go func() {
		if apart {
			meet(&arrived, 2)
		}
		rounds := newRounds(p)
		for rounds.more() {
			sum := uint64(0)
			for i := range trips {
				if i%sampleEvery == 0 {
					start := time.Now()
					ping <- i
					sum += <-pong
					rounds.single(time.Since(start))
				} else {
					ping <- i
					sum += <-pong
				}
			}
			checkSum(sum, trips+1)
			rounds.done(trips)
		}
		close(ping)
		result <- rounds.finish()
	}()
	return <-result
}

func single(p *Params) *Outcome {
	const capacity = 1_000
	channel := make(chan uint64, capacity)
	rounds := newRounds(p)
	for rounds.more() {
		for value := range uint64(capacity) {
			channel <- value
		}
		sum := uint64(0)
		for range capacity {
			sum += <-channel
		}
		checkSum(sum, capacity)
		rounds.done(capacity)
	}
	return rounds.finish()
}

func messages(p *Params) uint64 {
	return uint64(p.Scaled(20_000, 400)) / sides * sides
}

// sendAll sends 0..count from so many goroutines and closes the channel.
func sendAll(channel chan<- uint64, count uint64, senders int) {
	left := new(atomic.Int64)
	left.Store(int64(senders))
	for side := range senders {
		go func() {
			for value := uint64(side); value < count; value += uint64(senders) {
				channel <- value
			}
			if left.Add(-1) == 0 {
				close(channel)
			}
		}()
	}
}

func manyToOne(p *Params, senders int) *Outcome {
	capacity, count := p.Number(), messages(p)
	rounds := newRounds(p)
	for rounds.more() {
		channel := make(chan uint64, capacity)
		sendAll(channel, count, senders)
		sum := uint64(0)
		for value := range channel {
			sum += value
		}
		checkSum(sum, count)
		rounds.done(count)
	}
	return rounds.finish()
}

func manyToMany(p *Params) *Outcome {
	capacity, count := p.Number(), messages(p)
	rounds := newRounds(p)
	for rounds.more() {
		channel := make(chan uint64, capacity)
		sums := make(chan uint64, sides)
		for range sides {
			go func() {
				sum := uint64(0)
				for value := range channel {
					sum += value
				}
				sums <- sum
			}()
		}
		sendAll(channel, count, sides)
		sum := uint64(0)
		for range sides {
			sum += <-sums
		}
		checkSum(sum, count)
		rounds.done(count)
	}
	return rounds.finish()
}

func select2(p *Params) *Outcome {
	count := messages(p)
	rounds := newRounds(p)
	for rounds.more() {
		start := func(first uint64) chan uint64 {
			channel := make(chan uint64, 64)
			go func() {
				for value := first; value < count; value += 2 {
					channel <- value
				}
				close(channel)
			}()
			return channel
		}
		evens, odds := start(0), start(1)
		got, sum := [2]uint64{}, uint64(0)
		for evens != nil || odds != nil {
			select {
			case value, open := <-evens:
				if !open {
					evens = nil
					continue
				}
				got[0]++
				sum += value
			case value, open := <-odds:
				if !open {
					odds = nil
					continue
				}
				got[1]++
				sum += value
			}
		}
		check(got == [2]uint64{count / 2, count / 2}, "%v messages came by the channels", got)
		checkSum(sum, count)
		rounds.done(count)
	}
	return rounds.finish()
}
