/* The same tests, linked with libmillpond.a, and a look at whether it serves them. */
#include "../../../include/millpond.h"
#define main conformance
#include "conformance.c"
#undef main

int main(void) {
    char stats[8192];
    char *all[] = {"conformance", NULL};
    void *block = malloc(1000);
    CHECK(mp_usable_size(block) == 1024);
    free(block);
    CHECK(mp_stats_json(stats, sizeof stats) < sizeof stats && stats[0] == '{');
    CHECK(strstr(stats, "\"allocations\":") != NULL);
    CHECK(mp_stats_text(NULL, 0) > 100);
    uint64_t value = 0;
    CHECK(mp_option_set("purge_delay_ms", "250") == 0);
    CHECK(mp_option_get("purge_delay_ms", &value) == 0 && value == 250);
    CHECK(mp_option_set("purge_delay_ms", "soon") == EINVAL && mp_option_set("no_such_option", "1") == ENOENT);
    mp_collect(true);
    return conformance(1, all);
}
