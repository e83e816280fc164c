/* arena.c — memory by lifetime over reserved address space, and the process's only heap calls.
 *
 * Invariants: `used` is always a multiple of ARENA_ALIGN, so the address of the n-th push depends
 * on the sizes alone (the plan backend counts on it); bytes of an owned range at or above `peak`
 * have never been handed out and are therefore still the zero pages of the system.
 *
 * Under AddressSanitizer the gap between the end of a push and the next one is poisoned, so that
 * running past an arena array is reported like running past a malloc.
 */
#include "core/arena.h"

#include "core/file_fault.h"
#include "core/os.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(ptr, bytes) __asan_poison_memory_region((ptr), (bytes))
#define UNPOISON(ptr, bytes) __asan_unpoison_memory_region((ptr), (bytes))
#else
#define POISON(ptr, bytes) ((void)(ptr), (void)(bytes))
#define UNPOISON(ptr, bytes) ((void)(ptr), (void)(bytes))
#endif

static const size_t DEFAULT_RESERVE = (size_t)64 << 30;
static const size_t SMALLEST_RESERVE = (size_t)64 << 20;

bool arena_open(Arena *arena, size_t reserve_bytes, Err *err)
{
    must(arena != NULL);
    size_t bytes = reserve_bytes != 0 ? reserve_bytes : DEFAULT_RESERVE;
    size_t smallest = reserve_bytes != 0 ? reserve_bytes : SMALLEST_RESERVE;
    must(bytes <= SIZE_MAX - ARENA_ALIGN);
    bytes = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    const bool fails = memory_fault_check();
    void *base = fails ? NULL : os_reserve(bytes);
    while (base == NULL && !fails && bytes / 2 >= smallest) {
        bytes /= 2;
        base = os_reserve(bytes);
    }
    *arena = (Arena){0};
    if (base == NULL)
        return err_set(err, ERR_RUNTIME_OUT_OF_MEMORY, "cannot reserve %zu bytes of address space",
                       bytes);
    assert((uintptr_t)base % ARENA_ALIGN == 0);
    *arena = (Arena){.base = base, .capacity = bytes, .owned = true};
    return true;
}

void arena_over(Arena *arena, void *base, size_t capacity)
{
    must(arena != NULL);
    assert((uintptr_t)base % ARENA_ALIGN == 0);
    *arena = (Arena){.base = base, .capacity = capacity, .owned = false};
}

void arena_close(Arena *arena)
{
    must(arena != NULL);
    if (arena->owned && arena->base != NULL) {
        UNPOISON(arena->base, arena->peak);
        os_release(arena->base, arena->capacity);
    }
    *arena = (Arena){0};
}

static NORETURN void arena_full(const Arena *arena, size_t bytes)
{
    fprintf(stderr, "arena is full: %zu bytes asked for, %zu of %zu in use\n", bytes, arena->used,
            arena->capacity);
    must_failed("arena has room", __FILE__, __LINE__);
}

void *arena_push(Arena *arena, size_t bytes)
{
    assert(arena != NULL && arena->used % ARENA_ALIGN == 0);
    size_t room = arena->capacity - arena->used;
    if (bytes > room)
        arena_full(arena, bytes);
    size_t gap = (ARENA_ALIGN - bytes % ARENA_ALIGN) % ARENA_ALIGN;
    if (gap > room - bytes)
        arena_full(arena, bytes + gap);
    uintptr_t address = (uintptr_t)arena->base + arena->used;
    arena->used += bytes + gap;
    if (arena->used > arena->peak)
        arena->peak = arena->used;
    if (arena->owned) {
        UNPOISON((uint8_t *)address, bytes);
        POISON((uint8_t *)address + bytes, gap);
    }
    return (void *)address;
}

void *arena_zeroed(Arena *arena, size_t count, size_t size)
{
    size_t bytes;
    must(size_mul(count, size, &bytes));
    size_t start = arena->used;
    size_t touched = arena->owned ? arena->peak : SIZE_MAX; /* above it an owned range is zero */
    void *data = arena_push(arena, bytes);
    if (touched > start && bytes > 0)
        memset(data, 0, bytes < touched - start ? bytes : touched - start);
    return data;
}

char *arena_strndup(Arena *arena, const char *text, size_t len)
{
    assert(text != NULL || len == 0);
    must(len < SIZE_MAX);
    char *copy = arena_push(arena, len + 1);
    if (len > 0)
        memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *arena_strdup(Arena *arena, const char *text)
{
    assert(text != NULL);
    return arena_strndup(arena, text, strlen(text));
}

char *arena_printf(Arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    must(len >= 0);
    char *text = arena_push(arena, (size_t)len + 1);
    int written = vsnprintf(text, (size_t)len + 1, format, again);
    assert(written == len);
    (void)written;
    va_end(again);
    va_end(args);
    return text;
}

void *heap_resize(void *ptr, size_t bytes)
{
    void *grown = realloc(ptr, bytes > 0 ? bytes : 1);
    if (grown == NULL) {
        fprintf(stderr, "out of memory: %zu bytes asked for\n", bytes);
        must_failed("heap has room", __FILE__, __LINE__);
    }
    return grown;
}

void heap_free(void *ptr) { free(ptr); }
