/* test_core_spool.c — a spool gives back every byte, in memory and over a temporary file; a folder
 * that cannot take the file is an error.
 */
#include "test_support.h"

#include "core/spool.h"

/* Writes n pieces of growing odd sizes; byte k of the whole is k * 7 modulo 256. */
static size_t fill(Spool *spool, int n)
{
    Err err = {0};
    size_t total = 0;
    static uint8_t piece[200000];
    for (int i = 0; i < n; i++) {
        size_t bytes = i % 50 == 49 ? sizeof piece : (size_t)(i * 37 % 1000);
        for (size_t k = 0; k < bytes; k++)
            piece[k] = (uint8_t)((total + k) * 7);
        assert_true(spool_write(spool, piece, bytes, &err));
        total += bytes;
    }
    return total;
}

static void check_bytes(size_t memory, int pieces, bool in_file)
{
    Err err = {0};
    Spool spool;
    spool_open(&spool, memory, ERR_RUNTIME_IO_FAILED);
    size_t total = fill(&spool, pieces);
    const uint8_t *bytes = spool_finish(&spool, &err);
    assert_non_null(bytes);
    assert_int_equal(spool.total, total);
    assert_int_equal(spool.map != NULL, in_file);
    for (size_t k = 0; k < total; k++)
        assert_int_equal(bytes[k], (uint8_t)(k * 7));
    uint8_t copy[1000];
    const size_t n = total < sizeof copy ? total : sizeof copy, at = total - n;
    spool_read(&spool, at, copy, n);
    assert_memory_equal(copy, bytes + at, n);
    spool_close(&spool);
}

static void every_byte_comes_back(void **state)
{
    check_bytes(1 << 20, 0, false);
    check_bytes(1 << 20, 40, false);
    check_bytes(1, 300, true);
    check_bytes(1 << 17, 700, true);
}

static void a_folder_that_is_not_there_is_an_error(void **state)
{
    Err err = {0};
    Spool spool;
    static uint8_t piece[100000];
    setenv("TMPDIR", "/nowhere/at/all", 1);
    spool_open(&spool, 1, ERR_RUNTIME_IO_FAILED);
    bool ok = spool_write(&spool, piece, sizeof piece, &err);
    unsetenv("TMPDIR");
    assert_false(ok);
    assert_int_equal(err.code, ERR_RUNTIME_IO_FAILED);
    assert_non_null(strstr(err_hint_text(&err), "TMPDIR"));
    spool_close(&spool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_comes_back),
        cmocka_unit_test(a_folder_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests_name("core_spool", tests, NULL, NULL);
}
