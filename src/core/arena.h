/* arena.h — memory by lifetime (process, model, run, step, scratch), never by object.
 *
 * An Arena is one address range with a fill mark. Host arenas reserve address space and the system
 * commits pages as they are touched, so pointers never move. A device slab, or the plan backend's
 * imaginary one, is the same struct over a range that the arena does not own: arena_push hands out
 * addresses and never touches what lies behind them.
 *
 * Small memory does not fail: running out of a host arena's reserve aborts with a message. Large
 * memory is planned (the plan backend), asked for as a slab, and may fail with an Err there.
 */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include "core/base.h"
#include "core/err.h"

typedef struct Arena {
    uint8_t *base;
    size_t used;     /* bytes handed out, alignment gaps included */
    size_t peak;     /* largest `used` ever seen */
    size_t capacity; /* bytes of the range */
    bool owned;      /* arena_close unmaps the range */
} Arena;

enum { ARENA_ALIGN = 64 };

/* Reserves `reserve_bytes` of address space (0 = 64 GiB, less under a tight limit). */
bool arena_open(Arena *arena, size_t reserve_bytes, Err *err);
/* Over a range owned by somebody else (device slab, plan), perhaps one that nobody can read. */
void arena_over(Arena *arena, void *base, size_t capacity);
/* Unmaps an owned range and clears the struct. Safe on {0}. */
void arena_close(Arena *arena);

/* `bytes` with ARENA_ALIGN alignment, contents undefined. Aborts when the range is full. */
void *arena_push(Arena *arena, size_t bytes);
/* The same, zeroed; host arenas only. Aborts on overflow of count * size. */
void *arena_zeroed(Arena *arena, size_t count, size_t size);
char *arena_strdup(Arena *arena, const char *text);
char *arena_strndup(Arena *arena, const char *text, size_t len);
char *arena_printf(Arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

#define arena_new(arena, Type) ((Type *)arena_zeroed((arena), 1, sizeof(Type)))
#define arena_array(arena, Type, count) \
    ((Type *)arena_zeroed((arena), (size_t)(count), sizeof(Type)))

/* Stack discipline: everything pushed after the mark is given back by the rewind. */
static inline size_t arena_mark(const Arena *arena) { return arena->used; }
static inline void arena_rewind(Arena *arena, size_t mark)
{
    assert(mark <= arena->used);
    arena->used = mark;
}

/* Heap memory with a lifetime of its own, for growing host buffers (core/str.h) and library glue.
 * Aborts when there is none. heap_free(NULL) is fine. Everything else uses an arena. */
void *heap_resize(void *ptr, size_t bytes);
void heap_free(void *ptr);

#endif
