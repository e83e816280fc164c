/* json.h — the one wrapper over jansson: reading with limits, writing with a fixed style.
 *
 * A Json is a jansson value; the caller owns what json_parse and json_new_* return and gives it
 * back with json_free; what json_get and json_at return is borrowed from its parent. json_put and
 * json_add take the new value over. Numbers keep 17 digits, keys keep their order.
 */
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include "core/err.h"
#include "core/str.h"

typedef struct json_t Json;

enum { JSON_MAX_DEPTH = 128 };

/* `code` is the error to report; the message carries `subject`, line and column. Duplicate keys:
 * the last one wins. A NUL escape inside a string and invalid UTF-8 are errors, as is nesting
 * deeper than JSON_MAX_DEPTH. Integers beyond 64 bits become doubles (real files have them). */
Json *json_parse(Str text, const char *subject, ErrCode code, Err *err);
Json *json_load(const char *path, ErrCode code, Err *err);
void json_free(Json *json);

bool json_is_object(const Json *json);
bool json_is_array(const Json *json);
bool json_is_string(const Json *json);
bool json_is_number(const Json *json);
bool json_is_int(const Json *json);
bool json_is_bool(const Json *json);
bool json_is_null(const Json *json); /* also true for NULL */

Json *json_get(const Json *object, const char *key); /* NULL when absent or not an object */
Json *json_at(const Json *array, size_t i);
size_t json_len(const Json *json); /* elements of an array, members of an object, else 0 */
/* Members of an object in their order: for (void *it = NULL; (it = json_next(o, it, &k, &v));) */
void *json_next(const Json *object, void *iter, const char **key, Json **value);

Str json_str(const Json *json);                             /* empty slice when not a string */
const char *json_text(const Json *json);                    /* NULL when not a string */
double json_double(const Json *json, double fallback);      /* ints too */
int64_t json_int(const Json *json, int64_t fallback);       /* only whole numbers */
bool json_bool(const Json *json, bool fallback);

Json *json_new_object(void);
Json *json_new_array(void);
Json *json_new_text(const char *text); /* NULL gives null; invalid UTF-8 and NUL become U+FFFD */
Json *json_new_str(Str text);
Json *json_new_int(int64_t value);
Json *json_new_double(double value); /* not finite gives null */
Json *json_new_bool(bool value);
Json *json_new_null(void);
Json *json_clone(const Json *json); /* deep */
void json_put(Json *object, const char *key, Json *value);
void json_add(Json *array, Json *value);
void json_del(Json *object, const char *key);

/* indent 0 = one line. The text is appended to out; keys in insertion order, or sorted. */
typedef struct JsonStyle {
    int indent;
    bool sorted;
} JsonStyle;
void json_write(const Json *json, JsonStyle style, Buf *out);

#endif
