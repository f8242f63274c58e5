/* The C publisher, with a driver that reads commands as lines of JSON: see publishers/conformance. */
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <time.h>
#include <zmq.h>

#include "../src/neurograph_publisher.h"
#include "json.h"

static ng_publisher *publisher;
static void *context, *bare;

static void answer(const char *format, const char *text) { printf(format, text), putchar('\n'), fflush(stdout); }

static void answer_error(const char *text) {
    ng_fields fields = {0};
    ng_add_string(&fields, "error", text);
    printf("%s}\n", fields.text), fflush(stdout);
    free(fields.text);
}

static void answer_result(ng_result result) {
    if (result == NG_REFUSED) answer_error(ng_error());
    else answer("{\"ok\": %s}", result == NG_SENT ? "true" : "false");
}

static char *text_of(const char *command, const char *name) {
    const char *value = json_get(command, name);
    return value ? json_string(value) : NULL;
}

static double number_of(const char *command, const char *name, double otherwise) {
    const char *value = json_get(command, name);
    return value ? strtod(value, NULL) : otherwise;
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static size_t read_gateways(const char *path, char keys[8][41], const char *list[8]) {
    char secret[41];
    size_t count = 0;
    DIR *folder = opendir(path);
    if (!folder) {
        list[0] = keys[0];
        return ng_read_keys(path, keys[0], secret);
    }
    for (struct dirent *entry; (entry = readdir(folder)) && count < 8;) {
        char *file = NULL;
        if (strstr(entry->d_name, ".key") && asprintf(&file, "%s/%s", path, entry->d_name) > 0 && ng_read_keys(file, keys[count], secret)) {
            list[count] = keys[count];
            count++;
        }
        free(file);
    }
    closedir(folder);
    return count;
}

static void do_open(const char *command) {
    char public_key[41], secret_key[41], keys[8][41];
    const char *gateways[8], *curve_options = json_get(command, "curve");
    ng_curve curve = {public_key, secret_key, gateways, 0};
    ng_options options = ng_defaults();
    const char *connect = json_get(command, "connect"), *also[8];
    if (connect && *connect == '[') {
        for (const char *at = json_next(connect, true, NULL); at && options.also_connect_count < 8; at = json_next(at, false, NULL)) {
            if (options.connect) also[options.also_connect_count++] = json_string(at);
            else options.connect = json_string(at);
        }
        options.also_connect = also;
    } else if (connect) options.connect = json_string(connect);
    options.bind = text_of(command, "bind");
    options.name = text_of(command, "name");
    options.high_water_mark = (int)number_of(command, "high_water_mark", options.high_water_mark);
    options.linger_seconds = number_of(command, "linger_seconds", options.linger_seconds);
    options.heartbeat_seconds = number_of(command, "heartbeat_seconds", options.heartbeat_seconds);
    options.replay = (size_t)number_of(command, "replay", 0);
    if (curve_options) {
        char *own = text_of(curve_options, "key_file"), *others = text_of(curve_options, "gateways_file");
        ng_read_keys(own, public_key, secret_key);
        curve.gateways_count = read_gateways(others, keys, gateways);
        options.curve = &curve;
        free(own), free(others);
    }
    publisher = ng_open(&options);
    for (size_t n = 0; n < options.also_connect_count; n++) free((char *)also[n]);
    free((char *)options.connect), free((char *)options.bind), free((char *)options.name);
    if (!publisher) {
        answer_error(ng_error());
        return;
    }
    ng_fields fields = {0};
    ng_add_string(&fields, "incarnation", ng_incarnation(publisher));
    ng_add_string(&fields, "endpoint", ng_endpoint(publisher));
    if (ng_replay(publisher)) ng_add_string(&fields, "replay", ng_replay(publisher));
    answer("{\"ok\": %s}}", fields.text);
    free(fields.text);
}

static void do_kind(const char *command) {
    char *kind = text_of(command, "kind"), *name = NULL;
    const char *given = json_get(command, "fields");
    char *what = text_of(given, "kind"), *level = text_of(given, "level"), *message = text_of(given, "message");
    char *state = text_of(given, "state"), *change = text_of(given, "change"), *client = text_of(given, "client_id");
    ng_fields fields = {0};
    for (const char *at = json_next(given, true, &name); at; at = json_next(at, false, &name)) {
        if (!strstr("kind level message state change client_id", name)) {
            char *value = *at == '"' ? json_string(at) : json_copy(at);
            if (*at == '"') ng_add_string(&fields, name, value);
            else if (*at == 't' || *at == 'f') ng_add_boolean(&fields, name, *at == 't');
            else if (strpbrk(value, ".eE")) ng_add_number(&fields, name, strtod(value, NULL));
            else ng_add_integer(&fields, name, strtoll(value, NULL, 10));
            free(value);
        }
        free(name);
    }
    answer_result(!strcmp(kind, "metrics")    ? ng_metrics(publisher, &fields)
                  : !strcmp(kind, "signal")   ? ng_signal(publisher, what, &fields)
                  : !strcmp(kind, "action")   ? ng_action(publisher, what, &fields)
                  : !strcmp(kind, "log")      ? ng_log(publisher, level, message, &fields)
                  : !strcmp(kind, "status")   ? ng_status(publisher, state, &fields)
                                              : ng_connection(publisher, change, client, &fields));
    free(kind), free(what), free(level), free(message), free(state), free(change), free(client);
}

static void do_burst(const char *command) {
    char *topic = text_of(command, "topic"), head[64];
    size_t count = (size_t)number_of(command, "count", 0), bytes = (size_t)number_of(command, "bytes", 0);
    char *json = malloc(bytes + 64);
    ng_counts before = ng_count(publisher);
    ng_result result = NG_SENT;
    for (size_t n = 0; n < count && result != NG_REFUSED; n++) {
        size_t length = (size_t)sprintf(head, "{\"n\":%zu,\"fill\":\"", n);
        size_t total = length + 2 > bytes ? length + 2 : bytes;
        memset(json, 'x', total);
        memcpy(json, head, length);
        strcpy(json + total - 2, "\"}");
        result = ng_publish(publisher, topic, json);
    }
    ng_counts after = ng_count(publisher);
    if (result == NG_REFUSED) answer_error(ng_error());
    else {
        printf("{\"ok\": {\"published\": %llu, \"dropped\": %llu}}\n", (unsigned long long)(after.published - before.published),
               (unsigned long long)(after.dropped - before.dropped));
        fflush(stdout);
    }
    free(topic), free(json);
}

static void do_pack(const char *command) {
    const char *names[] = {"flags", "incarnation", "sequence", "time_ns"};
    uint64_t values[4];
    uint8_t frame[NG_ENVELOPE_BYTES];
    char hex[2 * NG_ENVELOPE_BYTES + 1];
    for (int n = 0; n < 4; n++) {
        char *text = text_of(command, names[n]);
        values[n] = strtoull(text, NULL, 10);
        free(text);
    }
    ng_pack(frame, (uint32_t)values[0], values[1], values[2], values[3]);
    for (int n = 0; n < NG_ENVELOPE_BYTES; n++) sprintf(hex + 2 * n, "%02x", frame[n]);
    answer("{\"ok\": \"%s\"}", hex);
}

static void do_speed(const char *command, bool is_bare) {
    char *topic = text_of(command, "topic"), *json = text_of(command, "json");
    char envelope[NG_ENVELOPE_BYTES] = "";
    size_t count = (size_t)number_of(command, "count", 0), topic_size = strlen(topic), size = strlen(json);
    double began = seconds_now();
    for (size_t n = 0; n < count; n++) {
        if (!is_bare) {
            ng_publish(publisher, topic, json);
            continue;
        }
        zmq_send(bare, topic, topic_size, ZMQ_SNDMORE);
        zmq_send(bare, json, size, ZMQ_SNDMORE);
        zmq_send(bare, envelope, sizeof envelope, 0);
    }
    printf("{\"ok\": %f}\n", seconds_now() - began), fflush(stdout);
    free(topic), free(json);
}

static void do_bare_open(const char *command) {
    int none = 0;
    char *endpoint = text_of(command, "endpoint");
    context = zmq_ctx_new();
    bare = zmq_socket(context, ZMQ_PUB);
    zmq_setsockopt(bare, ZMQ_SNDHWM, &none, sizeof none);
    zmq_setsockopt(bare, ZMQ_LINGER, &none, sizeof none);
    zmq_connect(bare, endpoint);
    free(endpoint);
    answer("{\"ok\": %s}", "true");
}

static void do_close(void) {
    if (publisher) ng_close(publisher);
    publisher = NULL;
}

static void carry_out(const char *command) {
    char *name = text_of(command, "do"), *topic = text_of(command, "topic"), *event_type = text_of(command, "event_type");
    if (!strcmp(name, "open")) do_open(command);
    else if (!strcmp(name, "pack")) do_pack(command);
    else if (!strcmp(name, "close")) do_close(), answer("{\"ok\": %s}", "true");
    else if (!publisher) answer_error("this publisher is closed: in C its memory is gone");
    else if (!strcmp(name, "wait")) answer("{\"ok\": %s}", ng_wait_for_subscriber(publisher, number_of(command, "seconds", 0)) ? "true" : "false");
    else if (!strcmp(name, "kind")) do_kind(command);
    else if (!strcmp(name, "burst")) do_burst(command);
    else if (!strcmp(name, "bare_open")) do_bare_open(command);
    else if (!strcmp(name, "bench") || !strcmp(name, "bare")) do_speed(command, name[1] == 'a');
    else if (!strcmp(name, "raw")) {
        char *json = text_of(command, "json");
        answer_result(ng_publish(publisher, topic, json));
        free(json);
    } else if (!strcmp(name, "bytes")) {
        char *hex = text_of(command, "hex"), *content_type = text_of(command, "content_type");
        size_t size = strlen(hex) / 2;
        uint8_t *bytes = malloc(size + 1);
        for (size_t n = 0; n < size; n++) bytes[n] = (uint8_t)strtoul((char[]){hex[2 * n], hex[2 * n + 1], 0}, NULL, 16);
        answer_result(ng_publish_bytes(publisher, topic, bytes, size, content_type));
        free(hex), free(content_type), free(bytes);
    } else if (!strcmp(name, "publish")) {
        const char *data = strstr(command, "\"data\": ") + 8; /* null is a value, too */
        char *json = json_copy(data);
        answer_result(event_type ? ng_publish_event(publisher, topic, event_type, json, NULL) : ng_publish(publisher, topic, json));
        free(json);
    } else if (!strcmp(name, "unencodable")) {
        ng_fields fields = {0};
        ng_add_number(&fields, "cpu_percent", NAN);
        if (ng_metrics(publisher, &fields) != NG_REFUSED) answer("{\"ok\": %s}", "\"NaN was taken\"");
        else if (ng_publish(publisher, topic, "{\"a\": tru}") != NG_REFUSED) answer("{\"ok\": %s}", "\"broken JSON was taken\"");
        else answer_error(ng_error());
    } else if (!strcmp(name, "counts")) {
        ng_counts counts = ng_count(publisher);
        printf("{\"ok\": {\"published\": %llu, \"dropped\": %llu}}\n", (unsigned long long)counts.published, (unsigned long long)counts.dropped);
        fflush(stdout);
    }
    free(name), free(topic), free(event_type);
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) carry_out(line);
    free(line);
    do_close();
    if (bare) zmq_close(bare), zmq_ctx_term(context);
    return 0;
}
