// A plugin: allocates when it is loaded and when it is unloaded, has thread-locals with destructors and a key whose
// destructor frees, and hands blocks over that are freed when it is gone.
#include "check.h"
#include "plugin.h"
#include <cstdlib>
#include <cstring>
#include <map>
#include <pthread.h>
#include <string>
#include <vector>

static pthread_key_t key;

// Built by the loader, destroyed by dlclose.
static struct Global {
    std::map<std::string, std::vector<std::string>> words;

    Global() {
        for (int i = 0; i < 300; i++) words["word " + std::to_string(i % 37)].push_back(std::string(i, 'g'));
        CHECK(pthread_key_create(&key, std::free) == 0);
        plugin_loaded();
    }

    ~Global() {
        std::size_t bytes = 0;
        for (const auto &[word, list] : words) {
            for (const auto &text : list) bytes += text.size();
        }
        CHECK(bytes == 299 * 300 / 2);
        // Not the values of threads that still run: theirs are lost, as in any plugin.
        CHECK(pthread_key_delete(key) == 0);
        plugin_unloaded();
    }
} global;

struct OfThread {
    std::vector<std::string> texts;
    char *last = nullptr;

    ~OfThread() {
        for (const auto &text : texts) CHECK(text.find_first_not_of('t') == std::string::npos);
        // And allocates while the thread ends.
        std::string late(5000, 'l');
        CHECK(static_cast<char *>(hidden(&late[0]))[4999] == 'l');
        std::free(last);
        plugin_thread_ended();
    }

    static void *hidden(void *pointer) {
        asm volatile("" : "+r"(pointer));
        return pointer;
    }
};

static thread_local OfThread of_thread;

extern "C" void plugin_use_thread_locals(void) {
    for (std::size_t i = 0; i < 50; i++) of_thread.texts.emplace_back(i * 20, 't');
    std::free(of_thread.last);
    of_thread.last = static_cast<char *>(std::malloc(700));
    if (!pthread_getspecific(key)) pthread_setspecific(key, std::malloc(100));
}

extern "C" void plugin_make(unsigned char **blocks, std::size_t count, unsigned seed) {
    for (std::size_t i = 0; i < count; i++) {
        const std::size_t size = plugin_size(i);
        blocks[i] = static_cast<unsigned char *>(i % 2 ? std::malloc(size) : std::calloc(1, size));
        CHECK(blocks[i]);
        fill(blocks[i], size, 1, seed + static_cast<unsigned>(i));
    }
}
