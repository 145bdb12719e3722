/* Loads and unloads plugins: `plugins COPY...`, each a copy of the library that plugin.cpp makes, which the loader
 * takes for different ones. */
#define _GNU_SOURCE
#include "check.h"
#include "churn.h"
#include "plugin.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { BLOCKS = 200, LOADS = 100, ROUNDS = 20, LOADS_A_THREAD = 5, MOST_THREADS = 8 };

static atomic_int loaded, unloaded, threads_ended;

void plugin_loaded(void) { loaded++; }
void plugin_unloaded(void) { unloaded++; }
void plugin_thread_ended(void) { threads_ended++; }

struct plugin {
    void *handle;
    void (*use_thread_locals)(void);
    void (*make)(unsigned char **, size_t, unsigned);
};

static struct plugin load(const char *path) {
    struct plugin plugin = {.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (!plugin.handle) dprintf(2, "%s\n", dlerror());
    CHECK(plugin.handle);
    *(void **)&plugin.use_thread_locals = dlsym(plugin.handle, "plugin_use_thread_locals");
    *(void **)&plugin.make = dlsym(plugin.handle, "plugin_make");
    CHECK(plugin.use_thread_locals && plugin.make);
    return plugin;
}

static void verify_and_free(unsigned char **blocks, unsigned seed) {
    for (size_t i = 0; i < BLOCKS; i++) {
        verify(blocks[i], plugin_size(i), 1, seed + (unsigned)i);
        free(blocks[i]);
    }
}

/* One thread, no thread-locals of the plugin's: each dlclose unloads it. */
static void loop(const char *path) {
    unsigned char *before[BLOCKS] = {0}, *blocks[BLOCKS];
    int begun = loaded;
    for (unsigned i = 0; i < LOADS; i++) {
        struct plugin plugin = load(path);
        plugin.make(blocks, BLOCKS, i);
        CHECK(dlclose(plugin.handle) == 0);
        CHECK(dlopen(path, RTLD_NOW | RTLD_NOLOAD) == NULL);
        if (i > 0) verify_and_free(before, i - 1);
        for (size_t at = 0; at < BLOCKS; at++) before[at] = blocks[at];
    }
    verify_and_free(before, LOADS - 1);
    CHECK(loaded == begun + LOADS && unloaded == loaded);
}

struct thread {
    pthread_t thread;
    const char *path;
    unsigned seed;
    unsigned char *blocks[BLOCKS];
};

/* Leaves thread-locals of the plugin's behind, which are destroyed after the last dlclose, when the thread ends. */
static void *load_in_thread(void *argument) {
    struct thread *this = argument;
    for (int i = 0; i < LOADS_A_THREAD; i++) {
        struct plugin plugin = load(this->path);
        if (i > 0) verify_and_free(this->blocks, this->seed);
        plugin.use_thread_locals();
        plugin.make(this->blocks, BLOCKS, this->seed);
        CHECK(dlclose(plugin.handle) == 0);
    }
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc - 1;
    CHECK(threads >= 2 && threads <= MOST_THREADS);
    loop(argv[1]);
    /* Another thread allocates all the while. */
    volatile int stop = 0;
    struct job job = {.seed = 1, .rounds = ~0u, .stop = &stop};
    pthread_t other;
    CHECK(pthread_create(&other, NULL, churn, &job) == 0);
    int begun = loaded;
    for (unsigned round = 0; round < ROUNDS; round++) {
        static struct thread all[MOST_THREADS];
        for (int i = 0; i < threads; i++) {
            /* Two threads share the first copy. */
            all[i].path = argv[i == 0 ? 2 : i + 1];
            all[i].seed = round * 100 + (unsigned)i;
            CHECK(pthread_create(&all[i].thread, NULL, load_in_thread, &all[i]) == 0);
        }
        for (int i = 0; i < threads; i++) {
            CHECK(pthread_join(all[i].thread, NULL) == 0);
            verify_and_free(all[i].blocks, all[i].seed);
        }
    }
    stop = 1;
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(threads_ended == (int)ROUNDS * threads);
    /* The loader unloads at a later dlclose what it couldn't while thread-locals lived. */
    CHECK(loaded >= begun + (int)ROUNDS);
    printf("%d times loaded\n", loaded);
    return 0;
}
