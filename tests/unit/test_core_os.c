/* test_core_os.c — what the system reports, the thread pool, and the dtype table: plausible values
 * and formats, the ISA mask, block sizes that divide.
 */
#include "test_support.h"

#include "core/os.h"
#include "core/tensor.h"
#include "core/thread.h"

static void clocks(void **state)
{
    double before = os_now();
    assert_true(os_now() >= before);
    char local[32], utc[32];
    os_time_iso(local);
    os_time_iso_utc(utc);
    assert_int_equal(strlen(local), 26);
    assert_int_equal(strlen(utc), 27);
    assert_true(local[10] == 'T' && local[19] == '.' && utc[26] == 'Z');
}

static void machine(void **state)
{
    uint64_t total = os_memory_total(), available = os_memory_available();
    assert_true(total > (uint64_t)64 << 20);
    assert_true(available > 0 && available <= total);
    uint64_t peak = os_process_peak();
    assert_true(peak > 1 << 20);
    assert_true(os_core_count() >= 1);
    assert_true(strlen(os_cpu_name()) > 0);
}

static void ids_differ_and_are_version_4(void **state)
{
    char a[33], b[33];
    assert_true(os_uuid_hex(a) && os_uuid_hex(b));
    assert_string_not_equal(a, b);
    assert_int_equal(strlen(a), 32);
    assert_int_equal(strspn(a, "0123456789abcdef"), 32);
    assert_int_equal(a[12], '4');
    assert_non_null(strchr("89ab", a[16]));
}

static void environment(void **state)
{
    setenv("BP_TEST_VARIABLE", "", 1);
    assert_null(os_env("BP_TEST_VARIABLE"));
    setenv("BP_TEST_VARIABLE", "x", 1);
    assert_string_equal(os_env("BP_TEST_VARIABLE"), "x");
    unsetenv("BP_TEST_VARIABLE");
    assert_null(os_env("BP_TEST_VARIABLE"));
}

static void expect_generic(void *context)
{
    setenv("BACKPROPAGATE_CPU_ISA", "generic", 1);
    const CpuFeatures *f = os_cpu_features();
    must(!f->avx2 && !f->fma && !f->f16c && !f->avx512 && !f->avx512_bf16 && !f->amx_bf16);
}

static void expect_no_avx512(void *context)
{
    setenv("BACKPROPAGATE_CPU_ISA", "avx2", 1);
    const CpuFeatures *f = os_cpu_features();
    must(!f->avx512 && !f->avx512_bf16 && !f->avx512_vnni && !f->amx_bf16);
#if defined(__x86_64__)
    must(f->avx2 == (__builtin_cpu_supports("avx2") != 0));
#endif
}

static void features_can_be_masked(void **state)
{
    assert_int_equal(run_in_child(expect_generic, NULL), 0);
    assert_int_equal(run_in_child(expect_no_avx512, NULL), 0);
    const CpuFeatures *f = os_cpu_features();
    assert_true(!f->avx512 || f->avx2);
    assert_true(!f->avx512_bf16 || f->avx512);
}

static void die(void *context) { os_die_now(); }

static void dying_is_a_kill(void **state)
{
    int status = run_in_child(die, NULL);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void threads(void **state)
{
    threads_set(3);
    assert_int_equal(threads_count(), 3);
    threads_set(0);
    assert_int_equal(threads_count(), os_core_count());
}

static void dtypes(void **state)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        const DtypeInfo *info = dtype_info((Dtype)i);
        assert_true(info->block > 0 && info->block_bytes > 0 && strlen(info->name) > 0);
        assert_int_equal(dtype_row_bytes((Dtype)i, 4 * info->block), 4 * info->block_bytes);
        Dtype back;
        if (info->ggml_id >= 0) {
            assert_true(dtype_from_ggml(info->ggml_id, &back));
            assert_int_equal(back, i);
        }
    }
    Dtype unused;
    assert_false(dtype_from_ggml(-1, &unused));
    assert_false(dtype_from_ggml(INT64_MAX, &unused));
    assert_int_equal(dtype_row_bytes(DTYPE_Q4_1, 576), 18 * 20);
    Tensor t = tensor_make(NULL, DTYPE_Q8_0, 10, 64);
    assert_int_equal(tensor_bytes(&t), 10 * 2 * 34);
    assert_true(tensor_is_empty(&t));
}

static void half_a_block(void *context) { dtype_row_bytes(DTYPE_Q8_0, 33); }

static void rows_are_whole_blocks(void **state) { assert_aborts(half_a_block, NULL); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_can_be_masked), /* first: the features are read once */
        cmocka_unit_test(clocks),
        cmocka_unit_test(machine),
        cmocka_unit_test(ids_differ_and_are_version_4),
        cmocka_unit_test(environment),
        cmocka_unit_test(dying_is_a_kill),
        cmocka_unit_test(threads),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(rows_are_whole_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
