/* The same tests, linked with libmillpond.a, and a look at whether it serves them. */
#include "../../../include/millpond.h"
#define main conformance
#include "conformance.c"
#undef main

/* musl's headers have none of these. */
#ifndef __GLIBC__
struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo2 mallinfo2(void);
int malloc_info(int options, FILE *stream);
void malloc_stats(void);
int malloc_trim(size_t pad);
int mallopt(int parameter, int value);
#endif

static size_t statistic(const char *name) {
    static char text[8192];
    CHECK(mp_stats_text(text, sizeof text) < sizeof text);
    const char *line = strstr(text, name);
    CHECK(line);
    return strtoul(line + strlen(name), NULL, 10);
}

/* glibc's functions, which the library has whatever the C library is. */
static void glibc_functions(void) {
    struct mallinfo2 before = mallinfo2();
    size_t live = statistic("live_bytes ");
    void *block = HIDE(malloc(5000000));
    memset(block, 1, 5000000);
    struct mallinfo2 with = mallinfo2();
    CHECK(with.uordblks >= before.uordblks + 5000000 && with.uordblks + with.fordblks == with.arena);
    CHECK(statistic("live_bytes ") >= live + 5000000);
    free(block);
    CHECK(mallinfo2().uordblks < with.uordblks - 4000000);
    malloc_trim(0);
    CHECK(malloc_trim(0) == 0); /* Nothing was left to give back. */
    CHECK(mallopt(1, 1) == 1);
    static char xml[8192];
    FILE *stream = fmemopen(xml, sizeof xml, "w");
    CHECK(stream && malloc_info(0, stream) == 0 && malloc_info(1, stream) == EINVAL && fclose(stream) == 0);
    static const char start[] = "<malloc version=", end[] = "</malloc>\n";
    CHECK(strncmp(xml, start, strlen(start)) == 0 && strcmp(xml + strlen(xml) - strlen(end), end) == 0);
    CHECK(strstr(xml, "<counter name=\"live_bytes\" value=\""));
    malloc_stats();
}

int main(int argc, char **argv) {
    char stats[8192], cut[16];
    void *block = malloc(1000);
    CHECK(mp_usable_size(block) == 1024);
    free(block);
    CHECK(mp_stats_json(stats, sizeof stats) < sizeof stats && stats[0] == '{');
    CHECK(strstr(stats, "\"allocations\":") != NULL);
    CHECK(mp_stats_text(NULL, 0) > 100);
    CHECK(mp_stats_text(cut, sizeof cut) > sizeof cut && strlen(cut) == sizeof cut - 1);
    uint64_t value = 0;
    CHECK(mp_option_set("purge_delay_ms", "250") == 0);
    CHECK(mp_option_get("purge_delay_ms", &value) == 0 && value == 250);
    CHECK(mp_option_set("purge_delay_ms", "soon") == EINVAL && mp_option_set("no_such_option", "1") == ENOENT);
    mp_collect(true);
    glibc_functions();
    return conformance(argc, argv);
}
