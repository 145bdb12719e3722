/* A program whose address space was limited before it started: takes all the memory it can get in blocks of several
 * sizes, must be told ENOMEM and nothing worse, and gets half as much again once it has freed it. Two threads, if there
 * is room for their stacks, allocate a little meanwhile. Prints the most it held, in KiB. */
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct block {
    struct block *next;
    size_t size;
};

static size_t exhaust(struct block **all, size_t size, size_t most) {
    size_t total = 0;
    while (total < most) {
        errno = 0;
        struct block *block = malloc(size);
        if (!block) {
            CHECK(errno == ENOMEM);
            break;
        }
        fill((unsigned char *)(block + 1), size - sizeof *block, 509, (unsigned)size);
        block->size = size;
        block->next = *all;
        *all = block;
        total += size;
    }
    return total;
}

static void free_all(struct block *all) {
    while (all) {
        struct block *next = all->next;
        verify((unsigned char *)(all + 1), all->size - sizeof *all, 509, (unsigned)all->size);
        free(all);
        all = next;
    }
}

static volatile int stop;

static void *modest(void *argument) {
    for (size_t i = 0; !stop; i++) {
        size_t size = i * 97 % 3000 + 1;
        errno = 0;
        unsigned char *block = malloc(i % 2 ? size : size / 2 + 1);
        if (block && i % 2 == 0) {
            unsigned char *grown = realloc(block, size);
            if (!grown) free(block);
            block = grown;
        }
        CHECK(block || errno == ENOMEM);
        if (block) {
            fill(block, size, 61, (unsigned)i);
            verify(block, size, 61, (unsigned)i);
        }
        free(block);
    }
    return argument;
}

int main(void) {
    pthread_t threads[2];
    pthread_attr_t small_stack;
    CHECK(pthread_attr_init(&small_stack) == 0 && pthread_attr_setstacksize(&small_stack, 64 << 10) == 0);
    int count = 0;
    while (count < 2 && pthread_create(&threads[count], &small_stack, modest, NULL) == 0) count++;
    static const size_t sizes[] = {100, 3000, 40000, 300000, 3000000};
    size_t best = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5; i++) {
            struct block *all = NULL;
            /* More than the largest limit would only take time. */
            size_t total = exhaust(&all, sizes[i], 400u << 20);
            errno = 0;
            CHECK(calloc(1, opaque((size_t)1 << 40)) == NULL && errno == ENOMEM);
            if (all) {
                errno = 0;
                CHECK(realloc(all, opaque((size_t)1 << 40)) == NULL && errno == ENOMEM);
            }
            free_all(all);
            all = NULL;
            /* Where there is little, the threads may have taken it meanwhile: a page of each class, 5 MiB in all. */
            size_t again = exhaust(&all, sizes[i], total / 2);
            CHECK(again >= total / 2 || total < 16 << 20);
            free_all(all);
            if (total > best) best = total;
        }
    }
    stop = 1;
    while (count > 0) CHECK(pthread_join(threads[--count], NULL) == 0);
    dprintf(1, "%zu\n", best >> 10);
    return 0;
}
