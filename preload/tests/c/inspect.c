/* Asks the allocator about itself as programs written for glibc do, and checks whether the answers are plausible.
 * While it holds so many bytes as the last line of its standard output says, it prints malloc_info's XML before that
 * line, and malloc_stats's text to standard error. `inspect thread`: another thread has allocated, and ended; more is
 * asked that only Millpond promises. */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 20000, LARGE = 40 };

static void *small[SMALL], *large[LARGE];

/* In glibc, blocks with a mapping of their own count apart. */
static size_t used(struct mallinfo2 info) { return info.uordblks + info.hblkhd; }

static void consistent(struct mallinfo2 info) {
    CHECK(info.uordblks <= info.arena && info.uordblks + info.fordblks == info.arena);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo older = mallinfo();
#pragma GCC diagnostic pop
    size_t total = info.arena + info.hblkhd;
    if (total < INT_MAX) {
        size_t total_then = (size_t)older.arena + (size_t)older.hblkhd;
        CHECK(total_then >= total / 2 && total_then <= total * 2);
        CHECK(older.uordblks >= 0 && older.fordblks >= 0 && older.keepcost >= 0);
    }
}

static void *allocate(void *bytes) {
    for (int i = 0; i < SMALL; i++) {
        small[i] = malloc(100);
        memset(small[i], 1, 100);
    }
    for (int i = 0; i < LARGE; i++) {
        large[i] = malloc(300000);
        memset(large[i], 1, 300000);
    }
    *(size_t *)bytes = SMALL * 100 + LARGE * 300000;
    return NULL;
}

int main(int argc, char **argv) {
    (void)argv;
    /* So that printing allocates nothing between two answers. */
    static char buffer[8192];
    CHECK(setvbuf(stdout, buffer, _IOFBF, sizeof buffer) == 0);
    struct mallinfo2 before = mallinfo2();
    consistent(before);
    size_t held = 0;
    if (argc > 1) {
        /* glibc's mallinfo tells of the main arena only. */
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, allocate, &held) == 0 && pthread_join(thread, NULL) == 0);
    } else {
        allocate(&held);
    }
    struct mallinfo2 full = mallinfo2();
    consistent(full);
    CHECK(used(full) >= used(before) + held && used(full) <= used(before) + held + held / 4 + 200000);
    CHECK(malloc_info(0, stdout) == 0 && malloc_info(1, stdout) == EINVAL);
    fflush(stdout);
    malloc_stats();
    for (int i = 0; i < SMALL; i += 2) free(small[i]);
    for (int i = 0; i < LARGE; i += 2) free(large[i]);
    struct mallinfo2 half = mallinfo2();
    consistent(half);
    CHECK(used(half) < used(full) - held / 3 && used(half) >= used(before) + held / 2);
    for (int i = 1; i < SMALL; i += 2) free(small[i]);
    for (int i = 1; i < LARGE; i += 2) free(large[i]);
    malloc_trim(0);
    struct mallinfo2 after = mallinfo2();
    consistent(after);
    CHECK(used(after) <= used(before) + 200000);
    CHECK(mallopt(M_ARENA_MAX, 1) == 1 && mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
    FILE *full_device = fopen("/dev/full", "w");
    if (full_device && argc > 1) {
        setvbuf(full_device, NULL, _IONBF, 0);
        CHECK(malloc_info(0, full_device) == -1);
    }
    printf("%zu\n", held);
    return 0;
}
