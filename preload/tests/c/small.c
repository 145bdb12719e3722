/* 100 small blocks, and then how many KiB are resident, and were at most. From the inside: the peak that wait4 tells
 * counts the parent's memory before exec. System calls only, so that nothing is loaded for it but their wrappers. */
#include "check.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned long kib(const char *file, const char *field) {
    static char text[8192];
    int from = open(file, O_RDONLY);
    CHECK(from >= 0);
    ssize_t length = 0, part;
    while ((part = read(from, text + length, sizeof text - 1 - length)) > 0) length += part;
    close(from);
    text[length] = 0;
    const char *line = strstr(text, field);
    CHECK(line);
    return strtoul(line + strlen(field), NULL, 10);
}

int main(void) {
    for (int i = 0; i < 100; i++) {
        char *block = malloc(16 + i % 8 * 16);
        CHECK(block);
        memset(block, i, 16);
    }
    unsigned long now = kib("/proc/self/smaps_rollup", "\nRss:");
    unsigned long peak = kib("/proc/self/status", "\nVmHWM:");
    printf("%lu %lu\n", now, peak);
    return 0;
}
