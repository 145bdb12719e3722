//! The half of a page's descriptor that any thread may read and that freeing threads write.

use crate::free_list::remote::RemoteList;
use crate::free_list::{Block, remote::DoubleFree};
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use crate::thread_heap::news::{Announced, Leased, News};
use std::ptr::NonNull;

/// What a slice is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Free, not ours, or not the first slice of what it belongs to.
    None = 0,
    /// The head of a page of blocks of one size class, owned by a heap.
    Binned = 1,
    /// One block in slices of an arena. Nobody's: whoever frees it releases the slices.
    Large = 2,
    /// One block in a mapping of its own.
    Huge = 3,
}

impl Kind {
    fn from_bits(bits: u32) -> Self {
        match bits {
            1 => Self::Binned,
            2 => Self::Large,
            3 => Self::Huge,
            _ => Self::None,
        }
    }
}

/// One cache line per slice. All zero is a slice that isn't in use.
#[repr(C, align(64))]
pub struct SharedLine<P: RemotePage> {
    /// The heap whose lease is needed for the owner's line; null unless `Binned`.
    /// Written under the source heap's lease and the page's token.
    owner: AtomicPtr<P::Heap>,
    /// Any thread.
    remote: RemoteList,
    /// The holder of the page's token.
    news_next: AtomicPtr<P>,
    /// Const after init: the first byte of the page.
    start: AtomicPtr<u8>,
    /// Const after init, except for the holder of a large or huge block that grows: the bytes of one block.
    block_bytes: AtomicUsize,
    /// Const after init: blocks in the page.
    capacity: AtomicU32,
    /// Const after init, in the page's other slices: the distance back to the head's descriptor in bytes.
    head_distance: AtomicU32,
    /// Const after init; written with Release, so that who reads it with Acquire may trust the fields above.
    kind: AtomicU32,
    /// Const after init: the arena that the slices belong to.
    arena: AtomicU32,
}

/// A page that other threads free into.
pub trait RemotePage: Announced + Sized {
    /// The heaps that own such pages.
    type Heap: Leased<Page = Self>;

    /// The page's shared line.
    fn shared(&self) -> &SharedLine<Self>;
}

/// What makes a slice the head of a page.
#[derive(Clone, Copy)]
pub struct Identity {
    /// The use.
    pub kind: Kind,
    /// The page's first byte.
    pub start: NonNull<u8>,
    /// Bytes of one block.
    pub block_bytes: usize,
    /// Blocks in the page.
    pub capacity: u32,
    /// The arena's number.
    pub arena: u32,
}

impl<P: RemotePage> SharedLine<P> {
    /// A line as zeroed memory has it.
    #[cfg(loom)]
    pub fn unused() -> Self {
        Self {
            owner: AtomicPtr::new(std::ptr::null_mut()),
            remote: RemoteList::new(),
            news_next: AtomicPtr::new(std::ptr::null_mut()),
            start: AtomicPtr::new(std::ptr::null_mut()),
            block_bytes: AtomicUsize::new(0),
            capacity: AtomicU32::new(0),
            head_distance: AtomicU32::new(0),
            kind: AtomicU32::new(0),
            arena: AtomicU32::new(0),
        }
    }

    /// Makes this the head of a page, owned by `owner` (null for blocks that nobody owns).
    pub fn register(&self, identity: Identity, owner: *mut P::Heap) {
        // Relaxed throughout: published by the Release at the end to whoever looks the kind up, and by the program's
        // own synchronisation to whoever is handed a block.
        self.remote.reset();
        self.start.store(identity.start.as_ptr(), Ordering::Relaxed);
        self.block_bytes
            .store(identity.block_bytes, Ordering::Relaxed);
        self.capacity.store(identity.capacity, Ordering::Relaxed);
        self.arena.store(identity.arena, Ordering::Relaxed);
        self.owner.store(owner, Ordering::Relaxed);
        // Pairs with the Acquire of `kind`.
        self.kind.store(identity.kind as u32, Ordering::Release);
    }

    /// Ends the page's life, before its slices are released or its mapping goes.
    pub fn unregister(&self) {
        // Relaxed: nobody has a block of the page, so only look-ups of stray addresses race with this.
        self.owner.store(std::ptr::null_mut(), Ordering::Relaxed);
        // Pairs with the Acquire of `kind`: a look-up that sees it has nothing to trust.
        self.kind.store(Kind::None as u32, Ordering::Release);
    }

    /// Marks a slice as `distance` bytes of descriptors behind its page's head; 0 takes the mark back.
    #[inline]
    pub fn set_head_distance(&self, distance: u32) {
        // Relaxed: as in `register`.
        self.head_distance.store(distance, Ordering::Relaxed);
    }

    /// The distance back to the head's descriptor in bytes.
    #[inline(always)]
    pub fn head_distance(&self) -> u32 {
        // Relaxed: whoever has a block of the page was handed it after `register`.
        self.head_distance.load(Ordering::Relaxed)
    }

    /// The owning heap; null for what nobody owns. It can change at any time unless the caller holds the owner's
    /// lease or the page's token, but never from or to a heap whose lease the caller holds.
    #[inline(always)]
    pub fn owner(&self) -> *mut P::Heap {
        // Relaxed: compared with one's own heap, whose pages only oneself re-owns; a first pusher reads it after its
        // Acquire of the word.
        self.owner.load(Ordering::Relaxed)
    }

    /// Gives the page to another heap. The caller holds the old owner's lease and the page's token.
    pub fn set_owner(&self, owner: *mut P::Heap) {
        // Relaxed: `RemoteList::settle` publishes it with Release before the token is back.
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// The use of the slice.
    #[inline]
    pub fn kind(&self) -> Kind {
        // Pairs with the Release of `register` and `unregister`.
        Kind::from_bits(self.kind.load(Ordering::Acquire))
    }

    /// The remote list.
    #[inline(always)]
    pub fn remote(&self) -> &RemoteList {
        &self.remote
    }

    /// The link of the news stack.
    #[inline(always)]
    pub fn news_next(&self) -> &AtomicPtr<P> {
        &self.news_next
    }

    /// The page's first byte.
    #[inline(always)]
    pub fn start(&self) -> *mut u8 {
        // Relaxed, as the fields below: const while anyone has a block of the page.
        self.start.load(Ordering::Relaxed)
    }

    /// The bytes of one block.
    #[inline(always)]
    pub fn block_bytes(&self) -> usize {
        self.block_bytes.load(Ordering::Relaxed)
    }

    /// Notes that the only block of a large or huge page has another size. Only by the block's owner.
    pub fn set_block_bytes(&self, bytes: usize) {
        self.block_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The number of blocks.
    #[inline(always)]
    pub fn capacity(&self) -> u32 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// The arena's number.
    pub fn arena(&self) -> u32 {
        self.arena.load(Ordering::Relaxed)
    }
}

/// What a remote free did.
#[derive(Debug)]
pub struct RemoteFree<H> {
    /// Nobody held the page's owner: the caller holds its lease now and must serve it and give the lease up.
    /// Otherwise the owner knows of the page, or will be told by another thread.
    pub serve: Option<NonNull<H>>,
    /// Every block of the page is free now, and its contents are still there.
    pub pinned: bool,
}

/// Frees `block` into a page of a heap that the caller doesn't hold: one compare-and-swap, and one more where the
/// page has had no remote free since its last drain.
///
/// `wants_purge` decides whether the caller, if it frees the page's last block, discards the contents by `discard`.
///
/// # Safety
/// `block` is a live block of `page`, and the caller gives it up.
#[inline(always)]
pub unsafe fn remote_free<P: RemotePage>(
    page: &P,
    block: NonNull<Block>,
    wants_purge: impl Fn() -> bool,
    discard: impl FnOnce(),
) -> Result<RemoteFree<P::Heap>, DoubleFree> {
    let shared = page.shared();
    // SAFETY: passed on.
    let pushed = unsafe {
        shared
            .remote
            .push(shared.start(), block, shared.capacity(), wants_purge)
    }?;
    if pushed.purge {
        // PURGING keeps everyone out: the owner leaves the page alone until it is EMPTY.
        discard();
        shared.remote.finish_purge();
    }
    let pinned = pushed.filled && !pushed.purge;
    if !pushed.announce {
        return Ok(RemoteFree {
            serve: None,
            pinned,
        });
    }
    // The token is ours, so the owner can't change until the page is popped from the stack that we push it on.
    // SAFETY: a page with its token out has an owner, and heaps are never unmapped.
    let owner = unsafe { NonNull::new_unchecked(shared.owner()) };
    // SAFETY: as above.
    let news: &News<P> = unsafe { owner.as_ref() }.news();
    // SAFETY: the page is live and its token is ours.
    let serve = unsafe { news.push(std::ptr::from_ref(page).cast_mut()) };
    Ok(RemoteFree {
        serve: serve.then_some(owner),
        pinned,
    })
}
