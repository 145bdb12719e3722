/* Starts other programs in every way there is, while threads allocate: vfork and exec, posix_spawn with file actions,
 * system, popen. `spawning FOLDER`: where it may write. */
#define _GNU_SOURCE
#include "check.h"
#include "churn.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { THREADS = 3, ROUNDS = 25 };

static const char *folder;

static int status_of(pid_t child) {
    int status = -1;
    while (waitpid(child, &status, 0) != child) CHECK(errno == EINTR);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void with_vfork(void) {
    char *kept = malloc(1000);
    strcpy(kept, "the parent's");
    char *const arguments[] = {"sh", "-c", "exit 3", NULL};
    pid_t child = vfork();
    if (child == 0) {
        execv("/bin/sh", arguments);
        _exit(100);
    }
    CHECK(child > 0 && status_of(child) == 3);
    child = vfork();
    if (child == 0) {
        execv("/no/such/program", arguments);
        _exit(101);
    }
    CHECK(child > 0 && status_of(child) == 101);
    CHECK(strcmp(kept, "the parent's") == 0);
    free(kept);
}

static void with_posix_spawn(unsigned number) {
    char path[500], text[100], read_back[100] = {0};
    snprintf(path, sizeof path, "%s/spawned%u", folder, number);
    snprintf(text, sizeof text, "echo spawned %u; echo to the error stream >&2", number);
    char *const arguments[] = {"sh", "-c", text, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    CHECK(posix_spawn_file_actions_init(&actions) == 0 && posix_spawnattr_init(&attributes) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, 1, path, O_WRONLY | O_CREAT | O_TRUNC, 0600) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions, 1, 2) == 0);
    CHECK(posix_spawn_file_actions_addclose(&actions, 0) == 0);
    sigset_t none;
    sigemptyset(&none);
    CHECK(posix_spawnattr_setsigmask(&attributes, &none) == 0);
    CHECK(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK) == 0);
    pid_t child = 0;
    CHECK(posix_spawnp(&child, "sh", &actions, &attributes, arguments, environ) == 0);
    CHECK(status_of(child) == 0);
    CHECK(posix_spawn_file_actions_destroy(&actions) == 0 && posix_spawnattr_destroy(&attributes) == 0);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0 && read(file, read_back, sizeof read_back - 1) > 0);
    close(file);
    unlink(path);
    snprintf(text, sizeof text, "spawned %u\nto the error stream\n", number);
    CHECK(strcmp(read_back, text) == 0);
    CHECK(posix_spawn(&child, "/no/such/program", NULL, NULL, arguments, environ) == ENOENT);
}

static void with_system(void) {
    int status = system("test 1 -eq 1 && exit 7");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void with_popen(unsigned number) {
    FILE *from = popen("seq 1000", "re");
    CHECK(from);
    char *line = NULL;
    size_t room = 0;
    long sum = 0;
    while (getline(&line, &room, from) > 0) sum += strtol(line, NULL, 10);
    CHECK(sum == 500500 && pclose(from) == 0);
    free(line);
    char command[600], path[500];
    snprintf(path, sizeof path, "%s/piped%u", folder, number);
    snprintf(command, sizeof command, "cat > %s", path);
    FILE *to = popen(command, "we");
    CHECK(to && fprintf(to, "%u", number) > 0 && pclose(to) == 0);
    FILE *file = fopen(path, "re");
    unsigned read_back = 0;
    CHECK(file && fscanf(file, "%u", &read_back) == 1 && read_back == number);
    fclose(file);
    unlink(path);
}

static void *spawn(void *argument) {
    unsigned thread = *(unsigned *)argument;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned number = thread * ROUNDS + round;
        with_posix_spawn(number);
        with_vfork();
        if (round % 5 == 0) with_system();
        if (round % 5 == 1) with_popen(number);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    folder = argv[1];
    volatile int stop = 0;
    pthread_t working[2], spawning[THREADS];
    struct job jobs[2];
    unsigned numbers[THREADS];
    for (unsigned i = 0; i < 2; i++) {
        jobs[i] = (struct job){.seed = i, .rounds = ~0u, .stop = &stop};
        CHECK(pthread_create(&working[i], NULL, churn, &jobs[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&spawning[i], NULL, spawn, &numbers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(spawning[i], NULL) == 0);
    stop = 1;
    for (int i = 0; i < 2; i++) CHECK(pthread_join(working[i], NULL) == 0);
    puts("all were started");
    return 0;
}
