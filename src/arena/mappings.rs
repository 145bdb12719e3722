//! Mappings of their own, one per huge block, and a cache of freed ones.
//!
//! - At most [`SLOTS`] mappings of at most [`MAX_CACHED`] bytes each are cached, none where address space is limited.
//!   One that no block took in a whole window of the reserve is unmapped at its end; `collect(true)` and a refusal of
//!   the system unmap all.
//! - What a cached mapping holds resident is part of the reserve and keeps to its bound: from the mapping's start, as
//!   much as there is room for, up to the first larger gap; the rest is discarded in the call that frees the block. A
//!   block that takes a mapping whose contents were discarded in the same window would have wanted them, which earns
//!   the reserve a bonus, as it does for slices.
//! - A mapping is taken for blocks that waste at most an eighth of it.
//!
//! A mapping's record lies in the owner's line of the descriptor of its first slice, which no heap uses. While it is
//! cached the descriptor is registered as nothing, so that a stale pointer finds no block.

use super::slots::Slots;
use super::{address_space_is_limited, count_mapping, registry, reserve};
use crate::os::{self, Reservation};
use crate::page::descriptor::{Descriptor, PageRef};
use crate::units::{MIB, SLICE_SIZE};
use std::ptr::{self, NonNull};

/// How many mappings are cached.
const SLOTS: usize = 4;
/// The largest of them: together they take 1 GiB of address space, and no more memory than the reserve allows.
const MAX_CACHED: usize = 256 * MIB;
/// A block wastes at most a mapping's bytes divided by this.
const WASTE: usize = 8;

const NAME: &std::ffi::CStr = c"millpond huge block";

static CACHE: Slots<Descriptor, SLOTS> = Slots::new();

/// A mapping of its own. Not to be dropped: it ends in [`free`] or [`unmap`].
#[must_use]
pub struct Mapping {
    reservation: Reservation,
    /// What lies behind so many bytes reads as zero. Of a cached mapping.
    dirty: usize,
    /// So many of them are resident, and counted in the reserve. Of a cached mapping.
    held: usize,
    /// How many resident bytes were discarded when it was freed. Of a cached mapping.
    discarded: usize,
    /// It was cached at the end of a window.
    aged: bool,
}

static_assertions::const_assert!(size_of::<Mapping>() <= 64);
static_assertions::const_assert!(align_of::<Mapping>() <= align_of::<Descriptor>());

impl Mapping {
    /// The first byte of the block.
    pub fn base(&self) -> NonNull<u8> {
        self.reservation.base()
    }

    /// The bytes of the block.
    pub fn bytes(&self) -> usize {
        self.reservation.bytes()
    }

    fn new(reservation: Reservation) -> Self {
        count_mapping(reservation.mapped_bytes(), true);
        Self {
            reservation,
            dirty: 0,
            held: 0,
            discarded: 0,
            aged: false,
        }
    }

    /// Makes a cached mapping, whose contents are no part of the reserve any more, a block's.
    fn open(&mut self, zeroed: bool) {
        if !zeroed || self.dirty == 0 {
            // The contents are the block's.
        } else if self.held >= self.dirty / 2 {
            // SAFETY: the range lies in the mapping, which is the caller's.
            unsafe { self.base().write_bytes(0, self.dirty) };
        } else {
            // Not worth making the gaps between sparse contents resident.
            // SAFETY: as above, on the borders of system pages.
            unsafe { os::discard(self.base(), self.dirty) };
        }
        (self.dirty, self.held, self.discarded, self.aged) = (0, 0, 0, false);
    }
}

fn record(page: PageRef) -> *mut Mapping {
    ptr::from_ref(page).cast_mut().cast::<Mapping>()
}

/// Leaves the mapping's record with the descriptor of its first slice.
pub fn store(page: PageRef, mapping: Mapping) {
    // SAFETY: a slice that only this mapping covers: nobody else uses the owner's line of its descriptor.
    unsafe { record(page).write(mapping) };
}

/// Takes the record back.
///
/// # Safety
/// The caller holds the mapping: as the owner of its block, or since it took it from the cache.
pub unsafe fn load(page: PageRef) -> Mapping {
    // SAFETY: written by `store`, taken once: the caller holds the mapping.
    let mapping = unsafe { record(page).read() };
    // SAFETY: as above. The line is all zero again, as unused descriptors are, which is a valid owner's line.
    unsafe { record(page).cast::<u8>().write_bytes(0, 64) };
    mapping
}

/// A mapping for a block of `bytes` at a multiple of `align`, both multiples of slices; zero where `zeroed` asks for it.
/// Every slice of it has a descriptor.
pub fn allocate(bytes: usize, align: usize, zeroed: bool) -> Option<Mapping> {
    if let Some(mut mapping) = take(bytes, align) {
        mapping.open(zeroed);
        return Some(mapping);
    }
    or_without_cache(|| {
        let reservation = os::reserve(bytes, align, NAME)?;
        registry::cover(reservation.base(), bytes).then(|| Mapping::new(reservation))
    })
}

/// Tries something, and once more without the cache if the system refuses it.
pub fn or_without_cache<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    attempt().or_else(|| if empty() > 0 { attempt() } else { None })
}

/// Whether a mapping of `there` bytes does for a block of `bytes`.
pub fn fits(there: usize, bytes: usize) -> bool {
    there >= bytes && there - bytes <= there / WASTE
}

fn take(bytes: usize, align: usize) -> Option<Mapping> {
    let fits = |page: &Descriptor| {
        // What the shared line says of the block that it was.
        let (there, start) = (page.shared().block_bytes(), page.shared().start().addr());
        self::fits(there, bytes) && start.is_multiple_of(align)
    };
    let page = CACHE.take(fits)?;
    // SAFETY: just taken.
    let mapping = unsafe { load(page) };
    if !fits(page) {
        // It was another one for a moment.
        unmap(mapping);
        return None;
    }
    let regretted = if mapping.aged { 0 } else { mapping.discarded };
    reserve::take_mapping(mapping.held, regretted);
    Some(mapping)
}

/// Frees a block's mapping, whose contents nobody needs.
pub fn free(mut mapping: Mapping) {
    reserve::tick();
    if mapping.reservation.mapped_bytes() > MAX_CACHED || address_space_is_limited() {
        release(mapping);
    } else if keep(&mut mapping) {
        cache(mapping);
    } else {
        unmap(mapping);
    }
}

/// Decides how much of the contents stays, and discards the rest; false where the system does not allow that.
fn keep(mapping: &mut Mapping) -> bool {
    let (base, bytes) = (mapping.base(), mapping.bytes());
    // SAFETY: the range is the mapping.
    let Some(all) = (unsafe { os::resident(base, bytes, usize::MAX) }) else {
        return false;
    };
    let room = reserve::keep_mapping(all.bytes);
    let kept = if room == all.bytes {
        all
    } else {
        // SAFETY: as above.
        let part = unsafe { os::resident(base, bytes, room) };
        let part = part.unwrap_or(os::Resident { bytes: 0, end: 0 });
        reserve::drop_mapping(room.saturating_sub(part.bytes));
        part
    };
    mapping.dirty = kept.end;
    mapping.held = kept.bytes.min(room);
    mapping.discarded = all.bytes - mapping.held;
    reserve::count_discarded(mapping.discarded);
    // Also where nothing is resident: it may be swapped out, and has to read as zero.
    // SAFETY: a part of the mapping, whose contents nobody needs, on the borders of system pages.
    kept.end == bytes || unsafe { os::give_back(base.add(kept.end), bytes - kept.end) }
}

/// Puts a mapping into the cache.
fn cache(mapping: Mapping) {
    let Some(page) = registry::slice_descriptor(mapping.base().addr().get()) else {
        return unmap(mapping);
    };
    store(page, mapping);
    if let Some(other) = CACHE.put(page) {
        // SAFETY: it made room, so it is the caller's.
        unmap(unsafe { load(other) });
    }
}

/// Unmaps a mapping that was cached, its contents included.
fn unmap(mapping: Mapping) {
    reserve::drop_mapping(mapping.held);
    reserve::count_discarded(mapping.held);
    release(mapping);
}

fn release(mapping: Mapping) {
    count_mapping(mapping.reservation.mapped_bytes(), false);
    drop(mapping);
}

/// Changes the length of a block's mapping, which may move: see [`os::remap`].
///
/// # Safety
/// As for [`os::remap`].
pub unsafe fn resize(mapping: Mapping, bytes: usize, align: usize) -> Result<Mapping, Mapping> {
    // SAFETY: passed on, twice: a refusal leaves the mapping as it was.
    unsafe {
        remap(mapping, bytes, align).or_else(|mapping| match empty() {
            0 => Err(mapping),
            _ => remap(mapping, bytes, align),
        })
    }
}

/// See [`resize`].
///
/// # Safety
/// As for [`os::remap`].
unsafe fn remap(mapping: Mapping, bytes: usize, align: usize) -> Result<Mapping, Mapping> {
    count_mapping(mapping.reservation.mapped_bytes(), false);
    // SAFETY: passed on.
    unsafe { os::remap(mapping.reservation, bytes, align, NAME) }
        .map(Mapping::new)
        .map_err(Mapping::new)
}

/// Unmaps all that is cached; how many mappings that were.
pub fn empty() -> usize {
    let mut count = 0;
    CACHE.take_each(|page| {
        // SAFETY: just taken.
        unmap(unsafe { load(page) });
        count += 1;
    });
    count
}

/// Discards contents until `bytes` are given back or none is left, and leaves the mappings; the bytes given back.
pub fn purge(bytes: usize) -> usize {
    let mut given = 0;
    CACHE.take_each(|page| {
        // SAFETY: just taken.
        let mut mapping = unsafe { load(page) };
        if given >= bytes || mapping.held == 0 {
            return cache(mapping);
        }
        given += mapping.held;
        // SAFETY: a part of the mapping, whose contents nobody needs.
        if !unsafe { os::give_back(mapping.base(), mapping.dirty) } {
            return unmap(mapping);
        }
        reserve::drop_mapping(mapping.held);
        reserve::count_discarded(mapping.held);
        mapping.discarded += mapping.held;
        (mapping.held, mapping.dirty) = (0, 0);
        cache(mapping);
    });
    given
}

/// At the end of a window: unmaps what was there at the end of the last one, too; the bytes given back.
pub fn age() -> usize {
    let mut given = 0;
    CACHE.take_each(|page| {
        // SAFETY: just taken.
        let mut mapping = unsafe { load(page) };
        if mapping.aged {
            given += mapping.held;
            unmap(mapping);
        } else {
            mapping.aged = true;
            cache(mapping);
        }
    });
    given
}

static_assertions::const_assert!(MAX_CACHED.is_multiple_of(SLICE_SIZE));
