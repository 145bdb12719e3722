/* The loop whose instructions golden.rs counts: `pairs pair|batch malloc|nothing SIZE ROUNDS`. `pair` frees each block
 * at once; `batch` allocates 1,000 and frees them in LIFO order; `nothing` is the same loop without the calls. */
#include <stdlib.h>
#include <string.h>

#define BATCH 1000

#define OPAQUE(value) __asm__ volatile("" : "+r"(value))

int main(int argc, char **argv) {
    static void *blocks[BATCH];
    static char place;
    if (argc != 5) return 2;
    int batch = strcmp(argv[1], "batch") == 0, calls = strcmp(argv[2], "malloc") == 0;
    size_t size = strtoul(argv[3], NULL, 10);
    for (long round = strtol(argv[4], NULL, 10); round > 0; round--) {
        int count = batch ? BATCH : 1;
        if (calls) {
            for (int i = 0; i < count; i++) {
                OPAQUE(size);
                blocks[i] = malloc(size);
            }
            for (int i = count - 1; i >= 0; i--) {
                void *block = blocks[i];
                OPAQUE(block);
                free(block);
            }
        } else {
            for (int i = 0; i < count; i++) {
                OPAQUE(size);
                blocks[i] = &place;
            }
            for (int i = count - 1; i >= 0; i--) {
                void *block = blocks[i];
                OPAQUE(block);
            }
        }
    }
    return 0;
}
