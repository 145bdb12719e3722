/* Counts the calls of malloc and its kin on their way to the allocator that is preloaded behind this library, and prints
 * the count when the process ends. Millpond's own statistics count blocks when they enter a bin, not each time one is
 * handed out again, and so show fewer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic unsigned long calls;
static int to = -1;

#define NEXT(type, name, ...) \
    static type (*next)(__VA_ARGS__); \
    if (!next) next = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

void *malloc(size_t size) {
    NEXT(void *, "malloc", size_t);
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    return next(size);
}

void *calloc(size_t count, size_t size) {
    NEXT(void *, "calloc", size_t, size_t);
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    return next(count, size);
}

void *realloc(void *block, size_t size) {
    NEXT(void *, "realloc", void *, size_t);
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    return next(block, size);
}

__attribute__((constructor)) static void start(void) { to = fcntl(2, F_DUPFD_CLOEXEC, 200); }

__attribute__((destructor)) static void end(void) { dprintf(to, "\n  calls %lu\n", calls); }
