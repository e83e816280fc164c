/* cuda_loader.c — finds and opens libbackprop-cuda.so and lends it what it needs: the log, and
 * where cuBLASLt may lie. The environment variables that it follows are the ones by which CUDA and
 * Python installations name themselves; they say where to look, never what to do.
 */
#include "compute/cuda_loader.h"

#include "compute/cuda_plugin.h"
#include "core/file.h"
#include "core/log.h"
#include "core/os.h"

#include <dlfcn.h>
#include <elf.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CANDIDATES = 24, CANDIDATE_CHARS = 512 };

/* The plug-in's candidates live as long as the process: it opens at most one backend at a time. */
typedef struct Candidates {
    char text[MAX_CANDIDATES][CANDIDATE_CHARS];
    const char *list[MAX_CANDIDATES + 1];
    int n;
} Candidates;

static void log_plugin(const char *event, const char *text)
{
    log_info(event, "%s", text);
}

/* Appends "<root><rest>"; root NULL appends nothing. */
static void candidate(Candidates *all, const char *root, const char *rest)
{
    if (root == NULL || all->n == MAX_CANDIDATES)
        return;
    int length = snprintf(all->text[all->n], CANDIDATE_CHARS, "%s%s", root, rest);
    if (length <= 0 || length >= CANDIDATE_CHARS)
        return;
    all->list[all->n] = all->text[all->n];
    all->list[++all->n] = NULL;
}

static void python_candidates(Candidates *all, const char *root, const char *packages)
{
    char rest[CANDIDATE_CHARS];
    static const char *const files[] = {"nvidia/cu13/lib/libcublasLt.so.13",
                                        "nvidia/cublas/lib/libcublasLt.so.1[23]"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(rest, sizeof rest, "%s/%s", packages, files[i]);
        candidate(all, root, rest);
    }
}

static const char *const *cublas_candidates(void)
{
    static Candidates all;
    all.n = 0;
    candidate(&all, "", "libcublasLt.so.13");
    candidate(&all, os_env("CUDA_HOME"), "/lib64/libcublasLt.so.1[23]");
    candidate(&all, os_env("CUDA_PATH"), "/lib64/libcublasLt.so.1[23]");
    candidate(&all, "/usr/local/cuda", "/lib64/libcublasLt.so.1[23]");
    candidate(&all, "/usr/local/cuda", "/targets/*/lib/libcublasLt.so.1[23]");
    candidate(&all, "/opt/cuda", "/lib64/libcublasLt.so.1[23]");
    python_candidates(&all, os_env("VIRTUAL_ENV"), "/lib/python3*/site-packages");
    python_candidates(&all, os_env("CONDA_PREFIX"), "/lib/python3*/site-packages");
    python_candidates(&all, os_env("HOME"), "/.local/lib/python3*/site-packages");
    python_candidates(&all, "/usr/local", "/lib/python3*/*-packages");
    python_candidates(&all, "/usr", "/lib/python3*/*-packages");
    candidate(&all, "", "libcublasLt.so.12");
    candidate(&all, "", "libcublasLt.so");
    return all.list;
}

/* Whether a library has all the bytes that its header speaks of: the system's loader maps one that
 * was cut and dies reading it. What is no such library is left to the loader's own words. */
static bool is_whole(const char *path)
{
    Elf64_Ehdr header;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return true;
    bool whole = true;
    if (fread(&header, sizeof header, 1, file) == 1 &&
        memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && fseeko(file, 0, SEEK_END) == 0) {
        const uint64_t table = (uint64_t)header.e_shentsize * header.e_shnum;
        const uint64_t size = (uint64_t)ftello(file);
        whole = table <= size && header.e_shoff <= size - table;
    }
    fclose(file);
    return whole;
}

/* Beside the file that this code is in, in a library folder next to it, then where the system
 * searches. NULL: dlerror, or none where `path` was cut, of the first file that is there. */
static void *open_plugin(char *path, size_t path_size)
{
    static const char *const beside[] = {"", "../lib/", "../lib64/"};
    static const char anchor = 0; /* an address of this very file */
    Dl_info self = {0};
    if (dladdr(&anchor, &self) != 0 && self.dli_fname != NULL) {
        const char *slash = strrchr(self.dli_fname, '/');
        int folder = slash == NULL ? 0 : (int)(slash - self.dli_fname) + 1;
        for (size_t i = 0; i < COUNT_OF(beside); i++) {
            int length = snprintf(path, path_size, "%s%.*s%s" CUDA_PLUGIN_FILE,
                                  folder == 0 ? "./" : "", folder, self.dli_fname, beside[i]);
            if (length <= 0 || (size_t)length >= path_size)
                continue;
            if (!is_whole(path))
                return NULL;
            void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
            if (library != NULL || path_exists(path))
                return library;
        }
    }
    snprintf(path, path_size, "%s", CUDA_PLUGIN_FILE);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

bool backend_open_cuda(Backend *backend, int device, Err *err)
{
    must(backend != NULL);
    char path[4096];
    void *library = open_plugin(path, sizeof path);
    if (library == NULL) {
        const char *why = dlerror();
        if (why == NULL)
            return err_set(err, ERR_DEP_GPU_NOT_AVAILABLE, "'%s' is only a part of itself", path);
        return err_set(err, ERR_DEP_GPU_NOT_AVAILABLE, "the CUDA backend cannot be opened: %s",
                       why);
    }
    BackendOpenFn *open_backend = NULL;
    *(void **)&open_backend = dlsym(library, CUDA_PLUGIN_SYMBOL);
    if (open_backend == NULL) {
        dlclose(library);
        return err_set(err, ERR_DEP_GPU_NOT_AVAILABLE, "'%s' is not a backend", path);
    }
    const HostServices services = {
        .log_info = log_plugin, .cublas_candidates = cublas_candidates(), .device = device};
    /* The library stays open until the process ends: the driver's threads run code in it. */
    return open_backend(backend, BP_COMPUTE_ABI, &services, err);
}
