/* api_generate.c — bp_generate and bp_evaluate: talking to the model, and its loss on a text.
 * The prompt is rendered with the chat template unless the option "raw" says otherwise.
 */
#include "api/handle.h"

#include <string.h>

#include "core/file.h"
#include "model/generate.h"

enum { EVALUATE_MAX_BYTES = 64 << 20 };

static bool render_prompt(bp_trainer *t, const char *prompt, Arena *arena, Buf *text)
{
    if (settings_flag(&t->settings, OPTION_RAW) || t->chat_template == NULL) {
        buf_text(text, prompt);
        return true;
    }
    Json *messages = json_new_array();
    const char *system = settings_text(&t->settings, OPTION_SYSTEM);
    const char *const turns[2][2] = {{"system", system}, {"user", prompt}};
    for (int i = *system == '\0' ? 1 : 0; i < 2; i++) {
        Json *turn = json_new_object();
        json_put(turn, "role", json_new_text(turns[i][0]));
        json_put(turn, "content", json_new_text(turns[i][1]));
        json_add(messages, turn);
    }
    TemplateOptions options = {.add_generation_prompt = true};
    int32_t bos = tokenizer_bos(t->tokenizer), eos = tokenizer_eos(t->tokenizer);
    Str bos_text = bos == TOKEN_NONE ? STR("") : tokenizer_text(t->tokenizer, bos);
    Str eos_text = eos == TOKEN_NONE ? STR("") : tokenizer_text(t->tokenizer, eos);
    options.bos_token = arena_strndup(arena, bos_text.data, bos_text.len);
    options.eos_token = arena_strndup(arena, eos_text.data, eos_text.len);
    bool ok = template_render(t->chat_template, messages, &options, arena, text, &t->err);
    json_free(messages);
    return ok;
}

/* A rendered template carries its own special tokens and, where the model wants one, its BOS; plain
 * text gets the BOS that the tokenizer adds. */
static void tokenize_prompt(bp_trainer *t, Str text, TokenList *ids)
{
    bool raw = settings_flag(&t->settings, OPTION_RAW) || t->chat_template == NULL;
    assert(ids->len == 0);
    int32_t bos = tokenizer_bos(t->tokenizer);
    tokenizer_encode(t->tokenizer, text, raw ? SPECIAL_AS_TEXT : SPECIAL_PARSED, ids, NULL);
    bool has_bos = ids->len > 0 && ids->ids[0] == bos;
    if (!tokenizer_adds_bos(t->tokenizer) || bos == TOKEN_NONE || has_bos)
        return;
    token_list_push(ids, 0);
    memmove(ids->ids + 1, ids->ids, (ids->len - 1) * sizeof ids->ids[0]);
    ids->ids[0] = bos;
}

static bool on_piece(void *context, Str piece)
{
    bp_trainer *t = context;
    size_t from = t->answer.len;
    assert(t->answer.data != NULL);
    buf_str(&t->answer, piece);
    if (t->on_event != NULL)
        t->on_event(t->on_event_context,
                    &(bp_event){.name = "text", .text = t->answer.data + from});
    return t->stop == 0;
}

static const char *const stop_names[] = {"end_of_turn", "length", "cancelled"};

static void publish(bp_trainer *t, const char *prompt, const GenerateResult *result)
{
    Json *json = json_new_object();
    json_put(json, "prompt", json_new_text(prompt));
    json_put(json, "text", json_new_text(t->answer.data));
    json_put(json, "stop", json_new_text(stop_names[result->stop]));
    json_put(json, "prompt_tokens", json_new_int(result->prompt_tokens));
    json_put(json, "new_tokens", json_new_int((int64_t)result->ids.len));
    json_put(json, "prompt_seconds", json_new_double(result->prompt_seconds));
    json_put(json, "token_seconds", json_new_double(result->token_seconds));
    Json *ids = json_new_array();
    for (size_t i = 0; i < result->ids.len; i++)
        json_add(ids, json_new_int(result->ids.ids[i]));
    json_put(json, "ids", ids);
    json_free(t->result);
    t->result = json;
}

static bool answer(bp_trainer *t, Arena *arena, const char *prompt, TokenList *ids,
                   GenerateResult *result)
{
    const Settings *s = &t->settings;
    Adapter *adapter = NULL;
    float *values = NULL;
    Buf text = {0};
    Backend backend = {0};
    if (!handle_load(t) || !handle_adapter(t, arena, &adapter, &values) ||
        !render_prompt(t, prompt, arena, &text)) {
        buf_free(&text);
        return false;
    }
    tokenize_prompt(t, buf_view(&text), ids);
    buf_free(&text);
    if (ids->len == 0)
        return err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "the prompt is empty");
    if (!handle_backend(t, DTYPE_F32, &backend))
        return false;
    GenerateOptions options = {
        .max_new_tokens = (int32_t)settings_int(s, OPTION_MAX_NEW_TOKENS, 128),
        .temperature = (float)settings_number(s, OPTION_TEMPERATURE, 0),
        .top_p = (float)settings_number(s, OPTION_TOP_P, 1),
        .seed = (uint64_t)settings_int(s, OPTION_SAMPLE_SEED, 0),
    };
    t->model.adapter = adapter;
    bool ok = generate(&t->model, &backend, t->tokenizer, ids->ids, (int64_t)ids->len, values,
                       &options, on_piece, t, result, &t->err);
    t->model.adapter = NULL;
    backend.close(&backend);
    return ok;
}

const char *bp_generate(bp_trainer *t, const char *prompt)
{
    if (!handle_ok(t))
        return NULL;
    if (prompt == NULL) {
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "no prompt was given");
        handle_fail(t);
        return NULL;
    }
    Arena arena = {0};
    TokenList ids = {0};
    GenerateResult result = {0};
    buf_clear(&t->answer);
    buf_text(&t->answer, "");
    bool ok = arena_open(&arena, 0, &t->err) && answer(t, &arena, prompt, &ids, &result);
    if (ok)
        publish(t, prompt, &result);
    token_list_free(&ids);
    token_list_free(&result.ids);
    arena_close(&arena);
    if (!ok)
        handle_fail(t);
    return ok ? t->answer.data : NULL;
}

static bool evaluate(bp_trainer *t, Arena *arena, const char *path, TokenList *ids, double *loss)
{
    Adapter *adapter = NULL;
    float *values = NULL;
    Str text;
    Backend backend = {0};
    if (!file_read(path, EVALUATE_MAX_BYTES, arena, &text, ERR_INPUT_DATASET_NOT_FOUND, &t->err) ||
        !handle_load(t) || !handle_adapter(t, arena, &adapter, &values))
        return false;
    if (tokenizer_adds_bos(t->tokenizer))
        token_list_push(ids, tokenizer_bos(t->tokenizer));
    tokenizer_encode(t->tokenizer, text, SPECIAL_AS_TEXT, ids, NULL);
    if (ids->len < 2)
        return err_set(&t->err, ERR_INPUT_DATASET_INVALID, "'%s' has fewer than two tokens", path);
    if (!handle_backend(t, DTYPE_F32, &backend))
        return false;
    t->model.adapter = adapter;
    bool ok = evaluate_nll(&t->model, &backend, ids->ids, (int64_t)ids->len, values, loss, &t->err);
    t->model.adapter = NULL;
    backend.close(&backend);
    return ok;
}

bool bp_evaluate(bp_trainer *t, const char *text_file, double *loss)
{
    if (!handle_ok(t))
        return false;
    if (text_file == NULL || loss == NULL) {
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "no text file or no place for the loss");
        return handle_fail(t);
    }
    Arena arena = {0};
    TokenList ids = {0};
    bool ok = arena_open(&arena, 0, &t->err) && evaluate(t, &arena, text_file, &ids, loss);
    token_list_free(&ids);
    arena_close(&arena);
    return ok ? true : handle_fail(t);
}
