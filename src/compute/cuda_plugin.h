/* cuda_plugin.h — the border between the library and libbackprop-cuda.so: one symbol.
 *
 * The plug-in shares no state with the library. BP_COMPUTE_ABI is a hash of the headers that both
 * sides must agree on (computed by the build); a plug-in that was built from others is refused.
 */
#ifndef COMPUTE_CUDA_PLUGIN_H
#define COMPUTE_CUDA_PLUGIN_H

#include "compute/compute.h"

#define CUDA_PLUGIN_FILE "libbackprop-cuda.so"
#define CUDA_PLUGIN_SYMBOL "backend_open"

/* What the library lends to the plug-in. */
typedef struct HostServices {
    void (*log_info)(const char *event, const char *text);
    /* Patterns (glob) of files to try as cuBLASLt, in order; the last is NULL. */
    const char *const *cublas_candidates;
    int device; /* index of the card */
} HostServices;

typedef bool BackendOpenFn(Backend *backend, uint64_t abi_hash, const HostServices *services,
                           Err *err);

#endif
