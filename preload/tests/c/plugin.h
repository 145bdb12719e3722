/* What plugin.cpp and plugins.c know of each other. */
#ifndef PLUGIN_H
#define PLUGIN_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The program's, called by the plugin. */
void plugin_loaded(void);
void plugin_unloaded(void);
void plugin_thread_ended(void);

/* The plugin's. Blocks are the caller's to free, and plugin_size(i) bytes long. */
void plugin_use_thread_locals(void);
void plugin_make(unsigned char **blocks, size_t count, unsigned seed);

static inline size_t plugin_size(size_t i) { return i % 41 == 7 ? 200000 : i * 37 % 3000 + 1; }

#ifdef __cplusplus
}
#endif

#endif
