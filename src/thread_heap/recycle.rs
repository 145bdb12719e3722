//! Recycling: larger blocks of other pages, own or foreign, that go straight back into use.
//!
//! A bin with credit takes a block that is freed outside its current page onto its own list: no descriptor is written,
//! no compare-and-swap done, no page enters or leaves a queue. To its page the block stays live. With frees in random
//! order each page has a free block now and then, and without recycling almost every allocation would open another
//! page for it; and a thread that was handed another's blocks would need pages of its own while theirs lie idle.
//!
//! When the credit is used up, the list is set aside whole, as a batch, and a new one is begun; a bin that runs empty
//! takes a batch back before it is refilled. Nobody counts or walks a list: a batch has as many blocks as credit was
//! spent on it, less what was allocated meanwhile. This is Bonwick's magazine, as in his vmem paper, with the lists
//! that are there already.
//!
//! - Only for classes above 1 KiB: below, the path into own pages is cheap. What is freed there into others' pages has
//!   batches of its own kind, in the same bounds: `keep.rs`.
//! - Only in bins that allocate: the first refill opens a bin, so a thread that only frees hoards nothing.
//! - A batch has 256 KiB. Where less than 64 MiB are in use, and the heap has blocks of more than two such classes, it has less,
//!   down to 64 KiB: all its bins' lists would be a large part of the process. Wherever batches are counted, they count
//!   as full ones, those of small classes as 16 KiB.
//! - A bin may set one batch aside, and more only while the heap allocates what it frees: a refill by freed
//!   blocks allows eight batches more, or fewer where batches were returned lately. A bin that asks in vain is shut until
//!   the next such refill, or its own. A phase that frees everything thus keeps a batch per class, and at most 2 MiB more.
//! - All batches of a heap together are at most an eighth of the other memory in use, and 64 MiB. When that memory is
//!   freed, they go back, too: a batch for each 256 KiB of pages that the heap releases, or frees the last blocks of in
//!   others, or has more of on its shelves than of late, without a refill by freed blocks in between, and the bins' lists
//!   when there is no batch left. (A block in a batch pins its page, so the memory in use alone would not tell. An owner
//!   that drains a page meanwhile hides that its last block was freed.)
//!   From then to the next refill by freed blocks none is set aside: what a phase frees that only frees goes to its pages.
//! - What stays of a class's batches through a whole purge delay is not needed: half of it goes back when one of the next
//!   eight batches is set aside, in any class.
//! - A heap without a thread keeps its batches for the thread that takes it over, or for whoever lacks blocks of the
//!   class. All such heaps together hoard at most half of the other memory in use: a heap left beyond that is flushed,
//!   and so is one that waited for a whole purge delay (`idle::age`).
//!
//! Flushing a bin returns each block to its page.

use super::batches::{Batches, PURE, SHUT};
use super::class_set::ClassSet;
use super::{Bin, Heap, exit, keep};
use crate::arena::reserve;
use crate::config;
use crate::free_list::Block;
use crate::os;
use crate::size_class::{BinOffset, CLASSES, FIRST_MEDIUM, SizeClass};
use crate::units::{KIB, MIB};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The most bytes of blocks in a batch, about, and the least.
const BATCH_BYTES: usize = 256 * KIB;
const SMALLEST: usize = 64 * KIB;
/// Between the two, a batch has the memory in use divided by this, or what keeps one of each class that the heap uses below so
/// many bytes, if that is more.
const PART: usize = 256;
const TOGETHER: usize = 512 * KIB;
/// What is counted as one: a batch of a small class.
pub const UNIT: usize = 16 * KIB;
/// What a batch counts for.
const UNITS: usize = BATCH_BYTES / UNIT;
/// The most that a heap may set aside, whatever is in use.
const MAX_BATCHES: usize = 64 * MIB / BATCH_BYTES;
/// How many batches a refill by freed blocks allows.
const ALLOWANCE: u32 = 8;
/// After batches were returned, so many have to be used for one more to be allowed.
const USES: u32 = 8;
/// See [`age`].
const CALLS_PER_LOOK: u32 = 8;
/// All batches of a heap are at most the other memory in use divided by this.
const SHARE: usize = 8;
/// All batches of heaps without a thread are at most the other memory in use divided by this, or the floor.
const IDLE_SHARE: usize = 2;
const IDLE_FLOOR: usize = 16 * MIB / BATCH_BYTES;
/// The smallest class that is recycled whoever owns the page.
const FROM: BinOffset = FIRST_MEDIUM;

/// The batches of all heaps without a thread, in units. An estimate: it decides what is kept, never what is correct.
static IDLE_UNITS: AtomicUsize = AtomicUsize::new(0);

/// What a heap knows of its batches.
pub struct Recycling {
    batches: [Batches; CLASSES],
    /// How many units all batches count for.
    units: Cell<usize>,
    /// How many batches beyond a bin's first may be set aside before the next refill by freed blocks.
    allowance: Cell<u32>,
    /// How many that is after each such refill, times [`USES`]: fewer where batches were returned to their pages lately,
    /// which is twice the work, more where they were used.
    worth: Cell<u32>,
    /// The bytes of a batch, about: see [`Recycling::measure`].
    size: Cell<u32>,
    /// How many recycled classes have a current page.
    classes: Cell<u32>,
    /// Bytes of pages released, or of pages on shelves that are fuller than of late, since the last refill by freed blocks.
    released: Cell<usize>,
    /// The classes that asked for credit in vain since then.
    refused: ClassSet,
    /// Batches were trimmed since the last refill by freed blocks.
    ebbing: Cell<bool>,
    /// No bin was refilled or got new credit since all bins' lists went back: they hold blocks of their current pages only.
    swept: Cell<bool>,
    /// As well, of small classes, whose bins are shut since.
    small_swept: Cell<bool>,
    /// [`trim`] is under way.
    trimming: Cell<bool>,
    /// When [`age`] last looked, in milliseconds.
    aged: Cell<u64>,
    /// How often it was called.
    calls: Cell<u32>,
}

impl Recycling {
    /// No batches.
    pub const fn new() -> Self {
        Self {
            batches: [const { Batches::new() }; CLASSES],
            units: Cell::new(0),
            allowance: Cell::new(0),
            worth: Cell::new(ALLOWANCE * USES),
            size: Cell::new(SMALLEST as u32),
            classes: Cell::new(0),
            released: Cell::new(0),
            refused: ClassSet::new(),
            ebbing: Cell::new(false),
            swept: Cell::new(false),
            small_swept: Cell::new(true),
            trimming: Cell::new(false),
            aged: Cell::new(0),
            calls: Cell::new(0),
        }
    }

    /// The batches of a class.
    #[inline(always)]
    pub fn of(&self, class: SizeClass) -> &Batches {
        &self.batches[class.0 as usize]
    }

    /// The credit of a bin for a batch.
    fn full_credit(&self, class: SizeClass) -> i32 {
        (self.size.get() / class.bytes() as u32) as i32
    }

    /// Decides how large batches are from now on. Now and then, not for each batch: the memory in use is a shared line.
    fn measure(&self) {
        let size = reserve::claimed_bytes() / PART;
        let evenly = TOGETHER / self.classes.get().max(1) as usize;
        let size = size.max(evenly).clamp(SMALLEST, BATCH_BYTES);
        self.size.set(size as u32);
    }

    /// Notes that a bin has a page now.
    pub fn open(&self, class: SizeClass) {
        if applies(class.bin()) {
            self.classes.set(self.classes.get() + 1);
            self.measure();
        }
    }

    /// Notes that a bin has none any more.
    pub fn leave(&self, class: SizeClass) {
        if applies(class.bin()) {
            self.classes.set(self.classes.get() - 1);
        }
    }

    /// Gives the bin of a small class new credit.
    #[inline(always)]
    pub fn give_small_credit(&self, class: SizeClass, credit: i32) {
        self.of(class).credit.set(credit);
        self.small_swept.set(false);
    }

    /// Takes the credit of a bin that is being flushed.
    pub fn stop(&self, class: SizeClass) {
        let credit = &self.of(class).credit;
        credit.set(credit.get().min(0));
    }

    /// Ends recycling in all bins until they are refilled.
    pub fn close(&self) {
        for batches in &self.batches {
            batches.credit.set(SHUT);
        }
        self.refused.take_each(|_| {});
    }

    /// Whether the heap, about to be left, may keep its batches.
    pub fn may_idle(&self) -> bool {
        let all = IDLE_UNITS.load(Relaxed) + self.units.get();
        all <= others(all, IDLE_SHARE).max(IDLE_FLOOR) * UNITS
    }

    /// The batches of the bin at an offset.
    #[inline(always)]
    pub fn at(&self, offset: BinOffset) -> &Batches {
        debug_assert!(offset != BinOffset::NONE);
        // SAFETY: the offset is a class's, and batches are as far apart as bins.
        unsafe {
            NonNull::from(&self.batches)
                .cast::<Batches>()
                .byte_add(offset.bytes())
                .as_ref()
        }
    }

    /// Notes that the heap released a page, or has more of them on its shelves than of late.
    pub fn note_released(&self, bytes: usize) {
        self.released.set(self.released.get() + bytes);
    }

    fn is_too_much(&self) -> bool {
        let units = self.units.get();
        self.released.get() >= BATCH_BYTES || units >= 2 * UNITS && units >= self.most() + UNITS
    }

    /// How many units there may be.
    fn most(&self) -> usize {
        others(self.units.get(), SHARE).clamp(1, MAX_BATCHES) * UNITS
    }

    /// Whether the heap has room for one more batch, be it small or large.
    pub fn has_room(&self) -> bool {
        self.units.get() < self.most()
    }

    /// Whether the thread frees and doesn't allocate what it frees.
    pub fn ebbs(&self) -> bool {
        self.ebbing.get()
    }

    /// Counts a batch that was set aside.
    #[inline(always)]
    pub fn add(&self, units: usize) {
        self.units.set(self.units.get() + units);
    }

    /// Shuts a bin without credit whose list may not be set aside, so that its frees needn't ask again before the next refill by
    /// freed blocks.
    pub fn refuse(&self, class: SizeClass) {
        self.of(class).credit.set(SHUT);
        self.refused.insert(class);
    }
}

/// What a batch of the class counts for.
fn units(class: SizeClass) -> usize {
    match applies(class.bin()) {
        true => UNITS,
        false => 1,
    }
}

/// Takes the batch of the class that was set aside last; the caller holds the heap, and has the whole list.
pub fn pop(heap: &Heap, class: SizeClass) -> Option<NonNull<Block>> {
    pop_counted(heap, class, units(class))
}

/// As [`pop`], where it is known what a batch counts for.
#[inline(always)]
pub fn pop_counted(heap: &Heap, class: SizeClass, units: usize) -> Option<NonNull<Block>> {
    debug_assert_eq!(units, self::units(class));
    let recycling = &heap.recycling;
    let list = recycling.of(class).pop()?;
    recycling.units.set(recycling.units.get() - units);
    if !heap.tenanted.get() {
        IDLE_UNITS.fetch_sub(units, Relaxed);
    }
    Some(list)
}

/// Notes whether a live thread holds the heap; the batches of all others are counted together.
pub fn set_tenanted(heap: &Heap, tenanted: bool) {
    if heap.tenanted.replace(tenanted) != tenanted {
        let units = heap.recycling.units.get();
        if tenanted {
            IDLE_UNITS.fetch_sub(units, Relaxed);
        } else {
            IDLE_UNITS.fetch_add(units, Relaxed);
        }
    }
}

/// A share of the memory in use other than so many units, in batches. (Without what is set aside already, or the bound
/// would grow with what it bounds.)
fn others(units: usize, share: usize) -> usize {
    let bytes = reserve::claimed_bytes().saturating_sub(units * UNIT);
    bytes / share / BATCH_BYTES
}

/// The classes of which only others' blocks are recycled.
pub fn small_classes() -> impl Iterator<Item = SizeClass> {
    (0..FROM.class().0).map(SizeClass)
}

fn recycled_classes() -> impl Iterator<Item = SizeClass> {
    (FROM.class().0..CLASSES as u8).map(SizeClass)
}

/// Whether blocks of the bin's class are recycled whoever owns the page. (`BinOffset::NONE` may be asked for, and is.)
#[inline(always)]
pub fn applies(offset: BinOffset) -> bool {
    offset.bytes() >= FROM.bytes()
}

/// Whether the bin's blocks go to their pages. (All bins of the vacant heap, which is never written, are shut.)
#[inline(always)]
pub fn is_shut(heap: &Heap, offset: BinOffset) -> bool {
    heap.recycling.at(offset).credit.get() < 0
}

/// Whether a shut bin's list is known to have blocks of its current page only.
pub fn is_pure(heap: &Heap, offset: BinOffset) -> bool {
    heap.recycling.at(offset).credit.get() == PURE
}

/// Notes that it has.
pub fn note_pure(heap: &Heap, offset: BinOffset) {
    debug_assert!(is_shut(heap, offset));
    heap.recycling.at(offset).credit.set(PURE);
}

/// Spends one credit, so that the caller may put a block onto the bin's list; false where there is none.
#[inline(always)]
pub fn spend(heap: &Heap, offset: BinOffset) -> bool {
    let credit = &heap.recycling.at(offset).credit;
    let left = credit.get() - 1;
    if left < 0 {
        return false;
    }
    credit.set(left);
    true
}

/// Whether the bin's list may be set aside as a batch.
pub fn may_set_aside(heap: &Heap, offset: BinOffset) -> bool {
    let recycling = &heap.recycling;
    let batches = recycling.at(offset);
    let first = batches.is_empty() && !recycling.ebbing.get();
    (first || recycling.allowance.get() > 0) && recycling.has_room()
}

/// Sets the bin's list aside as a batch, and spends one of the new credit.
pub fn set_aside(heap: &Heap, bin: &Bin, offset: BinOffset) {
    let recycling = &heap.recycling;
    let batches = recycling.at(offset);
    if let Some(list) = NonNull::new(bin.free.replace(ptr::null_mut())) {
        // SAFETY: the list was the bin's, and its blocks are larger than 1 KiB.
        unsafe { batches.push(list) };
        recycling.add(UNITS);
        recycling
            .allowance
            .set(recycling.allowance.get().saturating_sub(1));
    }
    batches
        .credit
        .set(recycling.full_credit(offset.class()) - 1);
    recycling.swept.set(false);
}

/// For a bin that ran empty: a batch, the first block of it to be handed out. Otherwise new credit for what the refill
/// will bring.
#[inline]
pub fn take_batch(heap: &Heap, bin: &Bin, class: SizeClass) -> Option<NonNull<Block>> {
    if !applies(class.bin()) {
        return keep::take_batch(heap, bin, class);
    }
    let batches = heap.recycling.of(class);
    batches.credit.set(heap.recycling.full_credit(class));
    heap.recycling.swept.set(false);
    let list = pop_counted(heap, class, UNITS)?;
    let worth = &heap.recycling.worth;
    worth.set((ALLOWANCE * USES).min(worth.get() + 1));
    note_reuse(heap);
    // SAFETY: the batch is the heap's holder's.
    bin.free.set(unsafe { Block::next(list) });
    Some(list)
}

/// Notes a refill by freed blocks: the heap allocates what it frees. (A refill by blocks never used before is no
/// evidence of that: a burst is made of those, and everything is to go back after it.)
#[inline]
pub fn note_reuse(heap: &Heap) {
    heap.recycling
        .allowance
        .set(heap.recycling.worth.get() / USES);
    heap.recycling.ebbing.set(false);
    heap.recycling.released.set(0);
    if !heap.recycling.refused.is_empty() {
        ask_again(&heap.recycling);
    }
}

/// Lets the bins ask for credit again that did in vain.
#[cold]
#[inline(never)]
fn ask_again(recycling: &Recycling) {
    recycling.refused.take_each(|class| {
        let credit = &recycling.of(class).credit;
        credit.set(match applies(class.bin()) {
            // It may have got new credit with its own refill.
            true => credit.get().max(0),
            false => keep::credit_again(class, credit.get()),
        });
    });
}

/// Notes that the heap freed the last block of another one's page, which is as much a sign that its thread only frees as
/// [`Recycling::note_released`].
pub fn note_others_released(heap: &'static Heap, bytes: usize) {
    let recycling = &heap.recycling;
    let clean = recycling.swept.get() && recycling.small_swept.get();
    if recycling.units.get() > 0 || !clean {
        recycling.note_released(bytes);
        trim(heap);
    }
}

/// Returns batches to their pages when there are too many, since other memory was freed meanwhile. For whenever a page
/// became free.
#[inline]
pub fn trim(heap: &'static Heap) {
    if heap.recycling.is_too_much() && !heap.recycling.trimming.get() {
        trim_all(heap);
    }
}

#[cold]
#[inline(never)]
fn trim_all(heap: &'static Heap) {
    let recycling = &heap.recycling;
    // What goes back frees pages, and so would come here again.
    recycling.trimming.set(true);
    // What a phase that frees more than it allocates frees from now on goes to the pages at once.
    recycling.allowance.set(0);
    recycling.ebbing.set(true);
    if return_batches(heap) {
        recycling.worth.set(recycling.worth.get() / 2);
    }
    if recycling.released.get() >= BATCH_BYTES {
        recycling.released.set(0);
        if !recycling.swept.replace(true) {
            return_lists(heap);
        }
        if !recycling.small_swept.replace(true) {
            keep::return_lists(heap);
        }
    }
    recycling.trimming.set(false);
}

/// Whether there were large ones among them.
fn return_batches(heap: &'static Heap) -> bool {
    let recycling = &heap.recycling;
    let mut large = false;
    // (Small ones last: they seldom are many.)
    for class in recycled_classes().chain(small_classes()) {
        while !recycling.of(class).is_empty() && recycling.is_too_much() {
            let Some(batch) = pop(heap, class) else {
                break;
            };
            let released = recycling.released.get();
            let units = units(class);
            large |= units == UNITS;
            recycling
                .released
                .set(released.saturating_sub(units * UNIT));
            exit::return_list(heap, batch);
        }
        if recycling.units.get() == 0 {
            break;
        }
    }
    large
}

/// The lists of the bins pin pages, too.
fn return_lists(heap: &'static Heap) {
    for class in recycled_classes() {
        heap.recycling.stop(class);
        if let Some(list) = NonNull::new(heap.bin(class).free.replace(ptr::null_mut())) {
            exit::return_list(heap, list);
        }
    }
}

/// Returns half of the batches that were not needed for a whole purge delay, so that what one phase of a program hoarded
/// doesn't stay through the next. For whenever a batch was set aside: one such call in [`CALLS_PER_LOOK`] looks at the clock,
/// which takes longer than the rest of setting aside.
#[inline]
pub fn age(heap: &'static Heap) {
    let calls = heap.recycling.calls.get().wrapping_add(1);
    heap.recycling.calls.set(calls);
    if calls.is_multiple_of(CALLS_PER_LOOK) {
        return_old(heap);
    }
}

#[cold]
#[inline(never)]
fn return_old(heap: &'static Heap) {
    let recycling = &heap.recycling;
    let now = os::now_ms();
    if now.wrapping_sub(recycling.aged.get()) < config::purge_delay_ms() || recycling.trimming.get()
    {
        return;
    }
    recycling.aged.set(now);
    recycling.measure();
    recycling.trimming.set(true);
    // What goes back may free pages, which is no sign that the thread only frees.
    let released = recycling.released.get();
    for class in SizeClass::all() {
        for _ in 0..recycling.of(class).unneeded().div_ceil(2) {
            if let Some(batch) = pop(heap, class) {
                exit::return_list(heap, batch);
            }
        }
    }
    recycling.released.set(released);
    recycling.trimming.set(false);
}

/// Moves a batch of the class, or the bin's list, into the empty bin of another heap; the caller holds both. The blocks
/// are recycled ones there, whichever pages they are from.
pub fn transfer(from: &Heap, to: &Heap, class: SizeClass) -> bool {
    if !applies(class.bin()) {
        return false;
    }
    let list =
        pop(from, class).or_else(|| NonNull::new(from.bin(class).free.replace(ptr::null_mut())));
    if let Some(list) = list {
        debug_assert!(to.bin(class).free.get().is_null());
        to.bin(class).free.set(list.as_ptr());
    }
    list.is_some()
}
