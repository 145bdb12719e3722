/* A library with a thread-local at a distance from the thread pointer that must be known when it is loaded, as in
 * libmillpond.so. */
__attribute__((tls_model("initial-exec"))) _Thread_local char static_tls[32];

char *static_tls_address(void) { return static_tls; }
