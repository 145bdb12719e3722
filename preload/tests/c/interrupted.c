/* Works while timers interrupt it all the time: the handlers set flags, and make the system calls that handlers may
 * make. Blocks keep their contents, errno is the program's, and what blocks is interrupted as it should be. */
#define _GNU_SOURCE
#include "check.h"
#include "churn.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t alarms, profiled, users;
static int pipes[2];

static void on_signal(int number) {
    int kept = errno;
    if (number == SIGALRM) alarms = alarms + 1;
    if (number == SIGPROF) profiled = profiled + 1;
    if (number == SIGUSR1) users = users + 1;
    /* Fails, and sets errno. */
    CHECK(write(-1, "x", 1) == -1 && errno == EBADF);
    errno = kept;
}

static void start(int number, int flags) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(number, &action, NULL) == 0);
}

/* Blocks of every kind, mappings of their own among them, so that signals meet the system calls too. */
static void large_blocks(void) {
    for (unsigned round = 0; round < 40; round++) {
        unsigned char *held[12];
        for (unsigned i = 0; i < 12; i++) {
            size_t size = (size_t)3000 << i;
            errno = 77;
            held[i] = round % 2 ? calloc(1, size) : malloc(size);
            CHECK(held[i]);
            if (round % 2) CHECK(held[i][size / 2] == 0 && held[i][size - 1] == 0);
            fill(held[i], size, 4001, i);
        }
        for (unsigned i = 0; i < 12; i++) {
            size_t size = (size_t)3000 << i;
            held[i] = realloc(held[i], size + size / 2);
            CHECK(held[i]);
            verify(held[i], size, 4001, i);
            errno = 78;
            free(held[i]);
            CHECK(errno == 78);
        }
    }
}

static void *work(void *argument) {
    volatile int *stop = argument;
    while (!*stop) {
        churn(&(struct job){.seed = 3, .rounds = 20000});
        large_blocks();
    }
    return NULL;
}

int main(void) {
    start(SIGALRM, 0);
    start(SIGPROF, SA_RESTART);
    start(SIGUSR1, 0);
    CHECK(pipe(pipes) == 0);
    volatile int stop = 0;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, (void *)&stop) == 0);
    struct itimerval often = {{0, 100}, {0, 100}};
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0 && setitimer(ITIMER_PROF, &often, NULL) == 0);
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    int interrupted = 0, sent = 0;
    do {
        churn(&(struct job){.seed = 4, .rounds = 2000});
        /* A signal to one thread, at any point of its work. */
        for (int i = 0; i < 20; i++, sent++) CHECK(pthread_kill(thread, SIGUSR1) == 0);
        char *block = malloc(100);
        char byte;
        /* Nobody writes: only a signal ends it. The other thread may get the next one, but not all that follow. */
        interrupted += read(pipes[0], &byte, 1) == -1 && errno == EINTR;
        struct timespec whole = {10, 0};
        interrupted += nanosleep(&whole, NULL) == -1 && errno == EINTR;
        free(block);
        large_blocks();
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - begun.tv_sec < 3 || alarms < 500);
    stop = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    memset(&often, 0, sizeof often);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0 && setitimer(ITIMER_PROF, &often, NULL) == 0);
    CHECK(interrupted > 0 && alarms >= 500 && profiled > 0 && users > 0 && users <= sent);
    printf("%d alarms, %d of the profiler, %d from a thread, %d calls interrupted\n", (int)alarms, (int)profiled,
           (int)users, interrupted);
    return 0;
}
