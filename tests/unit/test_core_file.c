/* test_core_file.c — reading, mapping, atomic files and folders, paths and hashes on a real disk;
 * the fault sweeps are in tests/fault/test_core_durable.c.
 */
#include "test_support.h"

#include "core/file.h"
#include "core/os_file.h"

#include <errno.h>

static const ErrCode CODE = ERR_RUNTIME_IO_FAILED;

/* A path in the test's folder; lives until the arena is closed. */
static const char *in(Arena *arena, void **state, const char *name)
{
    return path_join(arena, *state, name);
}

static void writes_appear_only_at_commit(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    const char *path = in(&a, state, "f.bin"), *partial = in(&a, state, "f.bin.partial");
    write_text(path, "old");
    Err err = {0};
    FileWriter *w = file_writer_open(path, CODE, &err);
    assert_non_null(w);
    Buf expected = {0}, chunk = {0};
    /* crosses the buffer in every way; 600,000 fits in but is written past it */
    for (size_t n = 1; n < 3000000; n = n == 4 ? 600000 : n == 600000 ? 13 : n * 3 + 1) {
        buf_clear(&chunk);
        for (size_t i = 0; i < n; i++)
            buf_char(&chunk, (char)('a' + (i + n) % 26));
        file_writer_write(w, chunk.data, chunk.len);
        buf_str(&expected, buf_view(&chunk));
        assert_int_equal(file_writer_offset(w), expected.len);
    }
    file_writer_write(w, NULL, 0);
    assert_file_is(path, "old");
    assert_true(path_exists(partial));
    assert_true(file_writer_commit(w, &err));
    assert_false(path_exists(partial));
    assert_file_is(path, expected.data);
    buf_free(&expected);
    buf_free(&chunk);
    arena_close(&a);
}

static void abandon_leaves_the_old_file(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    const char *path = in(&a, state, "f");
    write_text(path, "old");
    FileWriter *w = file_writer_open(path, CODE, NULL);
    file_writer_write(w, "new", 3);
    file_writer_abandon(w);
    file_writer_abandon(NULL);
    assert_file_is(path, "old");
    assert_false(path_exists(in(&a, state, "f.partial")));
    arena_close(&a);
}

static void real_errors_are_reported(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    Err err = {0};
    assert_null(file_writer_open(in(&a, state, "no/such/f"), ERR_STATE_CHECKPOINT_INVALID, &err));
    assert_int_equal(err.code, ERR_STATE_CHECKPOINT_INVALID);
    assert_non_null(strstr(err.message, "no/such/f"));
    FileMap map;
    assert_false(file_map(&map, *state, CODE, NULL)); /* a folder */
    assert_false(file_map(&map, "/dev/null", CODE, NULL));
    Str text;
    assert_false(file_read(in(&a, state, "absent"), 10, &a, &text, CODE, NULL));
    int fd;
    assert_int_equal(os_file_create("/dev/full", &fd), 0); /* a real full disk */
    assert_int_equal(os_file_write(fd, "x", 1), ENOSPC);
    os_file_close(fd);
    write_text(in(&a, state, "file"), "x");
    err = (Err){0};
    assert_false(folder_make(in(&a, state, "file/sub"), CODE, &err));
    assert_int_equal(err.code, CODE);
    arena_close(&a);
}

static void read_has_a_limit(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    const char *path = in(&a, state, "f");
    write_text(path, "0123456789");
    Str text;
    Err err = {0};
    assert_true(file_read(path, 10, &a, &text, CODE, &err));
    assert_true(str_eq_text(text, "0123456789"));
    assert_int_equal(text.data[10], '\0');
    assert_false(file_read(path, 9, &a, &text, CODE, &err));
    assert_non_null(strstr(err.message, "longer than 9 bytes"));
    assert_false(file_read("/dev/zero", 100000, &a, &text, CODE, NULL)); /* endless, no size */
    assert_true(file_read("/dev/null", 0, &a, &text, CODE, NULL));
    assert_int_equal(text.len, 0);
    assert_true(file_read("/proc/self/status", 1 << 20, &a, &text, CODE, NULL));
    assert_true(text.len > 100);
    arena_close(&a);
}

static void empty_file_maps(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    const char *path = in(&a, state, "empty");
    write_text(path, "");
    FileMap map;
    assert_true(file_map(&map, path, CODE, NULL));
    assert_int_equal(map.size, 0);
    assert_non_null(map.data);
    file_unmap(&map);
    file_unmap(&map);
    arena_close(&a);
}

static void folders_commit_and_replace(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    const char *path = in(&a, state, "deep/er/ckpt");
    for (int round = 0; round < 3; round++) {
        const char *partial = folder_begin(path, &a, CODE, NULL);
        assert_non_null(partial);
        assert_string_equal(partial + strlen(path), ".partial");
        write_text(path_join(&a, partial, arena_printf(&a, "only-%d", round)), "x");
        assert_true(folder_make(path_join(&a, partial, "sub/sub"), CODE, NULL));
        assert_int_equal(path_is_folder(path), round > 0);
        assert_true(folder_commit(path, CODE, NULL));
        assert_true(path_exists(path_join(&a, path, arena_printf(&a, "only-%d", round))));
        const char **names;
        size_t n;
        assert_true(folder_list(path, &a, &names, &n));
        assert_int_equal(n, 2);
        assert_string_equal(names[1], "sub");
        assert_true(folder_list(in(&a, state, "deep/er"), &a, &names, &n));
        assert_int_equal(n, 1); /* no .partial, no .old */
    }
    assert_non_null(folder_begin(path, &a, CODE, NULL));
    folder_abandon(path);
    folder_abandon(path);
    assert_false(path_exists(in(&a, state, "deep/er/ckpt.partial")));
    Err err = {0};
    assert_false(folder_commit(path, CODE, &err)); /* nothing was begun */
    assert_true(path_is_folder(path));
    arena_close(&a);
}

static void removing_does_not_follow_links(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    write_text(in(&a, state, "kept"), "x");
    assert_true(folder_make(in(&a, state, "d/e/f"), CODE, NULL));
    assert_int_equal(symlink("../../kept", in(&a, state, "d/e/link")), 0);
    assert_int_equal(symlink("..", in(&a, state, "d/up")), 0);
    folder_remove(in(&a, state, "d"));
    assert_false(path_exists(in(&a, state, "d")));
    assert_file_is(in(&a, state, "kept"), "x");
    folder_remove(in(&a, state, "kept")); /* not a folder: left alone */
    folder_remove(in(&a, state, "absent"));
    assert_true(path_exists(in(&a, state, "kept")));
    arena_close(&a);
}

static void lists_are_sorted(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    static const char *const NAMES[] = {"b", "a", "c10", "c9", "Z"};
    for (size_t i = 0; i < COUNT_OF(NAMES); i++)
        write_text(in(&a, state, NAMES[i]), "");
    const char **names;
    size_t n;
    assert_true(folder_list(*state, &a, &names, &n));
    assert_int_equal(n, 5);
    for (size_t i = 1; i < n; i++)
        assert_true(strcmp(names[i - 1], names[i]) < 0);
    assert_false(folder_list(in(&a, state, "absent"), &a, &names, &n));
    assert_int_equal(n, 0);
    arena_close(&a);
}

static void paths(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    assert_string_equal(path_join(&a, "x", "y"), "x/y");
    assert_string_equal(path_join(&a, "x/", "y"), "x/y");
    assert_string_equal(path_join(&a, "", "y"), "y");
    assert_string_equal(path_base("a/b/c"), "c");
    assert_string_equal(path_base("c"), "c");
    static const char *const PARENTS[][2] = {{"a/b", "a"}, {"/a", "/"},    {"a", "."},
                                             {"a/b/", "a"}, {"a//b", "a"}, {"/", "/"}};
    for (size_t i = 0; i < COUNT_OF(PARENTS); i++)
        assert_string_equal(path_parent(&a, PARENTS[i][0]), PARENTS[i][1]);
    arena_close(&a);
}

static void sha256_of_known_texts(void **state)
{
    Arena a;
    assert_true(arena_open(&a, 1 << 20, NULL));
    const char *path = in(&a, state, "f");
    char hex[65]; /* FIPS 180-4 examples */
    write_text(path, "abc");
    assert_true(file_sha256(path, hex, CODE, NULL));
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    write_text(path, "");
    assert_true(file_sha256(path, hex, CODE, NULL));
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_false(file_sha256(*state, hex, CODE, NULL));
    arena_close(&a);
}

#define TEMP_TEST(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEMP_TEST(writes_appear_only_at_commit),
        TEMP_TEST(abandon_leaves_the_old_file),
        TEMP_TEST(real_errors_are_reported),
        TEMP_TEST(read_has_a_limit),
        TEMP_TEST(empty_file_maps),
        TEMP_TEST(folders_commit_and_replace),
        TEMP_TEST(removing_does_not_follow_links),
        TEMP_TEST(lists_are_sorted),
        TEMP_TEST(sha256_of_known_texts),
        cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
