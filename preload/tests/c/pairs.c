/* The loop whose instructions golden.rs counts: `pairs pair|lifo|fifo|random malloc|nothing SIZE ROUNDS`. `pair` frees each
 * block at once; the others allocate 1,000 and free them, the last first, the first first or in an order without order;
 * `nothing` is the same loop without the calls. */
#include <stdlib.h>
#include <string.h>

#define BATCH 1000

#define OPAQUE(value) __asm__ volatile("" : "+r"(value))

static unsigned short order[BATCH];

static int set_order(const char *shape) {
    for (int i = 0; i < BATCH; i++) order[i] = (unsigned short)(strcmp(shape, "lifo") == 0 ? BATCH - 1 - i : i);
    if (strcmp(shape, "random") == 0) {
        unsigned long long state = 12345;
        for (int last = BATCH - 1; last > 0; last--) {
            /* Knuth's generator (MMIX); its high bits are good enough for a shuffle. */
            state = state * 6364136223846793005u + 1442695040888963407u;
            int other = (int)((state >> 33) % (unsigned)(last + 1));
            unsigned short swapped = order[last];
            order[last] = order[other];
            order[other] = swapped;
        }
    }
    return strcmp(shape, "pair") == 0 ? 1 : BATCH;
}

int main(int argc, char **argv) {
    static void *blocks[BATCH];
    static char place;
    if (argc != 5) return 2;
    int count = set_order(argv[1]), calls = strcmp(argv[2], "malloc") == 0;
    size_t size = strtoul(argv[3], NULL, 10);
    for (long round = strtol(argv[4], NULL, 10); round > 0; round--) {
        if (calls) {
            for (int i = 0; i < count; i++) {
                OPAQUE(size);
                blocks[i] = malloc(size);
            }
            for (int i = 0; i < count; i++) {
                void *block = blocks[order[i]];
                OPAQUE(block);
                free(block);
            }
        } else {
            for (int i = 0; i < count; i++) {
                OPAQUE(size);
                blocks[i] = &place;
            }
            for (int i = 0; i < count; i++) {
                void *block = blocks[order[i]];
                OPAQUE(block);
            }
        }
    }
    return 0;
}
