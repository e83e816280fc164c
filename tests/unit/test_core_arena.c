/* test_core_arena.c — arenas: alignment, stack discipline, zeroing after reuse, ranges that nobody
 * can read (device, plan), and the aborts on a full arena and on overflow.
 */
#include "test_support.h"

#include "core/arena.h"

static void pushes_are_aligned_and_do_not_move(void **state)
{
    Arena arena;
    Err err = {0};
    assert_true(arena_open(&arena, 0, &err));
    char *first = arena_push(&arena, 1);
    *first = 'a';
    for (size_t bytes = 1; bytes < 5000; bytes += 37) {
        uint8_t *p = arena_push(&arena, bytes);
        assert_int_equal((uintptr_t)p % ARENA_ALIGN, 0);
        memset(p, 0xAB, bytes);
    }
    assert_int_equal(*first, 'a');
    assert_int_equal(arena.used % ARENA_ALIGN, 0);
    arena_close(&arena);
    assert_null(arena.base);
    arena_close(&arena); /* safe on {0} */
}

static void rewind_gives_back_and_peak_remains(void **state)
{
    Arena arena;
    assert_true(arena_open(&arena, 1 << 20, NULL));
    size_t mark = arena_mark(&arena);
    void *a = arena_push(&arena, 1000);
    size_t peak = arena.used;
    arena_rewind(&arena, mark);
    assert_int_equal(arena.used, 0);
    assert_int_equal(arena.peak, peak);
    assert_ptr_equal(arena_push(&arena, 10), a);
    assert_int_equal(arena.peak, peak);
    arena_close(&arena);
}

static void zeroed_is_zero_after_reuse_and_when_fresh(void **state)
{
    Arena arena;
    assert_true(arena_open(&arena, 1 << 20, NULL));
    uint8_t *dirty = arena_push(&arena, 1000);
    memset(dirty, 0xFF, 1000);
    arena_rewind(&arena, 0);
    uint8_t *clean = arena_zeroed(&arena, 3000, 1); /* half reused, half never touched */
    for (int i = 0; i < 3000; i++)
        assert_int_equal(clean[i], 0);
    int64_t *words = arena_array(&arena, int64_t, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(words[i], 0);
    arena_close(&arena);
}

static void text_helpers(void **state)
{
    Arena arena;
    assert_true(arena_open(&arena, 1 << 20, NULL));
    assert_string_equal(arena_strdup(&arena, "hello"), "hello");
    assert_string_equal(arena_strndup(&arena, "hello", 2), "he");
    assert_string_equal(arena_strndup(&arena, NULL, 0), "");
    assert_string_equal(arena_printf(&arena, "%d-%s", 7, "x"), "7-x");
    arena_close(&arena);
}

static void borrowed_range_is_never_touched(void **state)
{
    Arena arena;
    arena_over(&arena, (void *)(uintptr_t)0x10000, 4096); /* nothing is mapped there */
    void *a = arena_push(&arena, 100);
    void *b = arena_push(&arena, 64);
    assert_int_equal((uintptr_t)a, 0x10000);
    assert_int_equal((uintptr_t)b, 0x10000 + 128);
    assert_int_equal(arena.peak, 192);
    arena_close(&arena);
}

static void impossible_reserve_is_an_error(void **state)
{
    Arena arena;
    Err err = {0};
    assert_false(arena_open(&arena, SIZE_MAX / 2, &err));
    assert_int_equal(err.code, ERR_RUNTIME_OUT_OF_MEMORY);
    assert_null(arena.base);
}

static void overfill(void *context)
{
    Arena arena;
    arena_open(&arena, 4096, NULL);
    arena_push(&arena, 4000);
    arena_push(&arena, *(size_t *)context);
}

static void overflow(void *context)
{
    Arena arena;
    arena_open(&arena, 4096, NULL);
    arena_zeroed(&arena, SIZE_MAX / 2, 4);
}

static void full_arena_aborts(void **state)
{
    size_t sizes[] = {97, 65, SIZE_MAX, SIZE_MAX - 32};
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        assert_aborts(overfill, &sizes[i]);
    size_t fits = 64;
    assert_int_equal(run_in_child(overfill, &fits), 0);
    assert_aborts(overflow, NULL);
}

static void heap_grows_and_keeps(void **state)
{
    char *p = heap_resize(NULL, 4);
    memcpy(p, "abc", 4);
    p = heap_resize(p, 100000);
    assert_string_equal(p, "abc");
    heap_free(p);
    heap_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes_are_aligned_and_do_not_move),
        cmocka_unit_test(rewind_gives_back_and_peak_remains),
        cmocka_unit_test(zeroed_is_zero_after_reuse_and_when_fresh),
        cmocka_unit_test(text_helpers),
        cmocka_unit_test(borrowed_range_is_never_touched),
        cmocka_unit_test(impossible_reserve_is_an_error),
        cmocka_unit_test(full_arena_aborts),
        cmocka_unit_test(heap_grows_and_keeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
