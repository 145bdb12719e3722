/* Loads libmillpond.so into a program that runs on another allocator: `open_library LIBRARY [OTHER...]`, where the
 * others are libraries with thread-locals of the same kind, loaded first until the loader has no room for one more. */
#define _GNU_SOURCE
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void *(*their_malloc)(size_t);
static void (*their_free)(void *);
static void *(*their_realloc)(void *, size_t);
static void *(*their_new)(size_t);
static void (*their_delete)(void *);
static size_t (*their_usable_size)(void *);
static size_t (*their_stats)(char *, size_t);
static void (*their_collect)(_Bool);

static pthread_barrier_t turn;

static void work(unsigned seed) {
    unsigned char *blocks[500], *own[500];
    for (unsigned i = 0; i < 500; i++) {
        size_t size = i * 71 % 20000 + 1;
        blocks[i] = i % 2 ? their_malloc(size) : their_new(size);
        own[i] = malloc(size);
        CHECK(blocks[i] && own[i] && their_usable_size(blocks[i]) >= size);
        fill(blocks[i], size, 1, seed + i);
        fill(own[i], size, 1, i);
    }
    for (unsigned i = 0; i < 500; i++) {
        size_t size = i * 71 % 20000 + 1;
        if (i % 3 == 0) {
            blocks[i] = their_realloc(blocks[i], size + 100000);
            own[i] = realloc(own[i], size + 100000);
        }
        verify(blocks[i], size, 1, seed + i);
        verify(own[i], size, 1, i);
        if (i % 2) their_free(blocks[i]);
        else their_delete(blocks[i]);
        free(own[i]);
    }
}

static void *find(void *handle, const char *name) {
    void *found = dlsym(handle, name);
    CHECK(found);
    return found;
}

static void *block_of_main;

static void *there_before(void *argument) {
    pthread_barrier_wait(&turn);
    /* The library is there now: the loader has made this thread's slot. */
    work(7);
    their_free(block_of_main);
    void *block = their_malloc(3000);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    /* It is closed now, and stays. */
    their_free(block);
    work(8);
    return argument;
}

static void *there_after(void *argument) {
    work(9);
    return argument;
}

int main(int argc, char **argv) {
    CHECK(argc >= 2);
    pthread_t before, after;
    CHECK(pthread_barrier_init(&turn, NULL, 2) == 0 && pthread_create(&before, NULL, there_before, NULL) == 0);
    int taken = 2;
    while (taken < argc && dlopen(argv[taken], RTLD_NOW)) taken++;
    char *ours = strdup("of the program");
    void *handle = dlopen(argv[1], RTLD_NOW);
    if (!handle) {
        /* With all copies loaded there would be no proof that space was short. */
        CHECK(taken < argc);
        CHECK(strcmp(ours, "of the program") == 0);
        free(ours);
        printf("refused: %s\n", dlerror());
        return 0;
    }
    *(void **)&their_malloc = find(handle, "malloc");
    *(void **)&their_free = find(handle, "free");
    *(void **)&their_realloc = find(handle, "realloc");
    *(void **)&their_new = find(handle, "_Znwm");
    *(void **)&their_delete = find(handle, "_ZdlPv");
    *(void **)&their_usable_size = find(handle, "mp_usable_size");
    *(void **)&their_collect = find(handle, "mp_collect");
    *(void **)&their_stats = find(handle, "mp_stats_text");
    /* The program's own malloc is still the one it began with. */
    CHECK(their_malloc != (void *(*)(size_t))dlsym(RTLD_DEFAULT, "malloc"));
    block_of_main = their_malloc(100);
    work(5);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    char *kept = their_malloc(100000);
    strcpy(kept, "outlives the handle");
    CHECK(dlclose(handle) == 0);
    pthread_barrier_wait(&turn);
    CHECK(pthread_create(&after, NULL, there_after, NULL) == 0);
    CHECK(pthread_join(before, NULL) == 0 && pthread_join(after, NULL) == 0);
    CHECK(strcmp(kept, "outlives the handle") == 0 && strcmp(ours, "of the program") == 0);
    their_free(kept);
    free(ours);
    char stats[8192];
    their_collect(1);
    CHECK(their_stats(stats, sizeof stats) < sizeof stats && strstr(stats, "live_bytes 0\n"));
    puts("served");
    return 0;
}
