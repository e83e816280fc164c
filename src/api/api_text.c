/* api_text.c — what a chat template writes and what a tokenizer reads, row by row, without weights.
 *
 * Both verbs hand every line to the caller as soon as it is made: memory is a batch of rows and the
 * longest of them, whatever the size of the file.
 */
#include "api/handle.h"

#include <string.h>

#include "core/file.h"
#include "data/rows.h"

enum { TEMPLATE_MAX_BYTES = 4 << 20, LINE_MAX_BYTES = 64 << 20, READ_BYTES = 64 << 10 };

typedef struct Sink {
    bp_text_fn *fn;
    void *context;
} Sink;

/* ---- data render ---------------------------------------------------- */

typedef struct RowTexts {
    const Template *chat_template;
    TemplateOptions options;
    Json *extra; /* pad_token, the row's tools */
    Arena scratch;
    Buf text;
} RowTexts;

static bool is_model(const char *path)
{
    return path_is_folder(path) || str_ends(str_of(path), ".gguf") || !path_exists(path);
}

/* The template of the option: a file of its own, or the one that a model has. */
static bool open_render_template(bp_trainer *t)
{
    const char *source = settings_text(&t->settings, OPTION_TEMPLATE);
    if (*source == '\0') {
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "no template was given");
        return err_hint(&t->err, "Pass a Jinja file or a model with --template");
    }
    if (is_model(source)) {
        if (!handle_texts(t, source))
            return false;
        return t->chat_template != NULL ||
               err_set(&t->err, ERR_DEP_CHAT_TEMPLATE_INVALID, "'%s' has no chat template",
                       source);
    }
    Str text = {0};
    t->texts_source = NULL; /* what a model gave is replaced */
    if (!file_read(source, TEMPLATE_MAX_BYTES, &t->arena, &text, ERR_INPUT_VALIDATION_FAILED,
                   &t->err))
        return false;
    tokenizer_close(t->tokenizer);
    t->tokenizer = NULL;
    t->chat_template = template_parse(text, source, &t->arena, &t->err);
    return t->chat_template != NULL;
}

/* The text of a special token: the option's, else the tokenizer's, else NULL. */
static const char *special_text(bp_trainer *t, const OptionId *option, int32_t id)
{
    if (option != NULL && settings_given(&t->settings, *option))
        return settings_text(&t->settings, *option);
    if (id == TOKEN_NONE)
        return NULL;
    Str text = tokenizer_text(t->tokenizer, id);
    return arena_strndup(&t->arena, text.data, text.len);
}

static bool open_texts(bp_trainer *t, RowTexts *texts)
{
    *texts = (RowTexts){0};
    if (!open_render_template(t) || !arena_open(&texts->scratch, 0, &t->err))
        return false;
    const Tokenizer *tok = t->tokenizer;
    const OptionId bos = OPTION_BOS, eos = OPTION_EOS;
    const char *pad = special_text(t, NULL, tok == NULL ? TOKEN_NONE : tokenizer_pad(tok));
    texts->chat_template = t->chat_template;
    texts->extra = json_new_object();
    if (pad != NULL)
        json_put(texts->extra, "pad_token", json_new_text(pad));
    texts->options = (TemplateOptions){
        .add_generation_prompt = settings_flag(&t->settings, OPTION_ADD_GENERATION_PROMPT),
        .bos_token = special_text(t, &bos, tok == NULL ? TOKEN_NONE : tokenizer_bos(tok)),
        .eos_token = special_text(t, &eos, tok == NULL ? TOKEN_NONE : tokenizer_eos(tok)),
        .extra = texts->extra,
    };
    return true;
}

static void close_texts(RowTexts *texts)
{
    json_free(texts->extra);
    buf_free(&texts->text);
    arena_close(&texts->scratch);
}

static bool render_value(RowTexts *texts, const Json *value, const char **why, Err *err,
                         RowFault *fault)
{
    Row row = {0};
    bool ok = schema_read(value, &row, fault);
    *why = fault->text;
    buf_clear(&texts->text);
    if (ok && row.messages == NULL) {
        buf_str(&texts->text, row.text);
    } else if (ok) {
        if (row.tools != NULL)
            json_put(texts->extra, "tools", json_clone(row.tools));
        else
            json_del(texts->extra, "tools");
        ok = template_render(texts->chat_template, row.messages, &texts->options, &texts->scratch,
                             &texts->text, err);
        *why = err->message;
    }
    row_free(&row);
    return ok;
}

static void hand_row(RowTexts *texts, const RowReader *reader, const RawRow *raw, Sink sink)
{
    Err err = {0};
    RowFault fault = {0};
    const char *why = fault.text;
    Json *value = row_parse(reader, raw, &fault);
    const bool ok = value != NULL && render_value(texts, value, &why, &err, &fault);
    bp_text_line line = {.line = raw->line, .error = ok ? NULL : why};
    if (ok) {
        line.text = texts->text.len > 0 ? texts->text.data : "";
        line.bytes = texts->text.len;
    }
    sink.fn(sink.context, &line);
    json_free(value);
}

bool bp_data_render(bp_trainer *t, const char *data, bp_text_fn *fn, void *context)
{
    if (!handle_ok(t))
        return false;
    RowTexts texts = {0};
    RowReader *reader = NULL;
    bool ok = data != NULL && fn != NULL;
    if (!ok)
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "no data file or no function was given");
    ok = ok && (reader = row_reader_open(data, &t->err)) != NULL && open_texts(t, &texts);
    for (int32_t count = 1; ok && count > 0;) {
        const RawRow *rows = NULL;
        ok = row_reader_batch(reader, &rows, &count, &t->err);
        for (int32_t i = 0; ok && i < count; i++)
            hand_row(&texts, reader, &rows[i], (Sink){fn, context});
    }
    row_reader_close(reader);
    close_texts(&texts);
    return ok || handle_fail(t);
}

/* ---- tokenize ---------------------------------------------------- */

typedef struct LineIds {
    const Tokenizer *tokenizer;
    Sink sink;
    Buf line;
    TokenList ids;
    int64_t number; /* of the last line */
} LineIds;

static void hand_line(LineIds *lines)
{
    lines->ids.len = 0;
    lines->number++;
    tokenizer_encode(lines->tokenizer, buf_view(&lines->line), SPECIAL_PARSED, &lines->ids, NULL);
    bp_text_line line = {.line = lines->number,
                         .text = lines->line.len > 0 ? lines->line.data : "",
                         .bytes = lines->line.len,
                         .ids = lines->ids.ids,
                         .n_ids = lines->ids.len};
    lines->sink.fn(lines->sink.context, &line);
    buf_clear(&lines->line);
}

/* Splits a piece at its line ends; what is behind the last waits for more. */
static bool take_piece(LineIds *lines, Str piece, Err *err)
{
    for (size_t at = 0; at < piece.len;) {
        const char *end = memchr(piece.data + at, '\n', piece.len - at);
        const size_t to = end == NULL ? piece.len : (size_t)(end - piece.data);
        buf_str(&lines->line, str_sub(piece, at, to));
        if (lines->line.len > LINE_MAX_BYTES)
            return err_set(err, ERR_INPUT_VALIDATION_FAILED, "line %lld is longer than %d MiB",
                           (long long)lines->number + 1, LINE_MAX_BYTES >> 20);
        if (end != NULL)
            hand_line(lines);
        at = to + (end != NULL);
    }
    return true;
}

static bool take_lines(LineIds *lines, FileReader *reader, Err *err)
{
    char piece[READ_BYTES];
    for (size_t got = 1; got > 0;) {
        if (!file_reader_read(reader, piece, sizeof piece, &got, err) ||
            !take_piece(lines, (Str){piece, got}, err))
            return false;
    }
    if (lines->line.len > 0)
        hand_line(lines);
    return true;
}

bool bp_tokenize(bp_trainer *t, const char *source, const char *text_file, bp_text_fn *fn,
                 void *context)
{
    if (!handle_ok(t))
        return false;
    Tokenizer *own = NULL;
    FileReader *reader = NULL;
    LineIds lines = {.sink = {fn, context}};
    bool ok = source != NULL && text_file != NULL && fn != NULL;
    if (!ok)
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "no tokenizer, file or function was given");
    if (ok && str_ends(str_of(source), ".json"))
        ok = (own = tokenizer_from_file(source, &t->arena, &t->err)) != NULL;
    else
        ok = ok && handle_texts(t, source);
    ok = ok && (reader = file_reader_open(text_file, ERR_INPUT_VALIDATION_FAILED, &t->err)) != NULL;
    lines.tokenizer = own != NULL ? own : t->tokenizer;
    ok = ok && take_lines(&lines, reader, &t->err);
    file_reader_close(reader);
    buf_free(&lines.line);
    token_list_free(&lines.ids);
    tokenizer_close(own);
    return ok || handle_fail(t);
}
