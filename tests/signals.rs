//! A signal that interrupts a thread's first allocation or free, at each of its instructions: the handler allocates,
//! writes and frees, and neither it nor what it interrupted sees a half-built heap.
//!
//! The thread steps through the call under the processor's trap flag. At each instruction it forks; in the child the
//! trap handler is the signal handler, then the interrupted call goes on to its end, and all blocks are checked.
//! That is done until the thread has its heap and is registered for its exit (of the setting up of a new heap, which
//! takes most of the instructions, at some); of the refill behind it, which isn't
//! reentrant, at the system calls only. Millpond isn't the global allocator here, so no other call comes first.

mod support;

/// The tests: those of `stepped`, or, where the trap flag or the way to take a function of the C library's place is
/// missing, as many that are left out.
macro_rules! tests {
    ($($name:ident,)*) => {
        support::harness::each_alone! { $($name,)* }

        #[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
        use stepped::{$($name),*};

        $(
            #[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
            fn $name() {
                support::skip(stringify!($name), "it needs x86-64 and glibc");
            }
        )*
    };
}

tests! {
    the_first_allocation_of_the_main_thread,
    the_first_allocation_of_a_thread,
    the_first_allocation_of_a_thread_takes_an_idle_heap,
    the_first_free_of_a_thread_takes_its_heap,
    the_first_free_of_a_thread_meets_a_free_by_the_handler,
}

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod stepped {
    use super::support::block::Block;
    use std::arch::asm;
    use std::ffi::{c_int, c_void};
    use std::mem::{MaybeUninit, transmute};
    use std::ptr::{self, addr_of_mut};
    use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

    const TRAP_FLAG: u64 = 1 << 8;
    const SYSCALL: [u8; 2] = [0x0F, 0x05];
    /// Among the sizes that the handler allocates.
    const SIZE: usize = 40;
    const SIZES: [usize; 9] = [SIZE, 8, SIZE, 700, 64, 5000, 100_000, SIZE, 300_000];
    const BLOCKS: usize = 2 * SIZES.len();
    /// Of a call with more instructions, most of which set a new heap up, so many are tested before the last ones.
    const SPREAD: u64 = 500;
    /// So many instructions before the thread has its heap, all are tested.
    const LAST: u64 = 1000;

    /// This process is the child of one position.
    static IN_CHILD: AtomicBool = AtomicBool::new(false);
    /// How often Millpond has asked for a thread's exit to be told: the last thing before the heap is used.
    static WATCHED: AtomicUsize = AtomicUsize::new(0);
    /// The value of `WATCHED` from which on the thread has its heap.
    static HAS_HEAP_AT: AtomicUsize = AtomicUsize::new(0);
    static STEPS: AtomicU64 = AtomicU64::new(0);
    /// The step behind which the thread has its heap; 0: steps are counted, to know.
    static HEAP_AT_STEP: AtomicU64 = AtomicU64::new(0);
    static STEPS_BEFORE_HEAP: AtomicU64 = AtomicU64::new(0);
    static TESTED: AtomicU64 = AtomicU64::new(0);
    static SYSTEM_CALLS: AtomicU64 = AtomicU64::new(0);
    /// The first position whose child failed, and how it ended.
    static FAILED_AT: AtomicU64 = AtomicU64::new(0);
    static FAILED_HOW: AtomicU64 = AtomicU64::new(0);

    /// What the handler left: every other block that it allocated.
    static mut KEPT: [Option<Block>; BLOCKS] = [const { None }; BLOCKS];
    /// A block for the handler to free before anything else.
    static mut FOREIGN: Option<Block> = None;

    type SetSpecific = unsafe extern "C" fn(libc::pthread_key_t, *const c_void) -> c_int;

    /// The C library's function.
    fn set_specific() -> SetSpecific {
        static FOUND: AtomicUsize = AtomicUsize::new(0);
        if FOUND.load(Relaxed) == 0 {
            // SAFETY: the name ends with a null byte.
            let found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_setspecific".as_ptr()) };
            assert!(!found.is_null());
            FOUND.store(found.expose_provenance(), Relaxed);
        }
        let found = ptr::with_exposed_provenance::<c_void>(FOUND.load(Relaxed));
        // SAFETY: the symbol is a function of this type.
        unsafe { transmute::<*const c_void, SetSpecific>(found) }
    }

    /// Stands before the C library's function, to see how far the call has come.
    ///
    /// # Safety
    /// As for the C library's.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn pthread_setspecific(
        key: libc::pthread_key_t,
        value: *const c_void,
    ) -> c_int {
        // SAFETY: passed on.
        let result = unsafe { set_specific()(key, value) };
        WATCHED.fetch_add(1, Relaxed);
        result
    }

    fn fill(block: &mut Block, number: usize) {
        block.bytes_mut().fill(number as u8 + 1);
    }

    fn check(block: &Block, number: usize) {
        let bytes = block.bytes();
        // Each byte is as the one before: quick in debug builds, too.
        let intact = bytes[0] == number as u8 + 1 && bytes[1..] == bytes[..bytes.len() - 1];
        assert!(intact, "block {number} was overwritten");
    }

    /// What the program's signal handler does.
    fn handle_signal() {
        // SAFETY: this process has one thread, which uses these places here, before, and after the call.
        let (kept, foreign) = unsafe { (&mut *addr_of_mut!(KEPT), &mut *addr_of_mut!(FOREIGN)) };
        if let Some(block) = foreign.take() {
            block.free();
        }
        let mut blocks: [MaybeUninit<Block>; BLOCKS] = [const { MaybeUninit::uninit() }; BLOCKS];
        for (number, place) in blocks.iter_mut().enumerate() {
            fill(place.write(Block::new(SIZES[number / 2])), number);
        }
        for (number, place) in blocks.into_iter().enumerate() {
            // SAFETY: written above.
            let block = unsafe { place.assume_init() };
            check(&block, number);
            if number % 2 == 0 {
                block.free();
            } else {
                kept[number] = Some(block);
            }
        }
    }

    extern "C" fn on_trap(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel hands the context of the interrupted thread over.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        let registers = &mut context.uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as u64;
        let step = STEPS.fetch_add(1, Relaxed) + 1;
        let has_heap = WATCHED.load(Relaxed) >= HAS_HEAP_AT.load(Relaxed);
        let heap_at = HEAP_AT_STEP.load(Relaxed);
        if heap_at == 0 {
            STEPS_BEFORE_HEAP.fetch_add(u64::from(!has_heap), Relaxed);
            return;
        }
        let wanted =
            !has_heap && (step + LAST > heap_at || step.is_multiple_of(heap_at / SPREAD + 1));
        let code = ptr::with_exposed_provenance::<[u8; 2]>(at as usize);
        // SAFETY: the next instruction; a page's last byte is no instruction of one byte where code goes on.
        let system_call = unsafe { code.read_unaligned() } == SYSCALL;
        if !system_call && !wanted {
            return;
        }
        // Not the C library's function: the handlers that it runs are for forks outside the allocator, and this
        // may have interrupted the one that registers them.
        // SAFETY: the child goes on with a copy of everything.
        let child = unsafe { libc::syscall(libc::SYS_fork) } as libc::pid_t;
        assert_ne!(child, -1, "no process");
        if child == 0 {
            IN_CHILD.store(true, Relaxed);
            // SAFETY: ends a child that hangs.
            unsafe { libc::alarm(10) };
            handle_signal();
            registers[libc::REG_EFL as usize] &= !(TRAP_FLAG as i64);
            return;
        }
        TESTED.fetch_add(1, Relaxed);
        SYSTEM_CALLS.fetch_add(u64::from(system_call), Relaxed);
        let mut status = 0;
        // SAFETY: the child is ours and waited for once.
        unsafe { libc::waitpid(child, &mut status, 0) };
        if status != 0 && FAILED_AT.load(Relaxed) == 0 {
            FAILED_AT.store(step, Relaxed);
            FAILED_HOW.store(status as u64, Relaxed);
        }
    }

    /// Runs `call` with a trap at every instruction.
    fn stepped<R>(call: impl FnOnce() -> R) -> R {
        // SAFETY: the flag is set by way of the stack, below the red zone that `asm!` is kept out of.
        unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
        let result = call();
        // SAFETY: as above.
        unsafe { asm!("pushfq", "and qword ptr [rsp], -257", "popfq") };
        result
    }

    /// In the child, behind the interrupted call: all blocks are distinct and intact, and nothing is lost.
    fn finish(first: Option<Block>, others: &mut Vec<Block>) -> ! {
        // SAFETY: as in `handle_signal`.
        let kept = unsafe { &mut *addr_of_mut!(KEPT) };
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        let mut new = Vec::new();
        if let Some(mut block) = first {
            fill(&mut block, 100);
            new.push((100, block));
        }
        for round in 0..4 {
            for size in SIZES {
                let number = 101 + round;
                let mut block = Block::new(size);
                fill(&mut block, number);
                new.push((number, block));
            }
        }
        let mut see = |number: usize, block: &Block| {
            check(block, number);
            let start = block.start().addr().get();
            ranges.push((start, start + block.layout().size()));
        };
        for (number, block) in kept.iter().enumerate() {
            if let Some(block) = block {
                see(number, block);
            }
        }
        new.iter().for_each(|(number, block)| see(*number, block));
        ranges.sort();
        assert!(
            ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "blocks overlap"
        );
        for block in kept.iter_mut() {
            if let Some(block) = block.take() {
                block.free();
            }
        }
        new.into_iter().for_each(|(_, block)| block.free());
        others.drain(..).for_each(Block::free);
        millpond::collect(true);
        let stats = millpond::stats();
        // A heap that was lost would keep what was freed into it.
        assert_eq!((stats.live_bytes, stats.threads), (0, 1), "{stats:#?}");
        // SAFETY: ends the child, which shares everything with its parent's test, at once.
        unsafe { libc::_exit(0) }
    }

    /// Steps through `call`, twice: to count its instructions, in a child, and to test them. `watched` is how often it
    /// asks to be told of the thread's exit until it has its heap; `others` are freed by each child at the end.
    fn each_position(watched: usize, mut others: Vec<Block>, call: impl FnOnce() -> Option<Block>) {
        // Looked up before the steps are counted.
        set_specific();
        // The thread that panics is the last one of the child, whose end would be the process's success.
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("{panic}");
            if IN_CHILD.load(Relaxed) {
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(101) };
            }
        }));
        // SAFETY: zero is a valid action but for its handler, which has the right type.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_trap as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut()), 0);
        }
        HAS_HEAP_AT.store(WATCHED.load(Relaxed) + watched, Relaxed);
        let mut pipe = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
        // SAFETY: the child goes on with a copy of everything and ends in this function.
        let counter = unsafe { libc::syscall(libc::SYS_fork) };
        assert_ne!(counter, -1, "no process");
        let mut steps = 0_u64;
        if counter == 0 {
            stepped(call);
            // SAFETY: the number is eight bytes; then the child ends at once.
            unsafe {
                libc::write(pipe[1], STEPS_BEFORE_HEAP.as_ptr().cast::<c_void>(), 8);
                libc::_exit(0)
            }
        }
        // SAFETY: as above; the child is waited for once.
        unsafe {
            assert_eq!(libc::read(pipe[0], (&raw mut steps).cast(), 8), 8);
            libc::waitpid(counter as libc::pid_t, ptr::null_mut(), 0);
        }
        HEAP_AT_STEP.store(steps, Relaxed);
        let first = stepped(call);
        if IN_CHILD.load(Relaxed) {
            finish(first, &mut others);
        }
        let tested = TESTED.load(Relaxed);
        println!(
            "{steps} instructions until there is a heap, {tested} positions tested, {} of them at system calls",
            SYSTEM_CALLS.load(Relaxed)
        );
        let failed = FAILED_AT.load(Relaxed);
        assert_eq!(
            failed,
            0,
            "with a signal behind instruction {failed} the process ended with status {:#x}",
            FAILED_HOW.load(Relaxed)
        );
        assert!(tested >= 50, "only {tested} positions");
        others.into_iter().chain(first).for_each(Block::free);
    }

    fn on_thread<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
        std::thread::spawn(work).join().unwrap()
    }

    fn allocate() -> Option<Block> {
        Some(Block::new(SIZE))
    }

    pub fn the_first_allocation_of_the_main_thread() {
        each_position(1, Vec::new(), allocate);
    }

    pub fn the_first_allocation_of_a_thread() {
        on_thread(|| each_position(1, Vec::new(), allocate));
    }

    pub fn the_first_allocation_of_a_thread_takes_an_idle_heap() {
        let left = on_thread(|| vec![Block::new(SIZE), Block::new(700)]);
        on_thread(|| each_position(1, left, allocate));
    }

    pub fn the_first_free_of_a_thread_takes_its_heap() {
        let mut left = on_thread(|| vec![Block::new(SIZE), Block::new(SIZE), Block::new(700)]);
        let block = left.pop().unwrap();
        // A thread that frees without a heap asks once for that, and once when it has one.
        let free = move || {
            block.free();
            None
        };
        on_thread(|| each_position(2, left, free));
    }

    pub fn the_first_free_of_a_thread_meets_a_free_by_the_handler() {
        let mut left = on_thread(|| vec![Block::new(SIZE), Block::new(SIZE), Block::new(SIZE)]);
        let block = left.pop().unwrap();
        let free = move || {
            block.free();
            None
        };
        // SAFETY: before the thread that uses it starts.
        unsafe { *addr_of_mut!(FOREIGN) = left.pop() };
        on_thread(|| each_position(2, left, free));
    }
}
