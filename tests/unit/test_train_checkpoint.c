/* test_train_checkpoint.c — which checkpoints are taken and which are refused: torn, damaged,
 * foreign, of another run, made under other numbers. Every refusal names what is wrong.
 */
#include "train_support.h"

#include "format/safetensors.h"

static TrainOptions saved(Fixture *f)
{
    TrainOptions options = run_options(sub_folder(f, "out"), 4);
    options.save_steps = 2;
    return options;
}

/* A run of 4 steps with checkpoints at 2 and 4; the folder of the first. */
static const char *first_checkpoint(Fixture *f)
{
    train(f, saved(f));
    return checkpoint_path(sub_folder(f, "out"), 2, &f->arena);
}

static void assert_refused(Fixture *f, TrainOptions options, const char *folder, const char *word)
{
    Outcome run = {0};
    Err err = {0};
    options.resume_from = folder;
    options.output = sub_folder(f, "again");
    assert_false(try_train(f, options, &run, &err));
    if (err.code != ERR_STATE_CHECKPOINT_INVALID || strstr(err.message, word) == NULL ||
        strstr(err.message, path_base(folder)) == NULL)
        fail_msg("wanted '%s', got %s: %s", word, err_info(err.code)->name, err.message);
}

static void other_numbers_are_refused(void **state)
{
    Fixture *f = *state;
    const char *folder = first_checkpoint(f);
    const TrainOptions base = saved(f);
    TrainOptions other[10];
    static const char *const words[] = {
        "lr 0.005, this run has 0.006", "seed 3, this run has 4", "batch_size 2, this run has 3",
        "accumulation 1, this run has 2", "steps 4, this run has 5", "packing false",
        "schedule \"cosine\", this run has \"linear\"", "warmup_steps 2", "weight_decay 0.01",
        "max_grad_norm 1, this run has 0.5"};
    for (size_t i = 0; i < COUNT_OF(other); i++)
        other[i] = base;
    other[0].lr = 6e-3;
    other[1].seed = 4;
    other[2].batch_size = 3;
    other[3].accumulation = 2;
    other[4].steps = 5;
    other[5].packing = true;
    other[6].schedule = SCHEDULE_LINEAR;
    other[7].warmup_steps = 1;
    other[8].weight_decay = 0;
    other[9].max_grad_norm = 0.5;
    for (size_t i = 0; i < COUNT_OF(other); i++)
        assert_refused(f, other[i], folder, words[i]);

    TrainOptions same = base; /* what changes no bit may change */
    same.segments = SEGMENT_RECOMPUTE;
    same.save_steps = 1;
    same.resume_from = folder;
    assert_int_equal(train(f, same).result.status, RUN_COMPLETED);
}

static void other_data_is_refused(void **state)
{
    Fixture *f = *state;
    const char *folder = first_checkpoint(f);
    const Dataset first = f->dataset;
    const size_t n = (size_t)first.n_tokens;
    int32_t *tokens = arena_array(&f->arena, int32_t, n);
    uint8_t *loss = arena_array(&f->arena, uint8_t, n);
    memcpy(tokens, first.tokens, n * sizeof *tokens);
    memcpy(loss, first.loss, n);
    tokens[3] ^= 1; /* same file, other tokens */
    f->dataset.tokens = tokens;
    assert_refused(f, saved(f), folder, "dataset_tokens");
    f->dataset.tokens = first.tokens;
    loss[2] ^= 1;
    f->dataset.loss = loss;
    assert_refused(f, saved(f), folder, "dataset_tokens");
    f->dataset.loss = first.loss;
    f->dataset.sha256[0] = 'f';
    assert_refused(f, saved(f), folder, "dataset_sha256");
}

static void other_shapes_are_refused(void **state)
{
    Fixture *f = *state;
    const char *folder = first_checkpoint(f);
    Err err = {0};
    Adapter *mine = f->adapter;
    const AdapterConfig configs[] = {{3, 8, ADAPTER_ALL_LINEAR}, {4, 9, ADAPTER_ALL_LINEAR},
                                     {4, 8, 1u << ROLE_Q | 1u << ROLE_V}};
    static const char *const words[] = {"adapter r 4, this run has 3", "adapter alpha 8",
                                        "adapter targets"};
    for (size_t i = 0; i < COUNT_OF(configs); i++) {
        f->adapter = adapter_make(&f->model, &configs[i], &f->arena, &err);
        assert_non_null(f->adapter);
        assert_refused(f, saved(f), folder, words[i]);
    }
    f->adapter = mine;
    f->model.config.name[0] = 'T';
    assert_refused(f, saved(f), folder, "base model name");
}

/* Every truncation and every flipped byte of the state file is refused, never a crash. */
static void damage_is_refused(void **state)
{
    Fixture *f = *state;
    const char *folder = first_checkpoint(f);
    const char *path = path_join(&f->arena, folder, "state.safetensors");
    Err err = {0};
    FileMap map = {0};
    assert_true(file_map(&map, path, ERR_RUNTIME_IO_FAILED, &err));
    const size_t size = map.size;
    uint8_t *good = arena_push(&f->arena, size), *bad = arena_push(&f->arena, size);
    memcpy(good, map.data, size);
    file_unmap(&map);
    const CheckpointOwner owner = {&f->model, f->adapter, &f->backend, "tiny"};
    const int64_t n = f->adapter->n_params;
    const TrainVectors vectors = {arena_array(&f->arena, float, n),
                                  arena_array(&f->arena, float, n),
                                  arena_array(&f->arena, float, n)};
    uint64_t header = 0;
    memcpy(&header, good, sizeof header);
    for (int i = 0; i < 120; i++) {
        const size_t mark = arena_mark(&f->arena);
        /* 60 flips in the header, 20 in the data, 40 truncations. */
        size_t at = i < 60 ? (size_t)i * (header + 8) / 60 : (size_t)i * size / 120;
        memcpy(bad, good, size);
        bad[at] ^= 0x20;
        const Str bytes = {(const char *)bad, i < 80 ? size : at};
        assert_true(file_write_atomic(path, bytes, ERR_RUNTIME_IO_FAILED, &err));
        CheckpointState loaded = {0};
        Err why = {0};
        if (checkpoint_load(folder, &owner, &loaded, &vectors, &f->arena, &why))
            fail_msg("damage %d at byte %zu of %zu was not seen", i, at, size);
        assert_int_equal(why.code, ERR_STATE_CHECKPOINT_INVALID);
        arena_rewind(&f->arena, mark);
    }
    const Str bytes = {(const char *)good, size};
    assert_true(file_write_atomic(path, bytes, ERR_RUNTIME_IO_FAILED, &err));
    load_vectors(f, folder);
}

static void foreign_folders_are_refused(void **state)
{
    Fixture *f = *state;
    first_checkpoint(f);
    const char *foreign = sub_folder(f, "checkpoint-9");
    assert_refused(f, saved(f), foreign, "does not exist");
    Err err = {0};
    assert_true(folder_make(foreign, ERR_RUNTIME_IO_FAILED, &err));
    assert_refused(f, saved(f), foreign, "has no state.safetensors");
    const float value = 1;
    const StEntry entry = {"values", DTYPE_F32, 1, {1}, &value};
    const char *path = path_join(&f->arena, foreign, "state.safetensors");
    assert_true(st_write(path, &entry, 1, NULL, NULL, 0, ERR_RUNTIME_IO_FAILED, &err));
    assert_refused(f, saved(f), foreign, "was not written by this program");
    static const char *const keys[] = {"backpropagate.checkpoint", "backpropagate.checksum"};
    static const char *const newer[] = {"{\"schema\": 2}", "0"};
    assert_true(st_write(path, &entry, 1, keys, newer, 2, ERR_RUNTIME_IO_FAILED, &err));
    assert_refused(f, saved(f), foreign, "schema 2");
    static const char *const empty[] = {"{\"schema\": 1}", "0"};
    assert_true(st_write(path, &entry, 1, keys, empty, 2, ERR_RUNTIME_IO_FAILED, &err));
    assert_refused(f, saved(f), foreign, "incomplete");
}

static void latest_skips_what_cannot_be_used(void **state)
{
    Fixture *f = *state;
    Err err = {0};
    const char *first = first_checkpoint(f), *output = sub_folder(f, "out");
    const char *run_id = saved(f).run_id;
    const char *last = checkpoint_path(output, 4, &f->arena);
    assert_string_equal(checkpoint_latest(output, run_id, &f->arena), last);
    assert_string_equal(checkpoint_latest(output, NULL, &f->arena), last);
    assert_null(checkpoint_latest(output, "another run", &f->arena));
    assert_null(checkpoint_latest(sub_folder(f, "nowhere"), run_id, &f->arena));
    static const char *const noise[] = {"checkpoint-", "checkpoint-x", "checkpoint-7x",
                                        "checkpoint-99999999999999999999", "checkpoint-8.partial",
                                        "checkpoint-10"};
    for (size_t i = 0; i < COUNT_OF(noise); i++)
        assert_true(folder_make(path_join(&f->arena, output, noise[i]), ERR_RUNTIME_IO_FAILED,
                                &err));
    assert_string_equal(checkpoint_latest(output, run_id, &f->arena), last);
    write_text(path_join(&f->arena, last, "state.safetensors"), "torn");
    assert_string_equal(checkpoint_latest(output, run_id, &f->arena), first);
}

/* OUT may hold anything else: a run touches its own files only. */
static void nothing_else_in_the_output_changes(void **state)
{
    Fixture *f = *state;
    Err err = {0};
    const char *output = sub_folder(f, "out");
    assert_true(folder_make(output, ERR_RUNTIME_IO_FAILED, &err));
    const char *notes = path_join(&f->arena, output, "notes.txt");
    write_text(notes, "mine");
    train(f, saved(f));
    assert_file_is(notes, "mine");
    const char **names = NULL;
    size_t count = 0;
    assert_true(folder_list(output, &f->arena, &names, &count));
    assert_int_equal(count, 5); /* checkpoint-2, checkpoint-4, adapter, lock, the notes */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(other_numbers_are_refused),
        FIXTURE_TEST(other_data_is_refused),
        FIXTURE_TEST(other_shapes_are_refused),
        FIXTURE_TEST(damage_is_refused),
        FIXTURE_TEST(foreign_folders_are_refused),
        FIXTURE_TEST(latest_skips_what_cannot_be_used),
        FIXTURE_TEST(nothing_else_in_the_output_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
