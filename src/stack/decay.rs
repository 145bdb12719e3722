//! What free stacks keep of their memory, and for how long.
//!
//! - A **pass** goes over the class's spans, at most one in a purge delay, a few stacks at each trip to the depot. A
//!   slot that was given back before the last pass came by, and not since, is idle: it is trimmed to the watermark.
//! - The **watermark** is how deep stacks were touched, on average, that came back since the last pass, found by asking
//!   the system (`mincore`) about at most [`SAMPLES`] of them. One that is no deeper than it was when last looked at
//!   doesn't tell how deep its last user went: it counts for half, and loses the deeper half of its memory, so that it
//!   tells the next time. After a pass without any that came back the watermark halves, down to one system page.
//!
//! So idle stacks keep what recent ones used, for a while, and one page each in the end. What is trimmed is held
//! meanwhile like a stack that was taken: nobody runs on it. Of a stack that somebody holds, or that lies in a cache,
//! nothing is ever discarded.

use super::depot::Class;
use super::free_slots::WORD_BITS;
use super::handle::Packed;
use super::span::Span;
use crate::config;
use crate::os;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};

/// How many stacks are asked about between two passes: half a microsecond each, a few where memory is discarded.
const SAMPLES: u32 = 32;
/// After how many stacks a trip to the depot stops trimming (the word that it is at, it finishes): a few microseconds
/// each where there is something to discard.
const TRIMS: usize = 32;
/// How many words of bitmaps it looks at.
const LOOKS: usize = 128;
/// Whoever trims for longer than this was probably lost in a `fork`. If not, two trim at once, which does no harm:
/// slots are held, and the rest are estimates.
const LOST_AFTER_MS: u64 = 1000;

/// The decay of one class. Estimates in relaxed atomics: a lost update costs a little memory or time, nothing else.
pub struct Decay {
    /// When the last pass started, in milliseconds.
    started: AtomicU64,
    /// Since when somebody is at it, in milliseconds and at least 1; 0 if nobody is.
    busy: AtomicU64,
    /// Where the pass goes on: null when it is over. By whoever is at it, as is `word`.
    span: AtomicPtr<Span>,
    word: AtomicU32,
    /// System pages.
    watermark: AtomicU32,
    samples: AtomicU32,
    /// The sum of the samples, in system pages.
    sampled: AtomicU64,
    trims: AtomicU64,
}

impl Decay {
    /// Nothing seen.
    pub const fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            span: AtomicPtr::new(ptr::null_mut()),
            word: AtomicU32::new(0),
            watermark: AtomicU32::new(1),
            samples: AtomicU32::new(0),
            sampled: AtomicU64::new(0),
            trims: AtomicU64::new(0),
        }
    }

    /// Starts again, for a new pool.
    pub fn reset(&self) {
        self.span.store(ptr::null_mut(), Relaxed);
        self.watermark.store(1, Relaxed);
        for number in [&self.started, &self.busy, &self.sampled, &self.trims] {
            number.store(0, Relaxed);
        }
        self.samples.store(0, Relaxed);
    }

    /// How many stacks were trimmed.
    pub fn trims(&self) -> u64 {
        self.trims.load(Relaxed)
    }

    /// A part of a pass, if one is due or going on: for slow paths. The caller has a stack of the class out, or the
    /// pool's handle in use, so that the class isn't unmapped meanwhile.
    #[inline]
    pub fn step(&self, class: &Class) {
        let now = os::now_ms();
        if !self.span.load(Relaxed).is_null() || self.is_due(now) {
            self.go_on(class, now, TRIMS, LOOKS);
        }
    }

    /// All that is left of a pass, or a whole one if it is due. As for [`step`](Self::step).
    pub fn pass(&self, class: &Class) {
        let now = os::now_ms();
        if !self.span.load(Relaxed).is_null() || self.is_due(now) {
            self.go_on(class, now, usize::MAX, usize::MAX);
        }
    }

    fn is_due(&self, now: u64) -> bool {
        now.wrapping_sub(self.started.load(Relaxed)) >= config::purge_delay_ms()
    }

    #[cold]
    #[inline(never)]
    fn go_on(&self, class: &Class, now: u64, mut trims: usize, mut looks: usize) {
        let busy = self.busy.load(Relaxed);
        let theirs = busy != 0 && now.saturating_sub(busy) < LOST_AFTER_MS;
        if theirs
            || self
                .busy
                .compare_exchange(busy, now.max(1), Relaxed, Relaxed)
                .is_err()
        {
            return;
        }
        let mut at = self.span.load(Relaxed);
        if at.is_null() {
            self.started.store(now, Relaxed);
            self.move_watermark();
            at = class.first_span();
            self.word.store(0, Relaxed);
        }
        let keep = self.watermark.load(Relaxed);
        let mut word = self.word.load(Relaxed) as usize;
        // SAFETY: records live for ever; a cursor that is left over from an earlier pool is null.
        while let Some(span) = unsafe { at.as_ref() } {
            if word >= span.words() {
                (at, word) = (span.next_span(), 0);
                continue;
            }
            if trims == 0 || looks == 0 {
                break;
            }
            looks -= 1;
            trims = trims.saturating_sub(self.visit(class, span, word, keep));
            word += 1;
        }
        self.word.store(word as u32, Relaxed);
        self.span.store(at, Relaxed);
        self.busy.store(0, Relaxed);
    }

    /// Sets the watermark by what came back since the last pass.
    fn move_watermark(&self) {
        let count = self.samples.swap(0, Relaxed);
        let sum = self.sampled.swap(0, Relaxed);
        let average = sum.div_ceil(u64::from(count.max(1))) as u32;
        let now = if count > 0 {
            average
        } else {
            self.watermark.load(Relaxed) / 2
        };
        self.watermark.store(now.max(1), Relaxed);
    }

    /// Notes how deep a stack is that comes back to the depot, while the caller holds it.
    pub fn sample(&self, span: &Span, index: usize, packed: Packed) {
        if self.samples.load(Relaxed) >= SAMPLES {
            return;
        }
        let limit = packed.limit();
        let usable = packed.end().addr().get() - limit.addr().get();
        // SAFETY: the usable part of a slot, whole system pages of a live span.
        let Some(depth) = (unsafe { os::resident_depth(limit, usable) }) else {
            return;
        };
        let depth = (depth / os::page_bytes()) as u32;
        let pages = if depth > u32::from(span.seen[index].load(Relaxed)) {
            see(span, index, depth);
            depth
        } else {
            let half = depth.div_ceil(2);
            if half < depth {
                self.trim(span, packed, 1, half);
            }
            half
        };
        self.samples.fetch_add(1, Relaxed);
        self.sampled.fetch_add(u64::from(pages), Relaxed);
    }

    /// Trims the idle slots of a word to `keep` system pages; how many there were.
    fn visit(&self, class: &Class, span: &'static Span, word: usize, keep: u32) -> usize {
        let dirty = span.dirty[word].load(Relaxed);
        // A look first, to spare untouched words the swap.
        let recent = match span.recent[word].load(Relaxed) {
            0 => 0,
            _ => span.recent[word].swap(0, Relaxed),
        };
        if dirty | recent == 0 {
            return 0;
        }
        // Slots that are taken or cached are recent when they are back.
        let wanted = dirty & !recent & span.free.peek(word);
        let idle = class.hold(span, word, wanted);
        for_each_bit(idle, |bit| {
            let packed = span.packed(word * WORD_BITS + bit);
            self.trim(span, packed, 1, keep);
        });
        let keep_more = if keep > 1 { idle } else { 0 };
        // What was spoken for at that moment is looked at again.
        let missed = wanted & !idle;
        span.dirty[word].store(keep_more | missed | recent, Relaxed);
        class.let_go(span, word, idle);
        idle.count_ones() as usize
    }

    /// Gives back all memory of the class's free slots.
    pub fn trim_all(&self, class: &Class) {
        for span in class.spans() {
            for word in 0..span.words() {
                let held = class.hold(span, word, span.guarded_slots(word));
                span.dirty[word].fetch_and(!held, Relaxed);
                span.recent[word].fetch_and(!held, Relaxed);
                // Neighbours in one call: guards in between stay, whatever is discarded.
                let mut rest = held;
                while rest != 0 {
                    let first = rest.trailing_zeros() as usize;
                    let run = (!(rest >> first)).trailing_zeros().min(64 - first as u32) as usize;
                    self.trim(span, span.packed(word * WORD_BITS + first), run, 0);
                    rest &= !(u64::MAX >> (WORD_BITS - run) << first);
                }
                class.let_go(span, word, held);
            }
        }
    }

    /// Discards what `run` neighbouring slots hold beyond `keep` system pages each; only one where it keeps any. The
    /// caller holds them.
    fn trim(&self, span: &Span, first: Packed, run: usize, keep: u32) {
        debug_assert!(run == 1 || keep == 0);
        let limit: NonNull<u8> = first.limit();
        let kept = keep as usize * os::page_bytes();
        let bytes = run * first.bytes() - os::page_bytes();
        let index = span.index_of(first.base());
        for slot in index..index + run {
            see(span, slot, keep);
        }
        // SAFETY: from the first slot's lowest usable page to the last one's end or to what is kept of it: whole system
        // pages of a live span, free slots that the caller holds. Where the system refuses (locked memory) they keep
        // their contents, which are of no use, and do no harm.
        if bytes > kept && unsafe { os::give_back(limit, bytes - kept) } {
            self.trims.fetch_add(run as u64, Relaxed);
        }
    }
}

/// Notes how many system pages a slot that the caller holds has at most.
fn see(span: &Span, index: usize, pages: u32) {
    let most = u32::from(u16::MAX);
    span.seen[index].store(pages.min(most) as u16, Relaxed);
}

fn for_each_bit(mut bits: u64, mut visit: impl FnMut(usize)) {
    while bits != 0 {
        visit(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}
