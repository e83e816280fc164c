/* cuda_backend.c — the plug-in's one symbol, the device's life, and memory: slabs, uploads through
 * pinned slots, downloads, recordings. One backend owns one stream; everything but copies to and
 * from host slabs is enqueued on it in order, and only download and finish wait.
 */
#include "compute/cuda/cuda_kernels.h"
#include "compute/cuda/cuda_state.h"
#include "compute/cuda_plugin.h"
#include "compute/cuda_traits.h"

#include <stdio.h>
#include <string.h>

static const size_t UPLOAD_SLOT_BYTES = (size_t)4 << 20;
static const size_t HOST_STATE_BYTES = (size_t)64 << 20;
enum { LEAST_MAJOR = 8 };

/* ---- uploads ---- */

void *cuda_upload_reserve(CudaState *state, size_t bytes)
{
    UploadRing *ring = &state->ring;
    must(bytes > 0 && bytes <= ring->slot_bytes);
    if (ring->used + bytes > ring->slot_bytes) {
        /* All that was enqueued from this slot is in the stream by now. */
        cuda_check(state, cudaEventRecord(ring->done[ring->slot], state->stream));
        ring->slot = (ring->slot + 1) % UPLOAD_SLOTS;
        cuda_check(state, cudaEventSynchronize(ring->done[ring->slot]));
        ring->used = 0;
    }
    void *at = ring->memory + (size_t)ring->slot * ring->slot_bytes + ring->used;
    ring->used += (size_t)round_up((int64_t)bytes, CUDA_ALIGN);
    return at;
}

static void upload(Backend *backend, void *dst, const void *src, size_t bytes)
{
    CudaState *state = cuda_state(backend);
    for (size_t done = 0; done < bytes;) {
        size_t piece = bytes - done;
        piece = piece < state->ring.slot_bytes ? piece : state->ring.slot_bytes;
        void *pinned = cuda_upload_reserve(state, piece);
        memcpy(pinned, (const uint8_t *)src + done, piece);
        cuda_check(state, cudaMemcpyAsync((uint8_t *)dst + done, pinned, piece,
                                          cudaMemcpyHostToDevice, state->stream));
        done += piece;
    }
}

static void download(Backend *backend, void *dst, const void *src, size_t bytes)
{
    CudaState *state = cuda_state(backend);
    cuda_check(state, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, state->stream));
    cuda_check(state, cudaStreamSynchronize(state->stream));
}

static void zero(Backend *backend, void *dst, size_t bytes)
{
    CudaState *state = cuda_state(backend);
    cuda_check(state, cudaMemsetAsync(dst, 0, bytes, state->stream));
}

/* ---- copies beside the ops. In a recording the events become its branches. ---- */

static void copy_begin(Backend *backend, int slot, void *dst, const void *src, size_t bytes)
{
    CudaState *state = cuda_state(backend);
    CopyQueue *copies = &state->copies;
    must((unsigned)slot < COPY_SLOTS);
    cuda_check(state, cudaEventRecord(copies->asked, state->stream));
    cuda_check(state, cudaStreamWaitEvent(copies->stream, copies->asked, 0));
    cuda_check(state, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, copies->stream));
    cuda_check(state, cudaEventRecord(copies->done[slot], copies->stream));
}

static void copy_wait(Backend *backend, int slot)
{
    CudaState *state = cuda_state(backend);
    must((unsigned)slot < COPY_SLOTS);
    cuda_check(state, cudaStreamWaitEvent(state->stream, state->copies.done[slot], 0));
}

/* ---- recordings: CUDA graphs ---- */

static void record_begin(Backend *backend)
{
    CudaState *state = cuda_state(backend);
    must(state->n_recordings < MAX_RECORDINGS);
    cuda_check(state, cudaStreamBeginCapture(state->stream, cudaStreamCaptureModeThreadLocal));
}

static void *record_end(Backend *backend)
{
    CudaState *state = cuda_state(backend);
    assert(state->n_recordings < MAX_RECORDINGS);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t recording = NULL;
    cuda_check(state, cudaStreamEndCapture(state->stream, &graph));
    if (graph == NULL)
        return NULL;
    cuda_check(state, cudaGraphInstantiate(&recording, graph, 0));
    cuda_check(state, cudaGraphDestroy(graph));
    if (recording != NULL)
        state->recordings[state->n_recordings++] = recording;
    return recording;
}

static void replay(Backend *backend, void *recording)
{
    CudaState *state = cuda_state(backend);
    must(recording != NULL);
    cuda_check(state, cudaGraphLaunch((cudaGraphExec_t)recording, state->stream));
}

/* ---- memory ---- */

static bool slab_open(Backend *backend, Arena *slab, size_t bytes, Err *err)
{
    void *base = NULL;
    cudaError_t status = cudaMalloc(&base, bytes > 0 ? bytes : 1);
    if (status != cudaSuccess) {
        (void)cudaGetLastError(); /* this failure is reported here and must not stick */
        size_t free_bytes = 0, total_bytes = 0;
        (void)cudaMemGetInfo(&free_bytes, &total_bytes);
        return err_set(err, ERR_RUNTIME_OUT_OF_MEMORY,
                       "cannot take %.2f GiB of GPU memory: %.2f of %.2f GiB are free",
                       (double)bytes / (1 << 30), (double)free_bytes / (1 << 30),
                       (double)total_bytes / (1 << 30));
    }
    must(backend->state != NULL);
    arena_over(slab, base, bytes);
    return true;
}

static void slab_close(Backend *backend, Arena *slab)
{
    CudaState *state = cuda_state(backend);
    if (slab->base == NULL)
        return;
    cuda_check(state, cudaStreamSynchronize(state->stream));
    cuda_check(state, cudaFree(slab->base));
    *slab = (Arena){0};
}

static bool host_slab_open(Backend *backend, Arena *slab, size_t bytes, Err *err)
{
    void *base = NULL;
    must(backend->state != NULL);
    if (cudaHostAlloc(&base, bytes > 0 ? bytes : 1, cudaHostAllocDefault) != cudaSuccess) {
        (void)cudaGetLastError();
        return err_set(err, ERR_RUNTIME_OUT_OF_MEMORY,
                       "cannot take %.2f GiB of pinned host memory beside the GPU's",
                       (double)bytes / (1 << 30));
    }
    arena_over(slab, base, bytes);
    return true;
}

static void host_slab_close(Backend *backend, Arena *slab)
{
    CudaState *state = cuda_state(backend);
    if (slab->base == NULL)
        return;
    cuda_check(state, cudaStreamSynchronize(state->stream));
    cuda_check(state, cudaFreeHost(slab->base));
    *slab = (Arena){0};
}

static size_t memory_used(Backend *backend, size_t *total)
{
    size_t free_bytes = 0;
    cuda_check(cuda_state(backend), cudaMemGetInfo(&free_bytes, total));
    return *total - free_bytes;
}

/* A product of 8192 x 8192 matrices of random values, the best of five. */
static double peak_flops(Backend *backend)
{
    enum { SIDE = 8192, RUNS = 5 };
    CudaState *state = cuda_state(backend);
    const size_t bytes = (size_t)SIDE * SIDE * 2;
    uint8_t *memory = NULL;
    if (state->peak_flops > 0 || cudaMalloc((void **)&memory, 3 * bytes) != cudaSuccess) {
        (void)cudaGetLastError(); /* too little memory: not known */
        return state->peak_flops;
    }
    cudaEvent_t from, to;
    cuda_check(state, cudaEventCreate(&from));
    cuda_check(state, cudaEventCreate(&to));
    kernel_random(state->stream, memory, (int64_t)SIDE * SIDE * 2);
    float best = 0;
    for (int i = 0; i < RUNS && state->error == NULL; i++) {
        float ms = 0;
        cuda_check(state, cudaEventRecord(from, state->stream));
        cuda_gemm(state, &(GemmCall){
            .form = GEMM_NT, .out = GEMM_STORE_BF16, .m = SIDE, .n = SIDE, .k = SIDE, .a = memory,
            .lda = SIDE, .b = memory + bytes, .ldb = SIDE, .c = memory + 2 * bytes, .ldc = SIDE});
        cuda_check(state, cudaEventRecord(to, state->stream));
        cuda_check(state, cudaEventSynchronize(to));
        cuda_check(state, cudaEventElapsedTime(&ms, from, to));
        best = i == 0 || ms < best ? ms : best;
    }
    (void)cudaEventDestroy(from);
    (void)cudaEventDestroy(to);
    cuda_check(state, cudaFree(memory));
    state->peak_flops = best > 0 ? 2.0 * SIDE * SIDE * SIDE / ((double)best * 1e-3) : 0;
    return state->peak_flops;
}

static const char *finish(Backend *backend)
{
    CudaState *state = cuda_state(backend);
    cuda_check(state, cudaStreamSynchronize(state->stream));
    return state->error;
}

static void close_copies(CopyQueue *copies)
{
    cudaEvent_t events[COPY_SLOTS + 1] = {copies->asked};
    memcpy(events + 1, copies->done, sizeof copies->done);
    for (size_t i = 0; i < COUNT_OF(events); i++)
        if (events[i] != NULL)
            (void)cudaEventDestroy(events[i]);
    if (copies->stream != NULL)
        (void)cudaStreamDestroy(copies->stream);
}

static void close_state(CudaState *state)
{
    if (state->stream != NULL)
        (void)cudaStreamSynchronize(state->stream);
    for (int i = 0; i < state->n_recordings; i++)
        (void)cudaGraphExecDestroy(state->recordings[i]);
    if (state->gemm != NULL)
        gemm_close_cuda(state->gemm);
    for (int i = 0; i < UPLOAD_SLOTS; i++)
        if (state->ring.done[i] != NULL)
            (void)cudaEventDestroy(state->ring.done[i]);
    (void)cudaFreeHost(state->ring.memory);
    close_copies(&state->copies);
    (void)cudaFree(state->workspace);
    if (state->stream != NULL)
        (void)cudaStreamDestroy(state->stream);
    Arena host = state->host; /* holds the state itself */
    arena_close(&host);
}

static void close(Backend *backend)
{
    close_state(cuda_state(backend));
    *backend = (Backend){0};
}

/* ---- opening ---- */

static bool failed(cudaError_t status, const char *what, Err *err)
{
    if (status == cudaSuccess)
        return false;
    err_set(err, ERR_DEP_GPU_NOT_AVAILABLE, "%s: %s", what, cudaGetErrorString(status));
    return true;
}

/* The runtime's own answer to a missing driver speaks of versions. */
static bool check_driver(Err *err)
{
    int driver = 0;
    if (failed(cudaDriverGetVersion(&driver), "cannot ask the NVIDIA driver", err))
        return false;
    if (driver >= CUDART_VERSION / 1000 * 1000) /* minor versions of one major agree */
        return true;
    if (driver == 0)
        return err_set(err, ERR_DEP_GPU_NOT_AVAILABLE, "no NVIDIA driver on this machine");
    err_set(err, ERR_DEP_GPU_NOT_AVAILABLE, "the NVIDIA driver is too old: it knows CUDA %d.%d",
            driver / 1000, driver % 1000 / 10);
    return err_hint(err, "Update the driver to one for CUDA %d, or pass --device cpu",
                    CUDART_VERSION / 1000);
}

static bool choose_device(int device, Err *err)
{
    int count = 0, major = 0, minor = 0;
    if (!check_driver(err) || failed(cudaGetDeviceCount(&count), "no usable NVIDIA GPU", err))
        return false;
    if (device < 0 || device >= count)
        return err_set(err, ERR_DEP_GPU_NOT_AVAILABLE, "no GPU with index '%d': %d found", device,
                       count);
    if (failed(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
               "cannot read the GPU's properties", err) ||
        failed(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
               "cannot read the GPU's properties", err))
        return false;
    if (major < LEAST_MAJOR) {
        err_set(err, ERR_DEP_GPU_NOT_AVAILABLE,
                "GPU '%d' has compute capability %d.%d; 8.0 (Ampere) or newer is needed", device,
                major, minor);
        return err_hint(err, "Pass --device cpu");
    }
    return !failed(cudaSetDevice(device), "cannot use the GPU", err);
}

static bool make_event(cudaEvent_t *event, Err *err)
{
    return !failed(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cannot make an event",
                   err);
}

static bool open_copies(CopyQueue *copies, Err *err)
{
    if (failed(cudaStreamCreateWithFlags(&copies->stream, cudaStreamNonBlocking),
               "cannot make a stream on the GPU", err))
        return false;
    for (int slot = 0; slot < COPY_SLOTS; slot++)
        if (!make_event(&copies->done[slot], err))
            return false;
    return make_event(&copies->asked, err);
}

static bool open_memory(CudaState *state, size_t workspace_bytes, Err *err)
{
    UploadRing *ring = &state->ring;
    ring->slot_bytes = UPLOAD_SLOT_BYTES;
    if (failed(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking),
               "cannot make a stream on the GPU", err) ||
        failed(cudaMalloc(&state->workspace, workspace_bytes), "cannot take workspace", err) ||
        failed(cudaHostAlloc((void **)&ring->memory, UPLOAD_SLOTS * UPLOAD_SLOT_BYTES,
                             cudaHostAllocDefault),
               "cannot take pinned memory", err))
        return false;
    for (int i = 0; i < UPLOAD_SLOTS; i++)
        if (!make_event(&ring->done[i], err))
            return false;
    return open_copies(&state->copies, err);
}

static void read_limits(CudaState *state, int device)
{
    int shared = 0, major = 0, minor = 0;
    cuda_check(state, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    cuda_check(state, cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    state->capability = 10 * major + minor;
    cuda_check(state, cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                             device));
    state->shared_bytes = (size_t)shared;
}

/* A kernel of this file's build runs on this card, or the binary holds nothing for it. */
static bool probe_kernels(CudaState *state, Err *err)
{
    kernel_round_pieces(state->stream, &(RoundPieces){
        .n = 1, .piece = {{.dst = state->workspace, .dst_stride = 8, .rows = 1, .cols = 8}}});
    if (failed(cudaGetLastError(), "the kernels of '" CUDA_PLUGIN_FILE "' do not run here", err))
        return false;
    return !failed(cudaStreamSynchronize(state->stream), "the GPU does not answer", err);
}

static void report(const CudaState *state, const HostServices *services)
{
    struct cudaDeviceProp properties;
    if (services->log_info == NULL ||
        cudaGetDeviceProperties(&properties, services->device) != cudaSuccess)
        return;
    char text[1024];
    snprintf(text, sizeof text,
             "card=\"%s\" capability=%d.%d memory_gib=%.1f cublaslt=\"%s (%zu)\"",
             properties.name, properties.major, properties.minor,
             (double)properties.totalGlobalMem / (1 << 30), gemm_library(state->gemm),
             gemm_library_version(state->gemm));
    services->log_info("cuda_opened", text);
}

__attribute__((visibility("default"))) bool backend_open(Backend *backend, uint64_t abi_hash,
                                                         const HostServices *services, Err *err);
bool backend_open(Backend *backend, uint64_t abi_hash, const HostServices *services, Err *err)
{
    if (abi_hash != BP_COMPUTE_ABI)
        return err_set(err, ERR_DEP_GPU_NOT_AVAILABLE,
                       "'" CUDA_PLUGIN_FILE "' was built from another version of this program");
    if (!choose_device(services->device, err))
        return false;
    Arena host;
    if (!arena_open(&host, HOST_STATE_BYTES, err))
        return false;
    CudaState *state = arena_new(&host, CudaState);
    backend_traits_cuda(backend);
    backend->state = state;
    state->host = host;
    bool ok = open_memory(state, backend->traits.fixed_bytes, err) && probe_kernels(state, err);
    read_limits(state, services->device);
    if (ok)
        state->gemm = gemm_open_cuda(services->cublas_candidates, &state->host, state->workspace,
                                     backend->traits.fixed_bytes, state->capability, err);
    if (!ok || state->gemm == NULL) {
        close_state(state);
        *backend = (Backend){0};
        return false;
    }
    backend->slab_open = slab_open;
    backend->slab_close = slab_close;
    backend->host_slab_open = host_slab_open;
    backend->host_slab_close = host_slab_close;
    backend->copy_begin = copy_begin;
    backend->copy_wait = copy_wait;
    backend->upload = upload;
    backend->download = download;
    backend->zero = zero;
    backend->weight_open = cuda_weight_open;
    backend->group_open = cuda_group_open;
    backend->finish = finish;
    backend->record_begin = record_begin;
    backend->record_end = record_end;
    backend->replay = replay;
    backend->memory_used = memory_used;
    backend->peak_flops = peak_flops;
    backend->close = close;
    cuda_ops_install(backend);
    report(state, services);
    return true;
}
