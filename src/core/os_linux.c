/* os_linux.c — os.h on Linux: clocks, /proc, cgroup limits, cpuid.
 *
 * Owns the few facts that are read once (processor name and features). A container's limits count:
 * memory and cores are what this process may use, not what the machine has.
 */
#include "core/os.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { CPU_MAX = 4096 };

double os_now(void)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_MONOTONIC, &now);
    must(rc == 0);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void os_sleep(double seconds)
{
    const double whole = seconds > 0 ? (double)(time_t)seconds : 0;
    const struct timespec time = {.tv_sec = (time_t)whole,
                                  .tv_nsec = seconds > 0 ? (long)((seconds - whole) * 1e9) : 0};
    nanosleep(&time, NULL);
}

static void format_time(char out[32], bool utc)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    must(rc == 0);
    struct tm parts;
    if (utc)
        gmtime_r(&now.tv_sec, &parts);
    else
        localtime_r(&now.tv_sec, &parts);
    char seconds[20];
    size_t len = strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &parts);
    must(len == 19);
    snprintf(out, 32, "%s.%06d%s", seconds, (int)(now.tv_nsec / 1000 % 1000000), utc ? "Z" : "");
}

void os_time_iso(char out[32]) { format_time(out, false); }
void os_time_iso_utc(char out[32]) { format_time(out, true); }

/* The first line of a small file of /proc or /sys; false when it cannot be read. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool ok = fgets(line, (int)size, file) != NULL;
    fclose(file);
    return ok;
}

/* Bytes in a cgroup file; UINT64_MAX for "max", for what is not there, for v1's "no limit". */
static uint64_t read_limit(const char *path)
{
    char line[64];
    if (!read_line(path, line, sizeof line) || line[0] < '0' || line[0] > '9')
        return UINT64_MAX;
    uint64_t value = strtoull(line, NULL, 10);
    return value < (uint64_t)1 << 60 ? value : UINT64_MAX;
}

static uint64_t cgroup_limit(void)
{
    uint64_t v2 = read_limit("/sys/fs/cgroup/memory.max");
    return v2 != UINT64_MAX ? v2 : read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
}

static uint64_t cgroup_used(void)
{
    uint64_t v2 = read_limit("/sys/fs/cgroup/memory.current");
    return v2 != UINT64_MAX ? v2 : read_limit("/sys/fs/cgroup/memory/memory.usage_in_bytes");
}

/* A line "<key>  123 kB" of /proc/meminfo or /proc/self/status, in bytes; 0 when absent. */
static uint64_t read_kb(const char *path, const char *key)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    uint64_t bytes = 0;
    char line[256];
    size_t len = strlen(key);
    while (bytes == 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, len) == 0)
            bytes = strtoull(line + len, NULL, 10) * 1024;
    fclose(file);
    return bytes;
}

uint64_t os_memory_total(void)
{
    uint64_t machine = read_kb("/proc/meminfo", "MemTotal:");
    uint64_t limit = cgroup_limit();
    if (machine == 0)
        return limit != UINT64_MAX ? limit : 0;
    return machine < limit ? machine : limit;
}

uint64_t os_memory_available(void)
{
    uint64_t machine = read_kb("/proc/meminfo", "MemAvailable:");
    uint64_t limit = cgroup_limit(), used = cgroup_used();
    if (limit == UINT64_MAX || used == UINT64_MAX)
        return machine;
    uint64_t left = used < limit ? limit - used : 0;
    return left < machine ? left : machine;
}

uint64_t os_process_peak(void)
{
    struct rusage usage;
    int rc = getrusage(RUSAGE_SELF, &usage);
    must(rc == 0);
    return (uint64_t)usage.ru_maxrss * 1024;
}

/* Cores' worth of time a cgroup grants ("200000 100000" = 2), CPU_MAX when unlimited. */
static int cgroup_cores(void)
{
    char line[64];
    if (!read_line("/sys/fs/cgroup/cpu.max", line, sizeof line))
        return CPU_MAX;
    char *end;
    long long quota = strtoll(line, &end, 10);
    long long period = end != line ? strtoll(end, NULL, 10) : 0;
    if (quota <= 0 || period <= 0)
        return CPU_MAX;
    return (int)min_i64(CPU_MAX, ceil_div(quota, period));
}

int os_core_count(void)
{
    size_t bytes = CPU_ALLOC_SIZE(CPU_MAX);
    cpu_set_t *set = CPU_ALLOC(CPU_MAX);
    must(set != NULL);
    int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 1;
    CPU_FREE(set);
    int granted = cgroup_cores();
    count = granted < count ? granted : count;
    return count > 0 ? count : 1;
}

bool os_random(void *out, size_t bytes)
{
    assert(out != NULL || bytes == 0);
    uint8_t *to = out;
    while (bytes > 0) {
        ssize_t got = getrandom(to, bytes < 256 ? bytes : 256, 0);
        if (got <= 0)
            return false;
        to += got;
        bytes -= (size_t)got;
    }
    return true;
}

bool os_uuid_hex(char out[33])
{
    uint8_t raw[16];
    if (!os_random(raw, sizeof raw))
        return false;
    raw[6] = (uint8_t)((raw[6] & 0x0F) | 0x40); /* RFC 9562, version 4 */
    raw[8] = (uint8_t)((raw[8] & 0x3F) | 0x80); /* variant 10 */
    for (int i = 0; i < 16; i++)
        snprintf(out + 2 * i, 3, "%02x", raw[i]);
    return true;
}

const char *os_env(const char *name)
{
    assert(name != NULL);
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

void os_restart_with(const char *name, const char *value, char *const *argv)
{
    assert(name != NULL && value != NULL && argv != NULL);
    if (getenv(name) == NULL && setenv(name, value, 1) == 0)
        execv("/proc/self/exe", argv);
}

void *os_reserve(size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    return base != MAP_FAILED ? base : NULL;
}

void os_release(void *base, size_t bytes)
{
    int rc = munmap(base, bytes);
    must(rc == 0);
}

void os_die_now(void)
{
    raise(SIGKILL);
    abort(); /* not reached */
}

bool os_stderr_is_terminal(void) { return isatty(STDERR_FILENO) == 1; }
bool os_stdout_is_terminal(void) { return isatty(STDOUT_FILENO) == 1; }

static char cpu_name[128];
static CpuFeatures cpu_features;
static pthread_once_t cpu_once = PTHREAD_ONCE_INIT;

static void read_cpu_name(void)
{
    snprintf(cpu_name, sizeof cpu_name, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL)
        return;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        char *name = colon + 1 + strspn(colon + 1, " \t");
        name[strcspn(name, "\n")] = '\0';
        snprintf(cpu_name, sizeof cpu_name, "%s", name);
        break;
    }
    fclose(file);
}

#if defined(__x86_64__)
static void read_cpu_features(CpuFeatures *out)
{
    /* __builtin_cpu_supports also asks whether the system saves the registers */
    __builtin_cpu_init();
    out->avx2 = __builtin_cpu_supports("avx2");
    out->fma = __builtin_cpu_supports("fma");
    out->avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    out->avx512_vnni = out->avx512 && __builtin_cpu_supports("avx512vnni");
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0)
        out->f16c = out->avx2 && (ecx >> 29 & 1) != 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0)
        out->amx_bf16 = out->avx512 && (edx >> 22 & 1) != 0;
    if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0)
        out->avx512_bf16 = out->avx512 && (eax >> 5 & 1) != 0;
}
#else
static void read_cpu_features(CpuFeatures *out)
{
#if defined(__aarch64__)
    out->neon = true;
#else
    (void)out;
#endif
}
#endif

static void mask_features(CpuFeatures *features, const char *isa)
{
    if (strcmp(isa, "generic") == 0) {
        *features = (CpuFeatures){0};
    } else if (strcmp(isa, "avx2") == 0) {
        features->avx512 = false;
        features->avx512_bf16 = features->avx512_vnni = features->amx_bf16 = false;
    } else if (strcmp(isa, "avx512") == 0) {
        features->avx512_bf16 = features->avx512_vnni = features->amx_bf16 = false;
    }
}

static void read_cpu(void)
{
    read_cpu_name();
    read_cpu_features(&cpu_features);
    const char *isa = os_env("BACKPROPAGATE_CPU_ISA");
    if (isa != NULL)
        mask_features(&cpu_features, isa);
}

const char *os_cpu_name(void)
{
    pthread_once(&cpu_once, read_cpu);
    return cpu_name;
}

const CpuFeatures *os_cpu_features(void)
{
    pthread_once(&cpu_once, read_cpu);
    return &cpu_features;
}

bool os_amx_allow(void)
{
#if defined(__x86_64__) && defined(SYS_arch_prctl)
    enum { REQUEST_STATE = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return cpu_features.amx_bf16 && syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) == 0;
#else
    return false;
#endif
}

static_assert(sizeof(OsSignals) >= sizeof(sigset_t), "a signal set fits");

void os_signals_hold(OsSignals *before)
{
    sigset_t all, old;
    sigfillset(&all);
    must(pthread_sigmask(SIG_SETMASK, &all, &old) == 0);
    memcpy(before, &old, sizeof old);
}

void os_signals_release(const OsSignals *before)
{
    sigset_t old;
    memcpy(&old, before, sizeof old);
    must(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
}
