//! Blocks that the dynamic loader handed out before this library was there: its own simple allocator serves it until
//! malloc is resolved, and some of those blocks are freed later.
//!
//! They lie in the loader's own data segment, or in pages it mapped itself right behind. Such a block is recognised by
//! the loader's mapping and left alone.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, NonNull};

/// How far behind the loader's last segment its early blocks may lie: it maps more where its last page is full.
const SLACK: usize = 64 * 1024;

struct Search {
    address: usize,
    /// Bytes that can be read from the address on, up to the end of the loader's segment.
    readable: Option<usize>,
}

fn is_loader(name: *const libc::c_char) -> bool {
    if name.is_null() {
        return false;
    }
    // SAFETY: the loader's own C string.
    let path = unsafe { CStr::from_ptr(name) }.to_bytes();
    let file = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    file.starts_with(b"ld-linux") || file.starts_with(b"ld-musl") || file.starts_with(b"ld.so")
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
    // SAFETY: the loader's record, valid during the call, and the search that `readable` passed in.
    let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
    if !is_loader(info.dlpi_name) {
        return 0;
    }
    for index in 0..info.dlpi_phnum as usize {
        // SAFETY: the record has so many headers.
        let header = unsafe { &*info.dlpi_phdr.add(index) };
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W == 0 {
            continue;
        }
        let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        let end = (start + header.p_memsz as usize).next_multiple_of(SLACK);
        if (start..end).contains(&search.address) {
            search.readable = Some(end - search.address);
        }
    }
    1
}

fn readable(block: NonNull<u8>) -> Option<usize> {
    let mut search = Search {
        address: block.addr().get(),
        readable: None,
    };
    // SAFETY: the callback has the right type, and the search lives as long as the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), ptr::from_mut(&mut search).cast()) };
    search.readable
}

/// Whether the dynamic loader handed the block out.
#[cold]
pub fn owns(block: NonNull<u8>) -> bool {
    readable(block).is_some()
}

/// For a block of the loader's, how many bytes from its start on may be read: at least its size, but no more than lie
/// in its system page.
#[cold]
pub fn size_of(block: NonNull<u8>) -> Option<usize> {
    const SYSTEM_PAGE: usize = 4096;
    let in_page = SYSTEM_PAGE - block.addr().get() % SYSTEM_PAGE;
    readable(block).map(|readable| readable.min(in_page))
}
