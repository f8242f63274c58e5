/* Reading JSON, for the driver and the tests: values are pointers to where they begin in a text that is valid. */
#ifndef NEUROGRAPH_JSON_H
#define NEUROGRAPH_JSON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/wire.h"

static const char *json_space(const char *at) { return at + strspn(at, " \t\r\n"); }

/* The text of a value, copied. */
static inline char *json_copy(const char *value) {
    value = json_space(value);
    return strndup(value, (size_t)(ng_json_end(value) - value));
}

/* A string's text; free it. */
static inline char *json_string(const char *value) {
    const char *at = json_space(value) + 1;
    char *text = malloc(strlen(at) + 1), *to = text;
    while (*at != '"') {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
        at += 2;
        if (at[-1] != 'u') {
            *to++ = strchr(escapes, at[-1])[1];
            continue;
        }
        unsigned code, low;
        sscanf(at, "%4x", &code);
        at += 4;
        if (code >= 0xD800 && code < 0xDC00 && sscanf(at, "\\u%4x", &low) == 1) {
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            at += 6;
        }
        if (code < 0x80) *to++ = (char)code;
        else if (code < 0x800) to += sprintf(to, "%c%c", 0xC0 | code >> 6, 0x80 | (code & 63));
        else if (code < 0x10000) to += sprintf(to, "%c%c%c", 0xE0 | code >> 12, 0x80 | (code >> 6 & 63), 0x80 | (code & 63));
        else to += sprintf(to, "%c%c%c%c", 0xF0 | code >> 18, 0x80 | (code >> 12 & 63), 0x80 | (code >> 6 & 63), 0x80 | (code & 63));
    }
    *to = 0;
    return text;
}

/* The next member of an object, from its value before (or the object itself), or the next item of an array; NULL: no more. */
static inline const char *json_next(const char *at, bool is_first, char **name) {
    at = json_space(is_first ? json_space(at) + 1 : ng_json_end(at));
    if (*at == ',') at = json_space(at + 1);
    if (*at == '}' || *at == ']') return NULL;
    if (!name) return at;
    *name = json_string(at);
    return json_space(strchr(json_space(ng_json_end(at)), ':') + 1);
}

/* A member of an object, or NULL. */
static inline const char *json_get(const char *object, const char *wanted) {
    char *name = NULL;
    for (const char *at = json_next(object, true, &name); at; at = json_next(at, false, &name)) {
        bool is_it = !strcmp(name, wanted);
        free(name);
        if (is_it) return strncmp(at, "null", 4) ? at : NULL;
    }
    return NULL;
}

#define json_each(item, array) const char *item = json_next(array, true, NULL); item; item = json_next(item, false, NULL)

#endif
