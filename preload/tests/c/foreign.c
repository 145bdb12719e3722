/* Frees what is no block of the allocator's. */
#include <stdlib.h>
#include <string.h>

static void *hidden(void *pointer) {
    __asm__ volatile("" : "+r"(pointer));
    return pointer;
}

int main(int argc, char **argv) {
    static char of_the_program[1000];
    char on_the_stack[1000];
    if (argc < 2) return 2;
    if (strcmp(argv[1], "stack") == 0) free(hidden(on_the_stack + 64));
    if (strcmp(argv[1], "static") == 0) free(hidden(of_the_program + 64));
    if (strcmp(argv[1], "inside") == 0) free((char *)hidden(malloc(10000000)) + 4096);
    if (strcmp(argv[1], "twice") == 0) {
        void *block = hidden(malloc(10000000));
        free(block);
        free(block);
    }
    return 0;
}
