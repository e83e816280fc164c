/* cuda_loader.h — opening the CUDA backend: finds libbackprop-cuda.so (beside the library or
 * program, then the system's search path), checks that it was built against the same compute.h, and
 * lets it open the device.
 */
#ifndef COMPUTE_CUDA_LOADER_H
#define COMPUTE_CUDA_LOADER_H

#include "compute/compute.h"

/* device: index of the card. DEP_GPU_NOT_AVAILABLE says what is missing: plug-in, driver, card,
 * compute capability, cuBLASLt, or a version that does not match. */
bool backend_open_cuda(Backend *backend, int device, Err *err);

#endif
