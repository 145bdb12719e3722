// What C++ promises of operator new and delete, checked against whatever allocator the program runs on. Exits with 0 if
// all holds; prints the first thing that doesn't.
#include "check.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <string>
#include <thread>
#include <vector>

struct alignas(256) Wide {
    char bytes[300];
};

static void *hidden(void *pointer) {
    asm volatile("" : "+r"(pointer));
    return pointer;
}

static void every_form() {
    const std::align_val_t align{512};
    for (std::size_t size : {1, 24, 500, 5000, 300000}) {
        size = opaque(size);
        operator delete(hidden(operator new(size)));
        operator delete[](hidden(operator new[](size)));
        operator delete(hidden(operator new(size)), size);
        operator delete[](hidden(operator new[](size)), size);
        operator delete(hidden(operator new(size, std::nothrow)), std::nothrow);
        operator delete[](hidden(operator new[](size, std::nothrow)), std::nothrow);
        void *blocks[] = {operator new(size, align), operator new[](size, align),
                          operator new(size, align, std::nothrow), operator new[](size, align, std::nothrow),
                          operator new(size, align), operator new[](size, align)};
        for (void *block : blocks) CHECK(hidden(block) && reinterpret_cast<std::uintptr_t>(block) % 512 == 0);
        operator delete(blocks[0], align);
        operator delete[](blocks[1], align);
        operator delete(blocks[2], align, std::nothrow);
        operator delete[](blocks[3], align, std::nothrow);
        operator delete(blocks[4], size, align);
        operator delete[](blocks[5], size, align);
    }
    void *first = operator new(opaque(0)), *second = operator new(opaque(0));
    CHECK(first && second && first != second);
    operator delete(first);
    operator delete(second);
    operator delete(static_cast<void *>(nullptr));
    for (int i = 0; i < 100; i++) {
        auto wide = std::make_unique<Wide>();
        auto many = std::make_unique<Wide[]>(opaque(7));
        CHECK(reinterpret_cast<std::uintptr_t>(hidden(wide.get())) % 256 == 0);
        CHECK(reinterpret_cast<std::uintptr_t>(hidden(many.get())) % 256 == 0);
    }
}

static int handled;

static void give_up_after_three() {
    if (++handled == 3) std::set_new_handler(nullptr);
}

struct Mine {};
static void throw_mine() { throw Mine{}; }

static void failures() {
    const std::size_t impossible = opaque(std::size_t{1} << 62);
    bool caught = false;
    try {
        hidden(operator new(impossible));
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    CHECK(caught);
    caught = false;
    try {
        hidden(operator new[](impossible, std::align_val_t{64}));
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    CHECK(caught);
    CHECK(hidden(operator new(impossible, std::nothrow)) == nullptr);
    CHECK(hidden(operator new[](impossible, std::nothrow)) == nullptr);
    CHECK(hidden(operator new(impossible, std::align_val_t{64}, std::nothrow)) == nullptr);
    CHECK(hidden(operator new[](impossible, std::align_val_t{64}, std::nothrow)) == nullptr);

    std::set_new_handler(give_up_after_three);
    caught = false;
    try {
        hidden(operator new(impossible));
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    CHECK(caught && handled == 3);

    std::set_new_handler(throw_mine);
    caught = false;
    try {
        hidden(operator new[](impossible));
    } catch (const Mine &) {
        caught = true;
    }
    CHECK(caught);
    CHECK(hidden(operator new(impossible, std::nothrow)) == nullptr);
    std::set_new_handler(nullptr);

    // The destructors of what was built run before the catch.
    static int built;
    struct Counted {
        Counted() { built++; }
        ~Counted() { built--; }
    };
    try {
        Counted one, two;
        std::vector<char> all(opaque(std::size_t{1} << 61));
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    CHECK(caught && built == 0);
}

static void containers() {
    std::map<std::string, std::vector<std::string>> words;
    for (int i = 0; i < 20000; i++) {
        auto &list = words["key " + std::to_string(i % 997)];
        list.push_back(std::string(static_cast<std::size_t>(i % 300), 'x'));
        if (list.size() > 10) list.clear();
    }
    std::size_t sum = 0;
    for (const auto &[word, list] : words) {
        for (const auto &text : list) {
            for (char c : text) CHECK(c == 'x');
            sum += text.size();
        }
    }
    CHECK(words.size() == 997 && sum > 0);

    std::pmr::unsynchronized_pool_resource pool;
    std::pmr::vector<std::pmr::string> strings(&pool);
    for (int i = 0; i < 5000; i++) strings.emplace_back(static_cast<std::size_t>(i % 200), 'p');
    std::pmr::monotonic_buffer_resource buffer;
    std::pmr::vector<int> numbers(&buffer);
    for (int i = 0; i < 100000; i++) numbers.push_back(i);
    CHECK(strings[199].size() == 199 && numbers[99999] == 99999);
    void *wide = std::pmr::new_delete_resource()->allocate(100, 4096);
    CHECK(reinterpret_cast<std::uintptr_t>(wide) % 4096 == 0);
    std::pmr::new_delete_resource()->deallocate(wide, 100, 4096);
}

static thread_local std::vector<std::string> of_thread;

static void threads() {
    for (int round = 0; round < 20; round++) {
        std::vector<std::thread> all;
        for (int i = 0; i < 10; i++) {
            all.emplace_back([] {
                // Freed by the thread's destructors.
                for (int j = 0; j < 500; j++) of_thread.emplace_back(100, 't');
                containers();
            });
        }
        for (auto &thread : all) thread.join();
    }
}

int main() {
    every_form();
    failures();
    containers();
    threads();
    std::puts("all holds");
}
