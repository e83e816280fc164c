/* env.c — the process environment, the file .env of the working folder and the user's configuration
 * file, read here alone.
 *
 * .env: UTF-8 lines NAME=VALUE; blank lines and lines starting with # are skipped; "export " in
 * front and one pair of quotes around the value are taken off. It is optional.
 */
#include "api/settings.h"

#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/os.h"
#include "core/str.h"

enum { DOTENV_MAX_BYTES = 1 << 20 };

const char *config_path(Arena *out)
{
    const char *base = os_env("XDG_CONFIG_HOME"), *home = os_env("HOME");
    if (base == NULL && home != NULL)
        base = path_join(out, home, ".config");
    return base != NULL ? path_join(out, base, "backpropagate/config.json") : NULL;
}

Json *config_load(Arena *scratch, Err *err)
{
    const char *path = config_path(scratch);
    if (path == NULL || !path_exists(path))
        return json_new_object();
    Json *config = json_load(path, ERR_CONFIG_INVALID, err);
    if (config != NULL && json_is_object(config))
        return config;
    if (config != NULL)
        err_set(err, ERR_CONFIG_INVALID, "'%s' does not hold a JSON object", path);
    json_free(config);
    err_hint(err, "Repair or remove the file '%s'", path);
    return NULL;
}

static Str unquote(Str value)
{
    bool quoted = value.len >= 2 && (value.data[0] == '"' || value.data[0] == '\'') &&
                  value.data[value.len - 1] == value.data[0];
    return quoted ? str_sub(value, 1, value.len - 1) : value;
}

static bool visit_pair(Arena *scratch, Str line, SettingSource source, EnvVisit *visit,
                       void *context)
{
    line = str_trim(line);
    if (str_starts(line, "export "))
        line = str_trim(str_sub(line, 7, line.len));
    const char *equals = line.len > 0 ? memchr(line.data, '=', line.len) : NULL;
    if (equals == NULL || line.data[0] == '#')
        return true;
    size_t at = (size_t)(equals - line.data);
    Str name = str_trim(str_sub(line, 0, at));
    Str value = unquote(str_trim(str_sub(line, at + 1, line.len)));
    return visit(context, arena_strndup(scratch, name.data, name.len),
                 arena_strndup(scratch, value.data, value.len), source);
}

static bool visit_dotenv(Arena *scratch, EnvVisit *visit, void *context, Err *err)
{
    if (!path_exists(".env") || path_is_folder(".env"))
        return true;
    Str text;
    assert(visit != NULL);
    if (!file_read(".env", DOTENV_MAX_BYTES, scratch, &text, ERR_CONFIG_INVALID, err))
        return false;
    for (size_t at = 0; at < text.len;) {
        const char *newline = memchr(text.data + at, '\n', text.len - at);
        size_t end = newline != NULL ? (size_t)(newline - text.data) : text.len;
        if (!visit_pair(scratch, str_sub(text, at, end), FROM_DOTENV, visit, context))
            return false;
        at = end + 1;
    }
    return true;
}

bool env_visit_all(Arena *scratch, EnvVisit *visit, void *context, Err *err)
{
    if (!visit_dotenv(scratch, visit, context, err))
        return false;
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals == NULL || strncasecmp(*entry, "BACKPROPAGATE_", 14) != 0)
            continue;
        const char *name = arena_strndup(scratch, *entry, (size_t)(equals - *entry));
        if (!visit(context, name, equals + 1, FROM_ENVIRONMENT))
            return false;
    }
    return true;
}
