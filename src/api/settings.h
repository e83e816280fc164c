/* settings.h — the value of every option and where it came from.
 *
 * One row of options.def is one option. Precedence: set by the caller > environment > .env in the
 * working folder > the user's configuration file > default. Values are kept as text, checked
 * against their row when they are set.
 */
#ifndef API_SETTINGS_H
#define API_SETTINGS_H

#include "core/arena.h"
#include "core/err.h"
#include "core/json.h"

typedef enum OptionId {
#define O(id, name, flag, letter, kind, values, fallback, variable, verbs, meta, help) OPTION_##id,
#include "api/options.def"
#undef O
    OPTION_COUNT
} OptionId;

typedef enum OptionKind {
    KIND_FLAG, KIND_INT, KIND_NUMBER, KIND_CHOICE, KIND_TEXT, KIND_LIST
} OptionKind;

typedef struct OptionRow {
    const char *name, *flag;
    char letter;
    OptionKind kind;
    const char *values, *fallback, *variable, *verbs, *meta, *help;
} OptionRow;
extern const OptionRow option_rows[OPTION_COUNT];

typedef enum SettingSource {
    FROM_DEFAULT,
    FROM_CONFIG, /* written by `backprop config --set` */
    FROM_DOTENV,
    FROM_ENVIRONMENT,
    FROM_CALLER
} SettingSource;

typedef struct Settings {
    Arena *arena;
    const char *value[OPTION_COUNT];
    SettingSource source[OPTION_COUNT];
} Settings;

/* Defaults, then the configuration file, then .env, then the environment. A bad value there is an
 * error that names the variable; an unknown BACKPROPAGATE_* name is a warning in the log with the
 * nearest known one. */
bool settings_open(Settings *settings, Arena *arena, Err *err);
/* Index of the option called `name`, -1 when unknown. */
int settings_find(const char *name);
/* CONFIG_INVALID_SETTING names option, value and what is expected. A lower source never replaces a
 * higher one. */
bool settings_set(Settings *settings, OptionId id, const char *value, SettingSource source,
                  Err *err);

/* The configuration file: one JSON object {option: text}. NULL when there is no place for it (no
 * HOME and no XDG_CONFIG_HOME). */
const char *config_path(Arena *out);
/* Its object, empty when there is no file; NULL with CONFIG_INVALID when it is not readable. */
Json *config_load(Arena *scratch, Err *err);
const char *setting_source_name(SettingSource source); /* "default", "config", ".env", … */

const char *settings_text(const Settings *settings, OptionId id); /* never NULL */
bool settings_flag(const Settings *settings, OptionId id);
bool settings_is(const Settings *settings, OptionId id, const char *word);
int64_t settings_int(const Settings *settings, OptionId id, int64_t when_a_word);
double settings_number(const Settings *settings, OptionId id, double when_a_word);
bool settings_given(const Settings *settings, OptionId id); /* not a default */

/* env.c — the environment and .env, read here and nowhere else. Calls visit for every pair. */
typedef bool EnvVisit(void *context, const char *name, const char *value, SettingSource source);
bool env_visit_all(Arena *scratch, EnvVisit *visit, void *context, Err *err);

#endif
