//! The depot of each class of a pool: its spans, and the slots of them that are free. Every stack that is neither held
//! nor in a cache is here, whichever threads took it and gave it back.

use super::StackError;
use super::decay::Decay;
use super::directory;
use super::free_slots::{Available, WORD_BITS, lowest};
use super::guard::{self, GuardKind};
use super::handle::Packed;
use super::roster::{Entry, Member, Roster};
use super::size::CLASSES;
use super::span::{self, Span};
use crate::abort;
use crate::arena::meta;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// What a pool is behind its handle. Lives for ever, used again for other pools.
#[repr(C, align(128))]
pub struct Core {
    classes: [Class; CLASSES],
    /// Classes that the pool's end still waits for.
    open: AtomicU32,
    /// 1 if guards are to be protected pages although the kernel has better. Const while in use.
    protect: AtomicU32,
    entry: Entry<Core>,
}

/// The stacks of one size.
#[repr(C, align(128))]
pub struct Class {
    available: Available,
    /// All slots of all spans.
    total: AtomicUsize,
    /// The oldest span.
    first: AtomicPtr<Span>,
    /// Spans before this one probably have no free slot.
    hint: AtomicPtr<Span>,
    spans: AtomicU32,
    pub decay: Decay,
}

impl Class {
    const fn new() -> Self {
        Self {
            available: Available::new(),
            total: AtomicUsize::new(0),
            first: AtomicPtr::new(ptr::null_mut()),
            hint: AtomicPtr::new(ptr::null_mut()),
            spans: AtomicU32::new(0),
            decay: Decay::new(),
        }
    }

    fn reset(&self) {
        self.available.reset();
        self.total.store(0, Ordering::Relaxed);
        self.first.store(ptr::null_mut(), Ordering::Relaxed);
        self.hint.store(ptr::null_mut(), Ordering::Relaxed);
        self.spans.store(0, Ordering::Relaxed);
        self.decay.reset();
    }

    /// Free slots that nobody speaks for.
    pub fn available(&self) -> &Available {
        &self.available
    }

    /// All slots.
    pub fn total(&self) -> usize {
        // Relaxed: counted before the slots are free for the first time.
        self.total.load(Ordering::Relaxed)
    }

    /// How many spans.
    pub fn span_count(&self) -> usize {
        self.spans.load(Ordering::Relaxed) as usize
    }

    /// The spans, from `first` on.
    pub fn spans_from(first: &AtomicPtr<Span>) -> impl Iterator<Item = &'static Span> {
        // Acquire pairs with the Release of `list`.
        let mut at = first.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: records live for ever.
            let span = unsafe { at.as_ref() }?;
            at = span.next().load(Ordering::Acquire);
            Some(span)
        })
    }

    /// All spans, the oldest first.
    pub fn spans(&self) -> impl Iterator<Item = &'static Span> {
        Self::spans_from(&self.first)
    }

    /// The oldest span, or null.
    pub fn first_span(&self) -> *mut Span {
        self.first.load(Ordering::Acquire)
    }

    /// Lists a span as the last.
    fn list(&self, span: &'static Span) {
        self.total.fetch_add(span.slots(), Ordering::Relaxed);
        span.set_number(self.spans.fetch_add(1, Ordering::Relaxed));
        let mut link = &self.first;
        // Release publishes the span's record. Spans are never unlisted while the class is in use.
        while link
            .compare_exchange(
                ptr::null_mut(),
                ptr::from_ref(span).cast_mut(),
                Ordering::Release,
                Ordering::Relaxed,
            )
            .is_err()
        {
            // Acquire as in `spans_from`.
            // SAFETY: not null, as the exchange has just failed, and records live for ever.
            link = unsafe { &*link.load(Ordering::Acquire) }.next();
        }
    }

    /// Takes slots for so many reservations: wherever there are some, the lowest addresses of the oldest spans first,
    /// so that what few stacks are needed lie close together.
    fn find(&self, count: usize, mut take: impl FnMut(&'static Span, usize, u64)) {
        let mut left = count;
        // Who sees a slot gone that was there for its reservation sees, from then on, the one that the other had
        // reserved: so each further round is due to somebody who got ahead meanwhile.
        let mut start = &self.hint;
        loop {
            for span in Self::spans_from(start) {
                for word in 0..span.words() {
                    let taken = span.free.claim(word, left);
                    if taken == 0 {
                        continue;
                    }
                    left -= taken.count_ones() as usize;
                    take(span, word, taken);
                    if left == 0 {
                        self.look_from(span);
                        return;
                    }
                }
            }
            start = &self.first;
        }
    }

    /// Notes where the first free slot probably is. Relaxed, or Release for the record behind it: a hint.
    fn look_from(&self, span: &'static Span) {
        if !ptr::eq(self.hint.load(Ordering::Relaxed), span) {
            self.hint
                .store(ptr::from_ref(span).cast_mut(), Ordering::Release);
        }
    }

    /// Sets the bits of slots that the caller holds. The caller counts them afterwards.
    pub fn set_free(&self, span: &'static Span, word: usize, slots: u64) {
        if !span.free.give(word, slots) {
            let index = word * WORD_BITS + slots.trailing_zeros() as usize;
            abort::misuse(
                span.packed(index).base(),
                "a stack was given back to its pool twice",
            );
        }
        let hint = self.hint.load(Ordering::Acquire);
        // SAFETY: records live for ever.
        if unsafe { hint.as_ref() }.is_none_or(|hint| span.number() < hint.number()) {
            self.look_from(span);
        }
    }
}

impl Class {
    /// Holds those of certain slots of a word that are free, as if they were taken.
    pub fn hold(&self, span: &Span, word: usize, slots: u64) -> u64 {
        let free = slots & span.free.peek(word);
        let reserved = match free.count_ones() {
            0 => return 0,
            count => self.available.reserve(count as usize),
        };
        let held = span.free.claim_these(word, lowest(free, reserved));
        let unused = reserved - held.count_ones() as usize;
        if unused > 0 {
            let _ = self.available.add(unused, || usize::MAX);
        }
        held
    }

    /// Ends that. Never the last to be missing: the caller has a stack of the class besides, or the pool's handle.
    pub fn let_go(&self, span: &'static Span, word: usize, slots: u64) {
        if slots != 0 {
            self.set_free(span, word, slots);
            let _ = self
                .available
                .add(slots.count_ones() as usize, || usize::MAX);
        }
    }
}

impl Member for Core {
    fn entry(&self) -> &Entry<Self> {
        &self.entry
    }
}

static CORES: Roster<Core> = Roster::new();

/// The global pool's.
pub static GLOBAL: Core = Core {
    classes: [const { Class::new() }; CLASSES],
    open: AtomicU32::new(0),
    protect: AtomicU32::new(0),
    entry: Entry::unlisted(),
};

impl Core {
    /// A core for a pool of its own; `None` when the system refuses the memory.
    pub fn claim(protect: bool) -> Option<&'static Core> {
        let core = CORES.claim(|| {
            // Zeroed memory is a core with nothing in it.
            meta::allocate(size_of::<Core>()).map(NonNull::cast)
        })?;
        core.classes.iter().for_each(Class::reset);
        core.open.store(CLASSES as u32, Ordering::Relaxed);
        core.protect.store(u32::from(protect), Ordering::Relaxed);
        Some(core)
    }

    /// Whether it is the global pool's.
    #[inline(always)]
    pub fn is_global(&self) -> bool {
        ptr::eq(self, &GLOBAL)
    }

    /// A number that tells pools apart: 0 for the global one.
    #[inline(always)]
    pub fn identity(&self) -> usize {
        if self.is_global() {
            0
        } else {
            ptr::from_ref(self).addr()
        }
    }

    /// A class of it.
    pub fn class(&self, class: usize) -> &Class {
        &self.classes[class]
    }

    /// All classes.
    pub fn classes(&self) -> &[Class; CLASSES] {
        &self.classes
    }

    /// How it guards its stacks.
    pub fn guard(&self) -> GuardKind {
        if self.protect.load(Ordering::Relaxed) == 1 {
            GuardKind::Protected
        } else {
            guard::kernels()
        }
    }

    /// Takes up to as many stacks as `into` has room for, at least one, and says how many. Those with higher addresses
    /// come first.
    pub fn take(
        &'static self,
        class_index: usize,
        into: &mut [usize],
    ) -> Result<usize, StackError> {
        let class = self.class(class_index);
        class.decay.step(class);
        let wanted = into.len();
        let mut count = 0;
        let mut failure = Ok(());
        let mut take = |span: &'static Span, word, slots| {
            let (guarded, outcome) = span.guard(word, slots);
            let mut rest = guarded;
            while rest != 0 {
                let index = word * WORD_BITS + rest.trailing_zeros() as usize;
                into[count] = span.packed(index).bits();
                count += 1;
                rest &= rest - 1;
            }
            if outcome.is_err() {
                failure = outcome;
                class.let_go(span, word, slots & !guarded);
            }
        };
        let reserved = class.available.reserve(wanted);
        if reserved > 0 {
            class.find(reserved, &mut take);
        } else {
            let bytes = class.total() * (super::StackSize::MIN_BYTES << class_index);
            let bytes = bytes.clamp(span::FIRST_BYTES, span::MOST_BYTES);
            let span = Span::map(self, class_index, bytes, wanted)?;
            let (slots, taken) = (span.slots(), wanted.min(span.slots()));
            class.list(span);
            let _ = class.available.add(slots - taken, || usize::MAX);
            for word in 0..taken.div_ceil(WORD_BITS) {
                let here = (taken - word * WORD_BITS).min(WORD_BITS);
                take(span, word, u64::MAX >> (WORD_BITS - here));
            }
        }
        into[..count].reverse();
        if count > 0 {
            Ok(count)
        } else {
            failure.map(|()| 0)
        }
    }

    /// Gives stacks of one class back, whose holder the caller is. It must not touch the pool afterwards: they may have
    /// been the last that its end was waiting for.
    pub fn give(&'static self, class_index: usize, stacks: &[usize]) {
        let class = self.class(class_index);
        // While the caller's stacks are out nobody unmaps the class.
        class.decay.step(class);
        let mut run: Option<(&'static Span, usize, u64)> = None;
        for (position, &bits) in stacks.iter().enumerate() {
            // SAFETY: the words of stacks.
            let packed = unsafe { Packed::from_bits(bits) }.untagged();
            let Some(span) = directory::span_of(packed.base()) else {
                abort::misuse(packed.base(), "a stack was given back that is no pool's");
            };
            let index = span.index_of(packed.base());
            if position == 0 {
                class.decay.sample(span, index, packed);
            }
            let (word, bit) = (index / WORD_BITS, 1_u64 << (index % WORD_BITS));
            match &mut run {
                Some((last, at, slots)) if ptr::eq(*last, span) && *at == word => *slots |= bit,
                _ => {
                    if let Some((span, word, slots)) = run.replace((span, word, bit)) {
                        Self::give_run(class, span, word, slots);
                    }
                }
            }
        }
        if let Some((span, word, slots)) = run {
            Self::give_run(class, span, word, slots);
        }
        if class.available.add(stacks.len(), || class.total()) {
            // SAFETY: the class is closed, and no stack of it is out.
            unsafe { self.unmap(class_index) };
        }
    }

    fn give_run(class: &Class, span: &'static Span, word: usize, slots: u64) {
        // First: a slot that is free and recent is as good as one that is free only, to the decay.
        span.recent[word].fetch_or(slots, Ordering::Relaxed);
        class.set_free(span, word, slots);
    }

    /// Lets go of a pool: classes whose stacks are all back are unmapped now, the others when the last one is back.
    pub fn close(&'static self) {
        for index in 0..CLASSES {
            let class = self.class(index);
            if class.available.close(class.total()) {
                // SAFETY: as in `give`.
                unsafe { self.unmap(index) };
            }
        }
    }

    /// Unmaps the spans of a class, and ends the use of the core with the last class.
    ///
    /// # Safety
    /// The class is closed and has no stack out: the caller is alone with it.
    unsafe fn unmap(&'static self, index: usize) {
        // The iterator has read a span's link before it gives the span out: a record that is released may be used again
        // at once.
        for span in self.class(index).spans() {
            // SAFETY: the caller is alone with the class.
            unsafe { span.unmap() };
        }
        // AcqRel: the last one releases the core, after what all others did.
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            CORES.release(self);
        }
    }
}
