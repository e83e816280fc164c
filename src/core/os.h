/* os.h — the operating system behind one face: time, processor features, memory, ids, threads.
 * One os_<system>.c per system implements it; the file calls are in os_file.h.
 */
#ifndef CORE_OS_H
#define CORE_OS_H

#include "core/base.h"

double os_now(void);                     /* monotonic seconds */
void os_sleep(double seconds);           /* a signal may end it early */
void os_time_iso(char out[32]);          /* local time, 2026-05-25T10:37:00.123456 */
void os_time_iso_utc(char out[32]);      /* …Z */
uint64_t os_memory_total(void);          /* bytes of RAM (cgroup limit if lower); 0 = unknown */
uint64_t os_memory_available(void);      /* bytes that can be had without swapping */
uint64_t os_process_peak(void);          /* peak resident bytes of this process */
int os_core_count(void);                 /* cores this process may use */
const char *os_cpu_name(void);           /* "AMD EPYC 9654" or "unknown processor" */
bool os_random(void *out, size_t bytes); /* cryptographic; false when there is none */
bool os_uuid_hex(char out[33]);          /* uuid4 without dashes */
const char *os_env(const char *name);    /* NULL when unset or empty */
/* Address space that reads as zero and is committed as it is touched; NULL when there is none. */
void *os_reserve(size_t bytes);
void os_release(void *base, size_t bytes);
/* Replaces this process by the same program with the same arguments and name=value in its
 * environment, for what libraries read when they are loaded. Returns when name was set already, or
 * when the system has no such thing. */
void os_restart_with(const char *name, const char *value, char *const *argv);
/* Ends the process as kill -9 would: nothing is flushed, nothing is run (fault tests). */
NORETURN void os_die_now(void);
bool os_stderr_is_terminal(void);
bool os_stdout_is_terminal(void);

/* Holds all signals back from the calling thread until they are released: for code that a signal
 * handler must not interrupt. */
typedef struct OsSignals {
    uint64_t words[16]; /* what was held back before */
} OsSignals;
void os_signals_hold(OsSignals *before);
void os_signals_release(const OsSignals *before);

/* Processor features that kernels ask for. */
typedef struct CpuFeatures {
    bool avx2, fma, f16c, avx512, avx512_bf16, avx512_vnni, amx_bf16, neon;
} CpuFeatures;
/* Features of this processor, less those masked by BACKPROPAGATE_CPU_ISA=generic|avx2|avx512 (read
 * once; for tests and bug reports). */
const CpuFeatures *os_cpu_features(void);
/* Asks the system for the tile registers (AMX): once, before a process uses them. */
bool os_amx_allow(void);

#endif
