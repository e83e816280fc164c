/* test_train_schedule.c — every learning rate of every schedule against transformers' get_scheduler
 * (tests/golden/train), and the names of schedules.
 */
#include "test_support.h"

#include "train/train.h"

#include <math.h>

static void rates_equal_the_reference(void **state)
{
    (void)state;
    Err err = {0};
    Json *cases = json_load(TEST_DATA "/golden/train/schedule.json", ERR_RUNTIME_IO_FAILED, &err);
    assert_non_null(cases);
    int seen[SCHEDULE_COUNT] = {0};
    for (size_t c = 0; c < json_len(cases); c++) {
        const Json *one = json_at(cases, c), *rates = json_get(one, "rates");
        Schedule schedule;
        assert_true(schedule_parse(json_text(json_get(one, "schedule")), &schedule));
        seen[schedule]++;
        const double lr = json_double(json_get(one, "lr"), -1);
        const int64_t warmup = json_int(json_get(one, "warmup"), -1);
        const int64_t steps = json_int(json_get(one, "steps"), -1);
        assert_int_equal(json_len(rates), steps);
        for (int64_t step = 1; step <= steps; step++) {
            const double want = json_double(json_at(rates, (size_t)step - 1), -1);
            const double ours = schedule_lr(schedule, lr, step, warmup, steps);
            if (!(fabs(ours - want) <= 1e-15 * lr))
                fail_msg("%s, step %lld: %.17g, reference %.17g", schedule_name(schedule),
                         (long long)step, ours, want);
        }
    }
    for (int i = 0; i < SCHEDULE_COUNT; i++)
        assert_int_equal(seen[i], 8);
    json_free(cases);
}

static void warm_up_starts_at_zero(void **state)
{
    (void)state;
    assert_true(schedule_lr(SCHEDULE_COSINE, 1, 1, 10, 100) == 0);
    assert_true(schedule_lr(SCHEDULE_COSINE, 1, 1, 0, 100) == 1);
    assert_true(schedule_lr(SCHEDULE_LINEAR, 1, 11, 10, 100) == 1);
}

static void names_parse(void **state)
{
    (void)state;
    Schedule schedule = SCHEDULE_LINEAR;
    assert_false(schedule_parse("polynomial", &schedule));
    assert_false(schedule_parse("", &schedule));
    assert_int_equal(schedule, SCHEDULE_LINEAR);
    for (int i = 0; i < SCHEDULE_COUNT; i++) {
        assert_true(schedule_parse(schedule_name((Schedule)i), &schedule));
        assert_int_equal(schedule, i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_equal_the_reference),
        cmocka_unit_test(warm_up_starts_at_zero),
        cmocka_unit_test(names_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
