/* test_runs_history.c — run_history.json: a run's life, what other writers put there, and what must
 * never happen to the file: being overwritten when it cannot be read, or losing a foreign member.
 */
#include "test_support.h"

#include "runs/history.h"

#include "core/os.h"

static const char *const first_id = "0123456789abcdef0123456789abcdef";
static const char *const second_id = "0123ffffffffffffffffffffffffffff";

static char *history_path(const char *folder)
{
    Buf path = {0};
    buf_printf(&path, "%s/run_history.json", folder);
    return path.data;
}

static void start(const char *folder, const char *run_id)
{
    Err err = {0};
    Json *parameters = json_new_object();
    json_put(parameters, "learning_rate", json_new_double(0.0002));
    const HistoryStart what = {.run_id = run_id, .model = "m.gguf", .dataset = "d.jsonl",
                               .dataset_sha256 = "00112233445566778899aabbccddeeff",
                               .hyperparameters = parameters};
    if (!history_started(folder, &what, &err))
        fail_msg("%s", err.message);
}

static void end(const char *folder, const char *run_id, RunStatus status, const float *losses,
                int64_t n)
{
    Err err = {0};
    const HistoryEnd what = {.run_id = run_id, .status = status, .steps = n, .final_loss = 0.5,
                             .duration_seconds = 2, .losses = losses, .n_losses = n,
                             .checkpoint_path = n > 0 ? "out/checkpoint-3" : NULL};
    if (!history_ended(folder, &what, &err))
        fail_msg("%s", err.message);
}

static Json *find(const char *folder, const char *id)
{
    Err err = {0};
    Json *run = history_find(folder, id, &err);
    if (run == NULL)
        fail_msg("%s", err.message);
    return run;
}

static const char *text_of(const Json *run, const char *key)
{
    return json_text(json_get(run, key));
}

static void a_run_lives(void **state)
{
    const char *folder = *state;
    start(folder, first_id);
    Json *run = find(folder, first_id);
    assert_string_equal(text_of(run, "status"), "running");
    assert_string_equal(text_of(run, "session_kind"), "single_run");
    assert_string_equal(text_of(run, "schema_version"), "1.0");
    assert_string_equal(text_of(run, "dataset_hash"), "0011223344556677");
    assert_string_equal(text_of(run, "model_name"), "m.gguf");
    assert_true(json_is_null(json_get(run, "completed_at")));
    assert_true(json_is_null(json_get(run, "steps")));
    assert_int_equal(strlen(text_of(run, "started_at")), strlen("2026-05-25T10:37:00.123456"));
    json_free(run);

    const float losses[] = {3, 2, 1};
    end(folder, first_id, RUN_COMPLETED, losses, 3);
    run = find(folder, "01");
    assert_string_equal(text_of(run, "status"), "completed");
    assert_true(json_is_null(json_get(run, "failure_reason")));
    assert_int_equal(json_int(json_get(run, "steps"), -1), 3);
    assert_int_equal(json_len(json_get(run, "loss_history")), 3);
    assert_string_equal(text_of(run, "checkpoint_path"), "out/checkpoint-3");
    assert_true(json_is_string(json_get(run, "completed_at")));
    json_free(run);
}

static void interrupted_and_resumed(void **state)
{
    const char *folder = *state;
    const float losses[] = {3, 2, 1};
    start(folder, first_id);
    end(folder, first_id, RUN_INTERRUPTED, losses, 3);
    Json *run = find(folder, first_id);
    assert_string_equal(text_of(run, "status"), "failed");
    assert_string_equal(text_of(run, "failure_reason"), "interrupted");
    char *started = strdup(text_of(run, "started_at"));
    json_free(run);

    start(folder, first_id); /* a resume sets the same entry to running */
    run = find(folder, first_id);
    assert_string_equal(text_of(run, "status"), "running");
    assert_string_equal(text_of(run, "started_at"), started);
    assert_true(json_is_null(json_get(run, "failure_reason")));
    json_free(run);

    end(folder, first_id, RUN_FAILED, NULL, 0); /* failed before a step: progress stays */
    run = find(folder, first_id);
    assert_int_equal(json_int(json_get(run, "steps"), -1), 3);
    assert_string_equal(text_of(run, "checkpoint_path"), "out/checkpoint-3");
    assert_true(json_double(json_get(run, "duration_seconds"), 0) == 4);
    json_free(run);
    Err err = {0};
    Json *all = history_list(folder, NULL, 0, &err);
    assert_int_equal(json_len(all), 1);
    json_free(all);
    heap_free(started);
}

static void losses_keep_both_ends(void **state)
{
    const char *folder = *state;
    enum { N = 1234 };
    static float losses[N];
    for (int i = 0; i < N; i++)
        losses[i] = (float)i;
    const int64_t counts[] = {1, 2, 99, 100, 101, N};
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        end(folder, first_id, RUN_COMPLETED, losses, counts[c]);
        Json *run = find(folder, first_id);
        const Json *points = json_get(run, "loss_history");
        const size_t n = json_len(points);
        assert_int_equal(n, min_i64(counts[c], 100));
        assert_true(json_double(json_at(points, 0), -1) == 0);
        assert_true(json_double(json_at(points, n - 1), -1) == (double)(counts[c] - 1));
        for (size_t i = 1; i < n; i++)
            assert_true(json_double(json_at(points, i), -1) >
                        json_double(json_at(points, i - 1), -1));
        json_free(run);
    }
}

static void foreign_content_is_kept(void **state)
{
    const char *folder = *state;
    char *path = history_path(folder);
    write_text(path,
               "[ 17, {\"run_id\": \"aaaa\", \"status\": \"completed\", \"mood\": {\"x\": [1]},"
               " \"schema_version\": \"9.9\", \"started_at\": \"1999-01-01T00:00:00\"},"
               " {\"run_id\": \"0123456789abcdef0123456789abcdef\", \"note\": \"mine\"} ]");
    start(folder, first_id);
    start(folder, second_id);
    Err err = {0};
    Json *all = json_load(path, ERR_STATE_HISTORY_INVALID, &err);
    assert_int_equal(json_len(all), 4);
    assert_int_equal(json_int(json_at(all, 0), 0), 17);
    assert_int_equal(json_len(json_get(json_get(json_at(all, 1), "mood"), "x")), 1);
    assert_string_equal(text_of(json_at(all, 2), "note"), "mine");
    assert_string_equal(text_of(json_at(all, 2), "status"), "running");
    json_free(all);
    all = history_list(folder, NULL, 0, &err); /* the number is no run */
    assert_int_equal(json_len(all), 3);
    assert_string_equal(text_of(json_at(all, 0), "run_id"), second_id);
    json_free(all);
    heap_free(path);
}

static void unreadable_is_never_overwritten(void **state)
{
    const char *folder = *state;
    const char *const bad[] = {"", "{\"runs\": []}", "[{\"run_id\": \"tor", "null", "\xff\xfe["};
    char *path = history_path(folder);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        write_text(path, bad[i]);
        Err err = {0};
        const HistoryStart what = {.run_id = first_id, .hyperparameters = json_new_object()};
        assert_false(history_started(folder, &what, &err));
        assert_int_equal(err.code, ERR_STATE_HISTORY_INVALID);
        assert_non_null(strstr(err.message, "run_history.json"));
        err = (Err){0};
        assert_null(history_list(folder, NULL, 0, &err));
        assert_int_equal(err.code, ERR_STATE_HISTORY_INVALID);
        assert_file_is(path, bad[i]);
    }
    heap_free(path);
}

static void lists_and_finds(void **state)
{
    const char *folder = *state;
    Err err = {0};
    Json *none = history_list(folder, NULL, 0, &err);
    assert_int_equal(json_len(none), 0);
    json_free(none);
    assert_null(history_find(folder, first_id, &err));
    assert_int_equal(err.code, ERR_INPUT_RESUME_NOT_FOUND);

    start(folder, first_id);
    start(folder, second_id);
    end(folder, first_id, RUN_FAILED, NULL, 0);
    err = (Err){0};
    assert_null(history_find(folder, "0123", &err)); /* a prefix of both */
    assert_int_equal(err.code, ERR_INPUT_RESUME_NOT_FOUND);
    assert_non_null(strstr(err.message, first_id));
    assert_non_null(strstr(err.message, second_id));
    err = (Err){0};
    assert_null(history_find(folder, "", &err));
    err = (Err){0};
    assert_null(history_list(folder, "sleeping", 0, &err));
    assert_int_equal(err.code, ERR_INPUT_VALIDATION_FAILED);
    err = (Err){0};
    Json *running = history_list(folder, "running", 0, &err);
    assert_int_equal(json_len(running), 1);
    assert_string_equal(text_of(json_at(running, 0), "run_id"), second_id);
    json_free(running);
    Json *newest = history_list(folder, NULL, 1, &err);
    assert_int_equal(json_len(newest), 1);
    assert_string_equal(text_of(json_at(newest, 0), "run_id"), second_id);
    json_free(newest);
}

enum { WRITERS = 4, RUNS_EACH = 5 };

/* Processes that add runs at the same time lose none. */
static void writers_wait_for_each_other(void **state)
{
    const char *folder = *state;
    pid_t children[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        children[w] = fork();
        if (children[w] != 0)
            continue;
        for (int i = 0; i < RUNS_EACH; i++) {
            char id[33];
            os_uuid_hex(id);
            Err err = {0};
            const HistoryStart what = {.run_id = id};
            if (!history_started(folder, &what, &err))
                _exit(1);
        }
        _exit(0);
    }
    for (int w = 0; w < WRITERS; w++) {
        int status = -1;
        waitpid(children[w], &status, 0);
        assert_int_equal(status, 0);
    }
    Err err = {0};
    Json *all = history_list(folder, NULL, 0, &err);
    assert_int_equal(json_len(all), WRITERS * RUNS_EACH);
    json_free(all);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_run_lives),
        TEST(interrupted_and_resumed),
        TEST(losses_keep_both_ends),
        TEST(foreign_content_is_kept),
        TEST(unreadable_is_never_overwritten),
        TEST(lists_and_finds),
        TEST(writers_wait_for_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
