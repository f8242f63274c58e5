#include "wire.h"

#include <string.h>

enum { DEPTH_MAX = 512 };

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool ng_is_standard(const char *topic) {
    static const char *const standard[] = {"metrics", "signals", "actions", "logs", "status", "connections"};
    for (size_t n = 0; n < sizeof standard / sizeof *standard; n++) {
        if (!strcmp(topic, standard[n])) return true;
    }
    return false;
}

bool ng_is_topic(const char *text) {
    size_t length = strlen(text);
    if (!length || length > NG_TOPIC_BYTES_MAX || !is_word(text[length - 1])) return false;
    for (size_t at = 0; at < length; at++) {
        if (!is_word(text[at]) && (text[at] != '.' || !at || text[at - 1] == '.')) return false;
    }
    return true;
}

static const char *skip_space(const char *at) { return at + strspn(at, " \t\r\n"); }

static const char *digits_end(const char *at) {
    if (!is_digit(*at)) return NULL;
    while (is_digit(*at)) at++;
    return at;
}

static const char *number_end(const char *at) {
    if (*at == '-') at++;
    at = *at == '0' ? at + 1 : digits_end(at);
    if (at && *at == '.') at = digits_end(at + 1);
    if (at && (*at == 'e' || *at == 'E')) {
        at++;
        at = digits_end(*at == '+' || *at == '-' ? at + 1 : at);
    }
    return at;
}

/* The end of a UTF-8 sequence of more than one byte. */
static const char *utf8_end(const char *text) {
    const uint8_t *at = (const uint8_t *)text;
    int more = at[0] >= 0xC2 && at[0] <= 0xDF ? 1 : (at[0] & 0xF0) == 0xE0 ? 2 : at[0] >= 0xF0 && at[0] <= 0xF4 ? 3 : 0;
    if (!more) return NULL;
    for (int n = 1; n <= more; n++) {
        if ((at[n] & 0xC0) != 0x80) return NULL;
    }
    bool is_long = (at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xF0 && at[1] < 0x90);
    bool is_surrogate = at[0] == 0xED && at[1] > 0x9F;
    return is_long || is_surrogate || (at[0] == 0xF4 && at[1] > 0x8F) ? NULL : text + more + 1;
}

static const char *string_end(const char *at) {
    for (at++; *at != '"';) {
        if ((uint8_t)*at < 0x20) return NULL; /* the end of the text, too */
        if (*at == '\\') {
            at++;
            if (*at == 'u') {
                if (strspn(at + 1, "0123456789abcdefABCDEF") < 4) return NULL;
                at += 5;
            } else if (*at && strchr("\"\\/bfnrt", *at)) {
                at++;
            } else {
                return NULL;
            }
        } else if ((uint8_t)*at < 0x80) {
            at++;
        } else if (!(at = utf8_end(at))) {
            return NULL;
        }
    }
    return at + 1;
}

static const char *value_end(const char *at, int depth) {
    at = skip_space(at);
    if (*at == '"') return string_end(at);
    if (*at == '-' || is_digit(*at)) return number_end(at);
    if (!strncmp(at, "true", 4) || !strncmp(at, "null", 4)) return at + 4;
    if (!strncmp(at, "false", 5)) return at + 5;
    if ((*at != '{' && *at != '[') || depth == DEPTH_MAX) return NULL;
    bool is_object = *at == '{';
    char end = is_object ? '}' : ']';
    at = skip_space(at + 1);
    if (*at == end) return at + 1;
    for (;;) {
        if (is_object) {
            at = skip_space(at);
            if (*at != '"' || !(at = string_end(at))) return NULL;
            at = skip_space(at);
            if (*at++ != ':') return NULL;
        }
        if (!(at = value_end(at, depth + 1))) return NULL;
        at = skip_space(at);
        if (*at == end) return at + 1;
        if (*at++ != ',') return NULL;
    }
}

const char *ng_json_end(const char *text) { return value_end(text, 0); }

bool ng_is_json(const char *text) {
    const char *end = value_end(text, 0);
    return end && !*skip_space(end);
}

void ng_put_u64(uint8_t *at, uint64_t value) {
    for (int n = 7; n >= 0; n--, value >>= 8) at[n] = (uint8_t)value;
}

uint64_t ng_get_u64(const uint8_t *at) {
    uint64_t value = 0;
    for (int n = 0; n < 8; n++) value = value << 8 | at[n];
    return value;
}

void ng_pack(uint8_t frame[NG_ENVELOPE_BYTES], uint32_t flags, uint64_t incarnation, uint64_t sequence, uint64_t time_ns) {
    ng_put_u64(frame, flags); /* its upper half makes room for the magic */
    memcpy(frame, "NGE1", 4);
    ng_put_u64(frame + 8, incarnation);
    ng_put_u64(frame + 16, sequence);
    ng_put_u64(frame + 24, time_ns);
}

bool ng_parse_request(ng_request *request, size_t count, const uint8_t *const frames[], const size_t sizes[]) {
    if (count != 4 || sizes[0] != 4 || memcmp(frames[0], "NGR1", 4) || sizes[1] != 8 || sizes[3] != 16) return false;
    size_t length = sizes[2] <= NG_TOPIC_BYTES_MAX ? sizes[2] : 0; /* a longer one is no topic: nothing is held */
    memcpy(request->topic, frames[2], length);
    request->topic[length] = 0;
    request->number = ng_get_u64(frames[1]);
    request->first = ng_get_u64(frames[3]);
    request->last = ng_get_u64(frames[3] + 8);
    return true;
}
