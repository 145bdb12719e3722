//! A span: one mapping of up to 1,024 slots of one size, and its record, which lies elsewhere and lives for ever.

use super::StackError;
use super::depot::Core;
use super::directory;
use super::free_slots::{FreeSlots, WORD_BITS};
use super::guard::{self, GuardKind};
use super::handle::Packed;
use super::roster::{Entry, Member, Roster};
use crate::arena::meta;
use crate::os::{self, Reservation};
use crate::units::{MIB, SLICE_SHIFT};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The largest span: one slot of the largest size.
pub const MOST_BYTES: usize = 64 * MIB;
/// The first span of a class; later ones are as large as all before them together.
pub const FIRST_BYTES: usize = 4 * MIB;
/// A span where the system locks and populates new mappings.
const POPULATED_BYTES: usize = MIB;
const MOST_SLOTS: usize = MOST_BYTES >> SLICE_SHIFT;
/// The words of a bitmap.
pub const WORDS: usize = MOST_SLOTS / WORD_BITS;

type Bits = [AtomicU64; WORDS];

/// What there is to know of a span. Records are used again for other spans, so what look-ups read is atomic; it is
/// written by whoever maps the span, before it is entered in the directory.
#[repr(C, align(128))]
pub struct Span {
    /// The first slot's address. Const while mapped, as are all up to `next`.
    base: AtomicUsize,
    class: AtomicU32,
    slots: AtomicU32,
    /// Its number among the class's spans.
    number: AtomicU32,
    own_pool: AtomicU32,
    core: AtomicPtr<Core>,
    /// How many of its guards are protected pages: counted by whoever takes a slot first.
    protected: AtomicU32,
    /// The class's next span, or null: set once while mapped, by any thread.
    next: AtomicPtr<Span>,
    entry: Entry<Span>,
    /// The mapping: of whoever maps or unmaps the span.
    reservation: UnsafeCell<MaybeUninit<Reservation>>,
    /// Any thread.
    pub free: FreeSlots<WORDS>,
    /// Slots given back since the decay last came by. Any thread.
    pub recent: Bits,
    /// Slots that may hold more than they are to keep. The class's decay.
    pub dirty: Bits,
    /// Slots whose guard is there: set by whoever takes a slot first.
    guarded: Bits,
    /// The system pages that each slot had when it was last looked at or trimmed. The slot's holder.
    pub seen: [AtomicU16; MOST_SLOTS],
    /// The slot's holder.
    tags: [AtomicUsize; MOST_SLOTS],
}

// SAFETY: the mapping's cell is touched by the one thread that maps the span, before it is published, and the one that
// unmaps it, after everybody else has left the class (`Available`); everything else is atomic.
unsafe impl Sync for Span {}

impl Member for Span {
    fn entry(&self) -> &Entry<Self> {
        &self.entry
    }
}

static SPANS: Roster<Span> = Roster::new();

fn new_record() -> Option<NonNull<Span>> {
    // Zeroed memory is a record of no slots. Only what is touched of it is resident.
    meta::allocate(size_of::<Span>()).map(NonNull::cast)
}

impl Span {
    /// Maps a span of the class for `core`, of about `bytes`, or fewer if the system refuses. Its first `taken` slots
    /// are the caller's; all others are free.
    pub fn map(
        core: &'static Core,
        class: usize,
        bytes: usize,
        taken: usize,
    ) -> Result<&'static Span, StackError> {
        let span = SPANS.claim(new_record).ok_or(StackError::OutOfMemory)?;
        let slot = 1_usize << (SLICE_SHIFT as usize + class);
        // Where new mappings are populated at once a span is small: all of it is resident for ever.
        let populated = os::populates_mappings();
        let bytes = if populated { POPULATED_BYTES } else { bytes };
        let mut bytes = bytes.max(slot);
        let reservation = loop {
            match os::reserve(bytes, slot, c"millpond stacks") {
                Some(reservation) => break reservation,
                None if bytes > slot => bytes /= 2,
                None => {
                    SPANS.release(span);
                    return Err(guard::refusal());
                }
            }
        };
        reservation.advise_stacks();
        if populated {
            reservation.release_padding();
        }
        let start = reservation.base().as_ptr().expose_provenance();
        if !directory::cover(start, bytes) {
            SPANS.release(span);
            return Err(StackError::OutOfMemory);
        }
        // SAFETY: the record is the caller's until it is published; no look-up reads this cell.
        unsafe { (*span.reservation.get()).write(reservation) };
        span.reset(core, start, class, bytes / slot, taken);
        directory::enter(start, bytes, span);
        Ok(span)
    }

    /// Writes a record that nobody else uses, but for look-ups that are late. Relaxed: entering it publishes it.
    fn reset(&self, core: &'static Core, base: usize, class: usize, slots: usize, taken: usize) {
        self.base.store(base, Ordering::Relaxed);
        self.class.store(class as u32, Ordering::Relaxed);
        self.slots.store(slots as u32, Ordering::Relaxed);
        self.own_pool
            .store(u32::from(!core.is_global()), Ordering::Relaxed);
        self.core
            .store(ptr::from_ref(core).cast_mut(), Ordering::Relaxed);
        self.protected.store(0, Ordering::Relaxed);
        self.next.store(ptr::null_mut(), Ordering::Relaxed);
        for word in 0..WORDS {
            let from = word * WORD_BITS;
            let all = mask_below(slots.saturating_sub(from));
            let first = mask_below(taken.saturating_sub(from));
            self.free.fill(word, all & !first);
            for bits in [&self.recent, &self.dirty, &self.guarded] {
                bits[word].store(0, Ordering::Relaxed);
            }
        }
        for (seen, tag) in self.seen.iter().zip(&self.tags) {
            // A look first: a new record's pages stay untouched.
            if seen.load(Ordering::Relaxed) != 0 {
                seen.store(0, Ordering::Relaxed);
            }
            if tag.load(Ordering::Relaxed) != 0 {
                tag.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Unmaps the span, and ends the use of its record.
    ///
    /// # Safety
    /// The caller is alone with the span's class, and nothing uses a stack of it.
    pub unsafe fn unmap(&'static self) {
        directory::enter(self.base(), self.bytes(), ptr::null());
        // SAFETY: written by `map`, read once: the caller is alone with the span.
        let reservation = unsafe { (*self.reservation.get()).assume_init_read() };
        drop(reservation);
        guard::forget(self.protected.load(Ordering::Relaxed) as usize);
        SPANS.release(self);
    }

    /// The first slot's address.
    pub fn base(&self) -> usize {
        self.base.load(Ordering::Relaxed)
    }

    /// The class of its slots.
    pub fn class(&self) -> usize {
        self.class.load(Ordering::Relaxed) as usize
    }

    /// The bytes of a slot.
    pub fn slot_bytes(&self) -> usize {
        1 << (SLICE_SHIFT as usize + self.class())
    }

    /// How many slots it has.
    pub fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed) as usize
    }

    /// How many words of its bitmaps are in use.
    pub fn words(&self) -> usize {
        self.slots().div_ceil(WORD_BITS).min(WORDS)
    }

    /// All its bytes.
    pub fn bytes(&self) -> usize {
        self.slots() * self.slot_bytes()
    }

    /// Whose it is.
    pub fn core(&self) -> &'static Core {
        // SAFETY: set by `map`, before anybody could find the span; cores live for ever.
        unsafe { &*self.core.load(Ordering::Relaxed) }
    }

    /// Its number among the class's spans, the oldest first.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// See [`number`](Self::number): for whoever is about to list the span.
    pub fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// The class's next span.
    pub fn next(&self) -> &AtomicPtr<Span> {
        &self.next
    }

    /// The class's next span, or null.
    pub fn next_span(&self) -> *mut Span {
        // Acquire pairs with the Release of `Class::list`.
        self.next.load(Ordering::Acquire)
    }

    /// The number of the slot at `base`, an address of the span's.
    pub fn index_of(&self, base: usize) -> usize {
        (base.wrapping_sub(self.base()) >> (SLICE_SHIFT as usize + self.class())) % MOST_SLOTS
    }

    /// The slot that an address lies in: its base and number.
    pub fn slot_of(&self, address: usize) -> Option<(usize, usize)> {
        let offset = address.checked_sub(self.base())?;
        let index = offset >> (SLICE_SHIFT as usize + self.class());
        (index < self.slots().min(MOST_SLOTS)).then(|| (address & !(self.slot_bytes() - 1), index))
    }

    /// The word of a slot's stack.
    pub fn packed(&self, index: usize) -> Packed {
        let base = self.base() + index * self.slot_bytes();
        let own = self.own_pool.load(Ordering::Relaxed) != 0;
        // A slot is not at address zero; the fallback is never used.
        Packed::new(
            NonZeroUsize::new(base).unwrap_or(NonZeroUsize::MIN),
            self.class(),
            own,
        )
    }

    /// The slot's tag.
    pub fn tag(&self, index: usize) -> &AtomicUsize {
        &self.tags[index]
    }

    /// Whether the slot was ever taken.
    pub fn is_guarded(&self, index: usize) -> bool {
        // Relaxed: whoever holds the slot knows; others take it as a hint.
        self.guarded[index / WORD_BITS].load(Ordering::Relaxed) >> (index % WORD_BITS) & 1 == 1
    }

    /// The slots of a word that were ever taken.
    pub fn guarded_slots(&self, word: usize) -> u64 {
        // Relaxed: as in `is_guarded`.
        self.guarded[word].load(Ordering::Relaxed)
    }

    /// Makes sure that slots of a word, which the caller holds, have their guards, and returns those that have.
    pub fn guard(&self, word: usize, slots: u64) -> (u64, Result<(), StackError>) {
        // Relaxed: a slot's bit is written by its holder only, and `claim` synchronises holders.
        let new = slots & !self.guarded[word].load(Ordering::Relaxed);
        if new == 0 {
            return (slots, Ok(()));
        }
        let mut missing = new & !self.guard_together(word, new);
        while missing != 0 {
            let index = word * WORD_BITS + missing.trailing_zeros() as usize;
            let at = self.packed(index).slot();
            // SAFETY: the guard's page is the slot's first, in the span's mapping, and the slot is the caller's.
            match unsafe { guard::install(at, self.core().guard()) } {
                Ok(GuardKind::Protected) => {
                    self.protected.fetch_add(1, Ordering::Relaxed);
                }
                Ok(GuardKind::Installed) => {}
                Err(error) => return (slots & !missing, Err(error)),
            }
            self.note_guarded(word, missing & missing.wrapping_neg());
            missing &= missing - 1;
        }
        (slots, Ok(()))
    }

    /// Guards new slots of a word, as many as the system does in one call, and makes the page that their stacks start on
    /// resident: who takes several at a time uses them, and a page fault each costs more. The slots that are done.
    fn guard_together(&self, word: usize, new: u64) -> u64 {
        let mut pages = [NonNull::dangling(); WORD_BITS];
        let count = self.pages_at(0, word, new, &mut pages);
        // SAFETY: each is a slot's first page, in the span's mapping, and the slots are the caller's.
        let done = unsafe { guard::install_together(&pages[..count], self.core().guard()) };
        if done == 0 {
            return 0;
        }
        let top = self.slot_bytes() - os::page_bytes();
        self.pages_at(top, word, new, &mut pages);
        // SAFETY: each is a slot's last page, as above.
        unsafe { os::populate(&pages[..done]) };
        let mut guarded = new;
        for _ in done..count {
            // The highest is the last.
            guarded &= !(1 << (WORD_BITS - 1 - guarded.leading_zeros() as usize));
        }
        self.note_guarded(word, guarded);
        guarded
    }

    /// Lists the address at an offset in each of a word's slots; how many there are.
    fn pages_at(
        &self,
        offset: usize,
        word: usize,
        slots: u64,
        into: &mut [NonNull<u8>; WORD_BITS],
    ) -> usize {
        let (mut left, mut count) = (slots, 0);
        while left != 0 {
            let index = word * WORD_BITS + left.trailing_zeros() as usize;
            // SAFETY: the offset is less than a slot's length, and the slot in the span's mapping.
            into[count] = unsafe { self.packed(index).slot().add(offset) };
            left &= left - 1;
            count += 1;
        }
        count
    }

    fn note_guarded(&self, word: usize, slots: u64) {
        // Relaxed: as above.
        self.guarded[word].fetch_or(slots, Ordering::Relaxed);
    }
}

/// The lowest `count` bits, at most all.
fn mask_below(count: usize) -> u64 {
    if count >= WORD_BITS {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

static_assertions::const_assert!(WORDS * WORD_BITS == MOST_SLOTS);
// A quarter of a chunk of metadata is what one request may have.
static_assertions::const_assert!(size_of::<Span>() <= 16 * 1024);
