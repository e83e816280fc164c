/* backprop.h — fine-tune a language model and ship it.
 *
 *     #include <backprop.h>
 *
 *     int main(void)
 *     {
 *         bp_trainer *t = bp_open("SmolLM2-135M-Instruct.gguf", NULL);
 *         bp_train(t, "my_data.jsonl", &(bp_train_options){.steps = 100});
 *         bp_export(t, "gguf", &(bp_export_options){.quant = "q8_0"});
 *         return bp_close(t);
 *     }
 *
 * Three unchecked lines are safe: bp_open always returns a handle; the first error sticks to it and
 * every later call does nothing; bp_close returns that error's exit code (0 = none). Without an
 * event callback the error is also printed to stderr, once, as "[CODE] message" and a hint.
 *
 * Whatever a function returns belongs to the handle it came from and lives until bp_close, except
 * text from bp_*_json, which lives until the next bp_*_json call on that handle. A handle is
 * used by
 * one thread at a time; only bp_stop may be called from another thread or a signal handler.
 */
#ifndef BACKPROP_H
#define BACKPROP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define BP_API __declspec(dllexport)
#elif defined(__GNUC__)
#define BP_API __attribute__((visibility("default")))
#else
#define BP_API
#endif

/* ---- 1. Simple: open, train, export, talk, close ------------------------------------------- */

typedef struct bp_trainer bp_trainer;

/* Zero or NULL means the default in every struct below; everything else goes through bp_set, where
 * "0" is a value. */
typedef struct bp_open_options {
    const char *device; /* "auto" (default), "cpu", "cuda", "cuda:1" */
    const char *output; /* folder of runs, checkpoints and results; default "./output" */
} bp_open_options;

/* model: a GGUF file, a folder with config.json, tokenizer.json and model.safetensors, an adapter
 * folder, or the output folder of a run (then its base and adapter). NULL model: a handle for
 * history and information only. options may be NULL. Never returns NULL. */
BP_API bp_trainer *bp_open(const char *model, const bp_open_options *options);

typedef struct bp_train_options {
    int64_t steps;      /* optimiser steps; default 100 */
    int64_t batch_size; /* sequences at once; default: the largest that fits in memory */
    double lr;          /* learning rate; default 2e-4 */
    int64_t lora_r;     /* rank; default: the preset's */
    const char *resume; /* run id, or its unique beginning; "auto": the newest unfinished one */
} bp_train_options;

/* Trains an adapter on `data`: a file (.jsonl, .json, .csv, .txt, .md, or gzip of one), or several,
 * one a line, each with an optional weight ("a.jsonl\nb.csv.gz:0.5"). Saves OUT/lora, checkpoints
 * OUT/checkpoint-N and OUT/run_history.json. options may be NULL. */
BP_API bool bp_train(bp_trainer *t, const char *data, const bp_train_options *options);

typedef struct bp_export_options {
    const char *quant;  /* gguf: "q4_k_m" (default), "f16", "q8_0", … as --quantization lists */
    const char *output; /* folder; default: beside the adapter, named after the format */
    const char *name;   /* name of the model in the file */
} bp_export_options;

/* format: "gguf" (base and adapter merged), "gguf-adapter", "lora" (PEFT folder). Exports the
 * adapter of the last bp_train, or the one that was opened, or the plain model. */
BP_API bool bp_export(bp_trainer *t, const char *format, const bp_export_options *options);

/* One answer to `prompt`, rendered with the model's chat template. NULL on error. */
BP_API const char *bp_generate(bp_trainer *t, const char *prompt);

/* Ends the handle. Returns the exit code of its first error, 0 if there was none. */
BP_API int bp_close(bp_trainer *t);

typedef struct bp_error {
    const char *code;    /* "INPUT_DATASET_NOT_FOUND": stable */
    const char *message; /* lower-case, one line */
    const char *hint;    /* what to do, may be "" */
    int exit_code;
} bp_error;

/* The first error of the handle, or NULL. */
BP_API const bp_error *bp_last_error(const bp_trainer *t);

BP_API const char *bp_version(void);

/* ---- 2. Options ----------------------------------------------------------------------------- */

/* Sets one option by its name ("lora-alpha", "seed", …), as text. Precedence: bp_set and the
 * structs above, then BACKPROPAGATE_* variables, then .env in the working folder, then the user's
 * configuration file, then defaults. */
BP_API bool bp_set(bp_trainer *t, const char *name, const char *value);
/* What the user's configuration file says for every later handle of this user: "lora-r=16", one a
 * line. Reset empties the file. The JSON lists every setting with its value and where it is from.
 * */
BP_API bool bp_config_set(bp_trainer *t, const char *assignments);
BP_API bool bp_config_reset(bp_trainer *t);
BP_API const char *bp_config_json(bp_trainer *t);
/* The value now in force, as text ("" when it has none). NULL for an unknown name. */
BP_API const char *bp_get(const bp_trainer *t, const char *name);

typedef struct bp_option {
    const char *name;    /* for bp_set; the flag is --<flag> */
    const char *flag;
    char letter;         /* 'm' for -m, 0 = none */
    const char *kind;    /* "flag", "int", "number", "choice", "text", "list" (a line each) */
    const char *values;  /* "cosine|linear|constant", "1..4096", "auto|1..4096", or "" */
    const char *fallback;/* default as text */
    const char *variable;/* BACKPROPAGATE_…, or "" */
    const char *verbs;   /* " train export ": verbs that take it; "*": all */
    const char *meta;    /* placeholder in help */
    const char *help;
} bp_option;
/* All options, in the order of help. */
BP_API const bp_option *bp_options(size_t *count);

/* ---- 3. The rest of what the program can do ------------------------------------------------- */

/* JSON texts with schema_version "1"; NULL on error. */
BP_API const char *bp_info_json(bp_trainer *t);
BP_API const char *bp_runs_json(bp_trainer *t, const char *status, int64_t limit);
BP_API const char *bp_run_json(bp_trainer *t, const char *run_id);
/* The same runs in short: losses final and least, durations, where the checkpoint lies. */
BP_API const char *bp_runs_report_json(bp_trainer *t, const char *status, int64_t limit);
/* Reads again what a run left (run_id NULL: every run): its history, checkpoints, adapter, data.
 * How many things are `bad` is in the text, and no error of the handle. */
BP_API const char *bp_check_json(bp_trainer *t, const char *run_id);
/* What two runs differ in, field by field. */
BP_API const char *bp_diff_runs_json(bp_trainer *t, const char *run_a, const char *run_b);
/* Rows of a data file as the model of the option "model" will see them ("row", "rows",
 * "max-seq-length", "train-on-prompts"): tokens, texts, loss marks. Opens no weights. */
BP_API const char *bp_data_preview_json(bp_trainer *t, const char *data);
/* Several runs one after the other, their adapters merged into one ("runs", "merge-mode", …).
 * data: as for bp_train; several files are tasks, learnt in their order. Saves OUT/lora (merged),
 * OUT/run_NNN, and the loss of every task after every run (OUT/losses-ID.svg and the result). Runs
 * that diverged are left out and give PARTIAL_SUCCESS. */
BP_API bool bp_multi_run(bp_trainer *t, const char *data);
/* Goes on with a stopped or killed run of the output folder, to the same bits as if nothing had
 * happened. run_id NULL: the newest one that is not finished. */
BP_API bool bp_resume(bp_trainer *t, const char *run_id);
/* Trains an earlier run of the output folder once more, with its own options, or those of the
 * option "override" ("seed=7", one a line) instead. The new run has an id of its own. */
BP_API bool bp_replay(bp_trainer *t, const char *run_id);
/* What training takes of cards of several sizes, from the trainer's own plan. model: a preset's
 * name, a GGUF file or a folder whose config.json is enough; NULL: every preset ("vram-gb",
 * "lora-r", "batch-size", "max-seq-length", "mode"). No card is needed. */
BP_API const char *bp_estimate_vram_json(bp_trainer *t, const char *model);
/* Whether the numbers of a run on this machine and model are what they must be: the same bits in a
 * second run, on one thread and with recomputation; the same numbers unpacked, accumulated and
 * merged. checks: name, difference, limit, holds; all_hold ("device", "dtype", "threads"). */
BP_API const char *bp_selftest_json(bp_trainer *t, const char *model);
/* Whether a data file can be trained on, row by row, without a model: is_valid, parse_errors,
 * errors, warnings; or `error` when it cannot be read ("data-format", "max-errors",
 * "max-samples"). Never NULL for a usable handle, and no error of the handle. */
BP_API const char *bp_validate_json(bp_trainer *t, const char *data);
/* Duplicates, lengths, empty turns, what it shares with another file, and a verdict ("against",
 * "fail-on-dups", …; "report-model" for exact lengths). */
BP_API const char *bp_data_report_json(bp_trainer *t, const char *data);
/* Writes the file's rows to two others ("heldout-ratio", "split-seed", "out-train",
 * "out-heldout"). */
BP_API const char *bp_data_split_json(bp_trainer *t, const char *data);
/* One row of bp_data_render or line of bp_tokenize; what it points to lives during the call. */
typedef struct bp_text_line {
    int64_t line; /* in the file, from 1 */
    const char *text;
    size_t bytes;
    const int32_t *ids; /* bp_tokenize */
    size_t n_ids;
    const char *error; /* why there is no text, else NULL */
} bp_text_line;
typedef void bp_text_fn(void *context, const bp_text_line *line);
/* Every row of a data file exactly as the chat template of the option "template" (a Jinja file or a
 * model) writes it ("bos", "eos", "add-generation-prompt"). A row that cannot be rendered is handed
 * over with its error and is no error of the handle. */
BP_API bool bp_data_render(bp_trainer *t, const char *data, bp_text_fn *fn, void *context);
/* The token ids of every line of a text file. source: a GGUF file, a folder or a tokenizer.json. */
BP_API bool bp_tokenize(bp_trainer *t, const char *source, const char *text_file, bp_text_fn *fn,
                        void *context);
/* What the last bp_train, bp_export or bp_generate did. */
BP_API const char *bp_result_json(bp_trainer *t);
/* Mean loss (nats a token) of the opened model and adapter on a text file. False on error. */
BP_API bool bp_evaluate(bp_trainer *t, const char *text_file, double *loss);

/* ---- 4. Events and stopping ----------------------------------------------------------------- */

typedef struct bp_event {
    const char *name; /* "run_started", "step", "checkpoint", "phase", "text", … */
    const char *run_id;
    int64_t step, steps;
    double loss, lr, tokens_per_second, peak_share, seconds_left;
    int64_t memory_bytes;
    const char *text; /* phase: what begins; text: a piece of the answer; checkpoint: its folder */
    const char *json; /* the whole event as one JSON object, or NULL */
} bp_event;
typedef void bp_event_fn(void *context, const bp_event *event);
BP_API void bp_on_event(bp_trainer *t, bp_event_fn *fn, void *context);

/* Finish the current step, save, and return. Safe in a signal handler. */
BP_API void bp_stop(bp_trainer *t);

/* ---- 5. Errors as a table ------------------------------------------------------------------- */

typedef struct bp_error_row {
    const char *code, *retryable, *when, *hint;
    int exit_code;
} bp_error_row;
BP_API const bp_error_row *bp_errors(size_t *count);

#ifdef __cplusplus
}
#endif
#endif
