/* The encoded bytes equal the shared vectors: build/test ../conformance/vectors */
#define _GNU_SOURCE
#include <stdarg.h>

#include "../conformance/json.h"
#include "../src/neurograph_publisher.h"
#include "../src/topics.h"

static int failures;

static void expect(bool is_true, const char *what, const char *which) {
    if (is_true) return;
    failures++;
    fprintf(stderr, "failed: %s: %s\n", what, which);
}

static char *read_file(const char *folder, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t room = 0;
    if (!file || getdelim(&text, &room, 0, file) < 0) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(1);
    }
    fclose(file);
    return text;
}

static size_t from_hex(const char *value, uint8_t *to) {
    char *hex = json_string(value);
    size_t size = strlen(hex) / 2;
    for (size_t n = 0; n < size; n++) {
        unsigned byte;
        sscanf(hex + 2 * n, "%2x", &byte);
        to[n] = (uint8_t)byte;
    }
    free(hex);
    return size;
}

static uint64_t number(const char *object, const char *name) {
    char *text = json_string(json_get(object, name));
    uint64_t value = strtoull(text, NULL, 10);
    free(text);
    return value;
}

static void test_envelopes(const char *vectors) {
    for (json_each(vector, json_get(vectors, "valid"))) {
        uint8_t expected[64], packed[NG_ENVELOPE_BYTES];
        ng_pack(packed, (uint32_t)number(vector, "flags"), number(vector, "incarnation"), number(vector, "sequence"), number(vector, "time_ns"));
        bool is_same = from_hex(json_get(vector, "hex"), expected) == sizeof packed && !memcmp(packed, expected, sizeof packed);
        expect(is_same, "envelope", json_get(vector, "name"));
    }
}

static void test_topics(const char *vectors) {
    for (json_each(topic, json_get(vectors, "valid"))) {
        char *text = json_string(topic);
        expect(ng_is_topic(text), "valid topic", text);
        free(text);
    }
    for (json_each(topic, json_get(vectors, "invalid"))) {
        char *text = json_string(topic);
        expect(!ng_is_topic(text), "invalid topic", text);
        free(text);
    }
}

static bool parse(ng_request *request, const char *frames) {
    static uint8_t bytes[16][256];
    const uint8_t *pointers[16];
    size_t sizes[16], count = 0;
    for (json_each(frame, frames)) {
        pointers[count] = bytes[count];
        sizes[count] = from_hex(frame, bytes[count]);
        count++;
    }
    return ng_parse_request(request, count, pointers, sizes);
}

static void test_requests(const char *vectors) {
    ng_request request;
    for (json_each(exchange, json_get(vectors, "exchanges"))) {
        expect(parse(&request, json_get(exchange, "request")), "request", json_get(exchange, "name"));
    }
    expect(!strcmp(request.topic, "logs") && request.first == 1 && request.last == 10, "the last request", request.topic);
    for (json_each(invalid, json_get(vectors, "invalid"))) {
        expect(!parse(&request, json_get(invalid, "request")), "no request", json_get(invalid, "name"));
    }
}

static void test_json(void) {
    const char *valid[] = {"0", "-0.5e+10", " [1, {\"a\": null}] ", "\"\\u00e4\\n\xC3\xA4\xF0\x9F\x98\x80\"", "true", "{}"};
    const char *invalid[] = {"", "01", "1.", "+1", "NaN", "[1,]", "{a:1}", "{\"a\" 1}", "\"\n\"", "\"\\x\"", "\"", "1 2",
                             "tru", "\"\xC3\"", "\"\xED\xA0\x80\"", "\"\xC0\xAF\"", "\xEF\xBB\xBF" "1", "[", "{\"a\":}"};
    for (size_t n = 0; n < sizeof valid / sizeof *valid; n++) expect(ng_is_json(valid[n]), "valid JSON", valid[n]);
    for (size_t n = 0; n < sizeof invalid / sizeof *invalid; n++) expect(!ng_is_json(invalid[n]), "invalid JSON", invalid[n]);
}

static void test_store(void) {
    ng_topics topics = {.messages_max = 3};
    uint8_t envelope[NG_ENVELOPE_BYTES] = "";
    ng_topic *topic = ng_topics_add(&topics, "a");
    for (int n = 1; n <= 5; n++) {
        topic->sequence++;
        ng_topics_keep(&topics, topic, "12345" + 5 - n, (size_t)n, envelope);
    }
    expect(!ng_topic_get(topic, 2) && !ng_topic_get(topic, 6), "store", "only the newest are kept");
    for (uint64_t n = 3; n <= 5; n++) expect(ng_topic_get(topic, n) && ng_topic_get(topic, n)->size == n, "store", "kept by number");
    for (int n = 0; n < 10005; n++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", n);
        ng_topic *other = ng_topics_add(&topics, name);
        other->sequence++;
        ng_topics_keep(&topics, other, "x", 1, envelope);
    }
    expect(topics.kept_count == 10000 && !topic->count && ng_topics_find(&topics, "a") == topic, "store", "10,000 topics are kept");
    ng_topics_free(&topics);
}

int main(int count, char **arguments) {
    const char *names[] = {"envelope", "topics", "replay"};
    void (*tests[])(const char *) = {test_envelopes, test_topics, test_requests};
    for (int n = 0; n < 3; n++) {
        char *vectors = read_file(count > 1 ? arguments[1] : "../conformance/vectors", names[n]);
        tests[n](vectors);
        free(vectors);
    }
    test_json();
    test_store();
    printf("%s\n", failures ? "some tests failed" : "all tests passed");
    return failures > 0;
}
