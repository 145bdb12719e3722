/* A thread that allocates, frees, and checks that nobody wrote to its blocks. Includes check.h. */
#ifndef CHURN_H
#define CHURN_H

#include "check.h"
#include <stdlib.h>

struct job {
    unsigned seed;
    unsigned rounds;
    /* Ends the work earlier, once it isn't 0; or NULL. */
    const volatile int *stop;
};

static inline void *churn(void *argument) {
    struct job *job = argument;
    unsigned char *held[64] = {0};
    size_t length[64] = {0};
    unsigned random = job->seed * 2654435761u + 1;
    for (unsigned round = 0; round < job->rounds && !(job->stop && *job->stop); round++) {
        random = random * 1664525u + 1013904223u;
        unsigned at = random >> 26;
        if (held[at]) {
            verify(held[at], length[at], 1, at);
            free(held[at]);
        }
        length[at] = (random >> 8) % ((random & 15) == 0 ? 20000 : 300) + 1;
        held[at] = malloc(length[at]);
        CHECK(held[at]);
        fill(held[at], length[at], 1, at);
    }
    for (int at = 0; at < 64; at++) free(held[at]);
    return NULL;
}

#endif
