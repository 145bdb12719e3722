/* What the test programs share: a check that ends the program, and values that the compiler knows nothing of. */
#ifndef CHECK_H
#define CHECK_H

#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

/* Not assert: that may allocate, and says less. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            dprintf(2, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1); \
        } \
    } while (0)

/* Keeps the compiler from knowing what a size or pointer is. */
static inline size_t opaque(size_t value) {
    __asm__ volatile("" : "+r"(value));
    return value;
}
#define HIDE(pointer) ((void *)opaque((size_t)(pointer)))

/* Bytes that tell by themselves whether they are still what was written: fill, and verify before the block is freed. */
static inline void fill(unsigned char *block, size_t size, size_t step, unsigned seed) {
    for (size_t i = 0; i < size; i += step) block[i] = (unsigned char)(seed + i);
}

static inline void verify(const unsigned char *block, size_t size, size_t step, unsigned seed) {
    for (size_t i = 0; i < size; i += step) CHECK(block[i] == (unsigned char)(seed + i));
}

#endif
