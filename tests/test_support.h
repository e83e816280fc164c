/* test_support.h — what the C tests share: cmocka with its needed headers, a temporary folder that
 * removes itself, a check that a call aborts, and whole-file helpers.
 *
 * Header only; include it first in a test file.
 */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* cmocka setup/teardown: *state is the path of a fresh folder, removed afterwards. */
static inline int temp_setup(void **state)
{
    const char *base = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    Buf path = {0};
    buf_printf(&path, "%s/backprop-test-XXXXXX", base);
    *state = mkdtemp(path.data);
    return *state == NULL ? -1 : 0;
}

static inline int temp_teardown(void **state)
{
    folder_remove(*state);
    heap_free(*state);
    return 0;
}

/* A file of a folder in tests/golden; lives in `arena`. */
static inline Str golden_file(Arena *arena, const char *folder, const char *name)
{
    Err err = {0};
    Str bytes;
    const char *path = arena_printf(arena, "%s/golden/%s/%s", TEST_DATA, folder, name);
    if (!file_read(path, 1 << 20, arena, &bytes, ERR_RUNTIME_IO_FAILED, &err))
        fail_msg("%s", err.message);
    return bytes;
}

/* Runs call(context) in a child process and returns its wait status; its stderr goes nowhere. */
static inline int run_in_child(void (*call)(void *), void *context)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int nowhere = open("/dev/null", O_WRONLY);
        if (nowhere >= 0)
            dup2(nowhere, STDERR_FILENO);
        call(context);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

#define assert_aborts(call, context)                                                               \
    do {                                                                                           \
        int status_ = run_in_child((call), (context));                                             \
        assert_true(WIFSIGNALED(status_) && WTERMSIG(status_) == SIGABRT);                         \
    } while (0)

static inline void write_text(const char *path, const char *text)
{
    Err err = {0};
    if (!file_write_atomic(path, str_of(text), ERR_RUNTIME_IO_FAILED, &err))
        fail_msg("%s", err.message);
}

static inline void assert_file_is(const char *path, const char *text)
{
    FileMap map = {0};
    Err err = {0};
    if (!file_map(&map, path, ERR_RUNTIME_IO_FAILED, &err))
        fail_msg("%s", err.message);
    assert_int_equal(map.size, strlen(text));
    assert_memory_equal(map.data, text, map.size);
    file_unmap(&map);
}

#endif
