/* Millpond's own functions, for programs that link libmillpond.so or libmillpond.a. malloc, free and their kin, and
 * C++'s operator new and delete, are exported under their own names and need no header of Millpond's. */
#ifndef MILLPOND_H
#define MILLPOND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The bytes that a live block can hold, at least what was asked for; 0 for NULL. Thread-safe. */
size_t mp_usable_size(void *block);

/* Gives back to the system what is free: the calling thread's empty pages, those of threads that ended, and the reserve
 * (all of it with `force`, otherwise what was not needed for a while). Cost: proportional to the pages looked at.
 * Thread-safe; never waits for another thread. */
void mp_collect(bool force);

/* The statistics as lines of "name value", or as one JSON object; README.md explains the names. Works like snprintf:
 * at most `size` bytes are written, a null byte included, and the length of the whole text is returned. Nothing is
 * written where `into` is NULL. Allocates nothing. Thread-safe. */
size_t mp_stats_text(char *into, size_t size);
size_t mp_stats_json(char *into, size_t size);

/* Reads or sets an option by its name, such as "purge_delay_ms"; switches are 0 and 1. MILLPOND_HELP=1 in the
 * environment lists them all. The result is 0, ENOENT for an unknown name, or EINVAL for a value that the option
 * does not take. Thread-safe. */
int mp_option_get(const char *name, uint64_t *value);
int mp_option_set(const char *name, const char *value);

#ifdef __cplusplus
}
#endif

#endif
