/* test_core_durable.c — breaks and kills every durable operation of atomic files and folders, one
 * after the other, and checks that what is on disk is the old state or the new one, never a mix.
 *
 * The sweeps raise n until the armed fault no longer strikes; each asserts that it struck often, so
 * a hook that has come loose fails the test.
 */
#include "test_support.h"

#include "core/file_fault.h"

enum { SWEEP_MAX = 200 };
static const ErrCode CODE = ERR_STATE_CHECKPOINT_INVALID;

typedef struct Place {
    Arena arena;
    const char *path, *partial, *old;
} Place;

static void place_open(Place *place, void **state, const char *name)
{
    assert_true(arena_open(&place->arena, 1 << 20, NULL));
    place->path = path_join(&place->arena, *state, name);
    place->partial = arena_printf(&place->arena, "%s.partial", place->path);
    place->old = arena_printf(&place->arena, "%s.old", place->path);
}

/* Three writes: through the buffer, past it, and the rest at commit. */
static bool write_new(const char *path, Err *err)
{
    FileWriter *w = file_writer_open(path, CODE, err);
    if (w == NULL)
        return false;
    static char big[3 << 20];
    memset(big, 'n', sizeof big);
    file_writer_write(w, big, 100);
    file_writer_write(w, big, sizeof big - 200);
    file_writer_write(w, big, 100);
    return file_writer_commit(w, err);
}

/* True = the new content, false = the old one; anything else fails the test. */
static bool is_new_file(const char *path)
{
    FileMap map = {0};
    assert_true(file_map(&map, path, CODE, NULL));
    bool is_new = map.size == 3 << 20;
    if (is_new)
        for (size_t i = 0; i < map.size; i++)
            assert_int_equal(map.data[i], 'n');
    else
        assert_true(map.size == 3 && memcmp(map.data, "old", 3) == 0);
    file_unmap(&map);
    return is_new;
}

static void failing_write_leaves_the_old_file(void **state)
{
    Place place;
    place_open(&place, state, "file");
    for (int kind = FAULT_WRITE; kind <= FAULT_FULL; kind++) {
        uint64_t n = 1;
        for (;; n++) {
            assert_true(n < SWEEP_MAX);
            file_fault_set(FAULT_NONE, 0);
            write_text(place.path, "old");
            file_fault_set((FileFault)kind, n);
            Err err = {0};
            bool ok = write_new(place.path, &err);
            if (file_fault_count() < n) {
                assert_true(ok);
                break;
            }
            assert_false(ok);
            assert_int_equal(err.code, CODE);
            assert_non_null(strstr(err.message, "No space left"));
            assert_false(path_exists(place.partial));
            is_new_file(place.path);
        }
        assert_true(n > 6); /* create, three writes, sync, rename, folder sync */
        file_fault_set(FAULT_NONE, 0);
        assert_true(is_new_file(place.path));
    }
    arena_close(&place.arena);
}

typedef struct Kill {
    const char *path;
    uint64_t at;
} Kill;

static void write_until_killed(void *context)
{
    const Kill *kill = context;
    file_fault_set(FAULT_KILL, kill->at);
    must(write_new(kill->path, NULL));
}

static void killed_write_leaves_a_whole_file(void **state)
{
    Place place;
    place_open(&place, state, "file");
    int old_seen = 0, new_seen = 0;
    for (uint64_t n = 1;; n++) {
        assert_true(n < SWEEP_MAX);
        write_text(place.path, "old");
        int status = run_in_child(write_until_killed, &(Kill){place.path, n});
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
        assert_int_equal(WTERMSIG(status), SIGKILL);
        if (is_new_file(place.path))
            new_seen++;
        else
            old_seen++;
        write_text(place.path, "old"); /* a stale .partial is in nobody's way */
        assert_false(path_exists(place.partial));
    }
    assert_true(old_seen >= 5 && new_seen >= 1);
    arena_close(&place.arena);
}

/* A checkpoint of two files in which both carry the same version. */
static bool write_folder(const char *path, const char *version, Err *err)
{
    Arena arena;
    if (!arena_open(&arena, 1 << 20, err))
        return false;
    const char *partial = folder_begin(path, &arena, CODE, err);
    bool ok = partial != NULL && folder_make(path_join(&arena, partial, "sub"), CODE, err);
    static const char *const NAMES[] = {"weights", "sub/state"};
    for (size_t i = 0; ok && i < COUNT_OF(NAMES); i++)
        ok = file_write_atomic(path_join(&arena, partial, NAMES[i]), str_of(version), CODE, err);
    if (ok)
        ok = folder_commit(path, CODE, err);
    else
        folder_abandon(path);
    arena_close(&arena);
    return ok;
}

/* After recovery: both files of one version, and nothing else beside the folder. */
static char recovered_version(Place *place)
{
    folder_recover(place->path);
    assert_false(path_exists(place->old));
    FileMap a = {0}, b = {0};
    size_t mark = arena_mark(&place->arena);
    assert_true(file_map(&a, path_join(&place->arena, place->path, "weights"), CODE, NULL));
    assert_true(file_map(&b, path_join(&place->arena, place->path, "sub/state"), CODE, NULL));
    assert_true(a.size == 1 && b.size == 1);
    char version = (char)a.data[0];
    assert_int_equal(version, b.data[0]);
    file_unmap(&a);
    file_unmap(&b);
    const char **names;
    size_t n;
    assert_true(folder_list(place->path, &place->arena, &names, &n));
    assert_int_equal(n, 2);
    arena_rewind(&place->arena, mark);
    return version;
}

static void failing_folder_commit_leaves_the_old_folder(void **state)
{
    Place place;
    place_open(&place, state, "checkpoint-5");
    for (int kind = FAULT_WRITE; kind <= FAULT_FULL; kind++) {
        for (uint64_t n = 1;; n++) {
            assert_true(n < SWEEP_MAX);
            file_fault_set(FAULT_NONE, 0);
            assert_true(write_folder(place.path, "1", NULL));
            file_fault_set((FileFault)kind, n);
            Err err = {0};
            bool ok = write_folder(place.path, "2", &err);
            bool struck = file_fault_count() >= n;
            file_fault_set(FAULT_NONE, 0);
            char version = recovered_version(&place);
            assert_int_equal(version, ok ? '2' : version);
            if (!struck) {
                assert_true(ok && n > 15);
                break;
            }
            if (!ok)
                assert_int_equal(err.code, CODE);
            assert_false(path_exists(place.partial));
        }
    }
    arena_close(&place.arena);
}

static void commit_until_killed(void *context)
{
    const Kill *kill = context;
    file_fault_set(FAULT_KILL, kill->at);
    must(write_folder(kill->path, "2", NULL));
}

static void killed_folder_commit_is_recovered(void **state)
{
    Place place;
    place_open(&place, state, "checkpoint-5");
    int seen_old = 0, seen_new = 0, seen_gap = 0;
    for (uint64_t n = 1;; n++) {
        assert_true(n < SWEEP_MAX);
        assert_true(write_folder(place.path, "1", NULL));
        int status = run_in_child(commit_until_killed, &(Kill){place.path, n});
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
        assert_int_equal(WTERMSIG(status), SIGKILL);
        seen_gap += !path_exists(place.path);
        if (recovered_version(&place) == '2')
            seen_new++;
        else
            seen_old++;
    }
    assert_true(seen_old > 10 && seen_new > 1);
    assert_true(seen_gap >= 1); /* the window between the two renames was hit */
    arena_close(&place.arena);
}

static void kill_recovery(void *context)
{
    const Kill *kill = context;
    file_fault_set(FAULT_KILL, kill->at);
    folder_recover(kill->path);
}

/* Recovery itself may be killed and simply runs again. */
static void killed_recovery_runs_again(void **state)
{
    Place place;
    place_open(&place, state, "checkpoint-5");
    for (int gap = 0; gap < 2; gap++) {
        uint64_t n = 1;
        for (;; n++) {
            assert_true(n < SWEEP_MAX);
            assert_true(write_folder(place.path, "1", NULL));
            assert_int_equal(rename(place.path, place.old), 0);
            if (gap == 0)
                assert_true(folder_make(place.path, CODE, NULL));
            int status = run_in_child(kill_recovery, &(Kill){place.path, n});
            folder_recover(place.path);
            assert_true(path_is_folder(place.path));
            assert_false(path_exists(place.old));
            if (WIFEXITED(status))
                break;
        }
        assert_true(n > 1);
    }
    arena_close(&place.arena);
}

static void set_fault_by_environment(void *context)
{
    setenv("BACKPROPAGATE_FAULT", "kill:2", 1);
    must(file_write_atomic(context, STR("x"), CODE, NULL));
}

static void fail_by_environment(void *context)
{
    setenv("BACKPROPAGATE_FAULT", "write:1", 1);
    must(!file_write_atomic(context, STR("x"), CODE, NULL));
    must(file_write_atomic(context, STR("x"), CODE, NULL));
}

/* First test of the program: the variable is read once, before the first durable operation. */
static void environment_arms_the_fault(void **state)
{
    const char *path = "/tmp/backprop-fault-environment";
    int status = run_in_child(set_fault_by_environment, (void *)(uintptr_t)path);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(run_in_child(fail_by_environment, (void *)(uintptr_t)path), 0);
    unlink(path);
}

#define TEMP_TEST(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment_arms_the_fault),
        TEMP_TEST(failing_write_leaves_the_old_file),
        TEMP_TEST(killed_write_leaves_a_whole_file),
        TEMP_TEST(failing_folder_commit_leaves_the_old_folder),
        TEMP_TEST(killed_folder_commit_is_recovered),
        TEMP_TEST(killed_recovery_runs_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
