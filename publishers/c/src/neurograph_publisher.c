#define _GNU_SOURCE
#include "neurograph_publisher.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "topics.h"

enum { NAME_MAX_BYTES = 64, TOPICS_PER_HEARTBEAT = 1000, PAIRS_PER_REPLY = 256, REPLY_BYTES = 1024 * 1024, WELCOME_NS = 1000000, LINKS_MAX = 128 };
#define FAILED_EVENTS (ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

/* The socket of one endpoint, with its own queue: a gateway that does not read does not affect the others. */
typedef struct {
    void *socket; /* an XPUB */
    void *monitor;
    char asked[256];
    int fd;
    bool speaks_zmtp; /* whether the newest connection completed its handshake */
    double given_up;
    char **subscribed;
    size_t subscribed_count;
} ng_link;

struct ng_publisher {
    pthread_mutex_t lock; /* for all below: ZeroMQ's sockets are not thread-safe */
    pthread_t thread;
    bool has_thread, closed;
    void *context;
    ng_link *links;
    size_t links_count;
    int wake[2];
    uint64_t greeted_ns;
    ng_topics topics;
    ng_counts counts;
    /* Only read, or used by the thread alone. */
    void *router, *guard;
    double heartbeat_seconds;
    size_t payload_bytes_max;
    uint64_t incarnation;
    char hex[17], name[NAME_MAX_BYTES + 1], public_key[41], endpoint[256], replay[257];
    char (*gateways)[41];
    size_t gateways_count;
};

/* -- errors and text -------------------------------------------------------------------------- */

static _Thread_local char last_error[512];

const char *ng_error(void) { return last_error; }

static ng_result refuse(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return NG_REFUSED;
}

static void append(ng_fields *to, const char *text, size_t length) {
    if (to->failed) return;
    if (to->length + length + 1 > to->room) {
        size_t room = (to->length + length + 1) * 2;
        char *grown = realloc(to->text, room);
        if (!grown) {
            to->failed = true;
            return;
        }
        to->text = grown;
        to->room = room;
    }
    memcpy(to->text + to->length, text, length);
    to->length += length;
    to->text[to->length] = 0;
}

static void append_text(ng_fields *to, const char *text) { append(to, text, strlen(text)); }

static void append_string(ng_fields *to, const char *text) {
    append_text(to, "\"");
    for (const char *at = text; *at;) {
        size_t plain = 0;
        while ((uint8_t)at[plain] >= 0x20 && at[plain] != '"' && at[plain] != '\\') plain++;
        append(to, at, plain);
        at += plain;
        if (!*at) break;
        char escaped[7];
        snprintf(escaped, sizeof escaped, *at == '"' || *at == '\\' ? "\\%c" : "\\u%04x", *at);
        append_text(to, escaped);
        at++;
    }
    append_text(to, "\"");
}

static void append_name(ng_fields *to, const char *name) {
    append_text(to, to->length ? "," : "{");
    append_string(to, name);
    append_text(to, ":");
}

void ng_add_json(ng_fields *to, const char *name, const char *json) {
    append_name(to, name);
    append_text(to, json);
}

void ng_add_string(ng_fields *to, const char *name, const char *value) {
    append_name(to, name);
    append_string(to, value);
}

void ng_add_number(ng_fields *to, const char *name, double value) {
    char text[32];
    snprintf(text, sizeof text, "%.17g", value);
    if (!isfinite(value)) to->failed = true;
    ng_add_json(to, name, text);
}

void ng_add_integer(ng_fields *to, const char *name, int64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    ng_add_json(to, name, text);
}

void ng_add_boolean(ng_fields *to, const char *name, bool value) { ng_add_json(to, name, value ? "true" : "false"); }

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* -- sending; the lock is held ---------------------------------------------------------------- */

static bool send_frames(void *socket, size_t count, const void *const frames[], const size_t sizes[]) {
    for (size_t n = 0; n < count; n++) {
        int flags = ZMQ_DONTWAIT | (n + 1 < count ? ZMQ_SNDMORE : 0);
        while (zmq_send(socket, frames[n], sizes[n], flags) < 0) {
            if (errno != EINTR) return false;
        }
    }
    return true;
}

static void append_heartbeat_head(ng_fields *to, ng_publisher *publisher, double interval) {
    ng_add_string(to, "incarnation", publisher->hex);
    ng_add_string(to, "name", publisher->name);
    ng_add_number(to, "interval", interval);
    if (publisher->router) ng_add_string(to, "replay", publisher->replay);
    else ng_add_json(to, "replay", "null");
    if (publisher->router && *publisher->public_key) ng_add_string(to, "replay_key", publisher->public_key);
}

static void send_heartbeat(const ng_link *link, const ng_fields *beat) {
    if (!beat->failed) send_frames(link->socket, 2, (const void *[]){"$heartbeat", beat->text}, (size_t[]){10, beat->length});
}

static void send_heartbeats(ng_publisher *publisher, const ng_link *link, double interval) {
    if (!publisher->heartbeat_seconds) return;
    const ng_topics *topics = &publisher->topics;
    size_t left = topics->count, bucket = 0;
    const ng_topic *topic = NULL;
    do {
        ng_fields beat = {0}, sequences = {0};
        append_heartbeat_head(&beat, publisher, interval);
        for (int n = 0; n < TOPICS_PER_HEARTBEAT && left; n++, left--) {
            while (!topic) topic = topics->buckets[bucket++];
            ng_add_integer(&sequences, topic->name, (int64_t)topic->sequence);
            topic = topic->next;
        }
        append_text(&sequences, sequences.length ? "}" : "{}");
        if (sequences.failed) beat.failed = true;
        else ng_add_json(&beat, "sequences", sequences.text);
        if (left) ng_add_boolean(&beat, "more", true);
        append_text(&beat, "}");
        send_heartbeat(link, &beat);
        free(beat.text);
        free(sequences.text);
    } while (left);
}

static void send_all_heartbeats(ng_publisher *publisher, double interval) {
    for (size_t n = 0; n < publisher->links_count; n++) send_heartbeats(publisher, &publisher->links[n], interval);
}

static void subscription(ng_link *link, const char *message, size_t size) {
    size_t found = 0;
    const char *prefix = message + 1;
    while (found < link->subscribed_count && strcmp(link->subscribed[found], prefix)) found++;
    if (message[0] == 1 && found == link->subscribed_count) {
        char **grown = realloc(link->subscribed, (found + 1) * sizeof *grown);
        if (grown) link->subscribed = grown;
        char *copy = grown ? strndup(prefix, size - 1) : NULL;
        if (copy) link->subscribed[link->subscribed_count++] = copy;
    } else if (message[0] == 0 && found < link->subscribed_count) {
        free(link->subscribed[found]);
        link->subscribed[found] = link->subscribed[--link->subscribed_count];
    }
}

/* Read subscriptions at an endpoint, and send new subscribers a heartbeat before the next event. */
static void welcome(ng_publisher *publisher, ng_link *link) {
    int events = 0;
    bool is_due = false;
    for (;;) {
        size_t size = sizeof events;
        if (zmq_getsockopt(link->socket, ZMQ_EVENTS, &events, &size) || !(events & ZMQ_POLLIN)) break;
        char message[512];
        int got = zmq_recv(link->socket, message, sizeof message - 1, ZMQ_DONTWAIT);
        if (got < 1 || got > (int)sizeof message - 1) continue;
        message[got] = 0;
        is_due = is_due || message[0] == 1;
        subscription(link, message, (size_t)got);
    }
    if (is_due) send_heartbeats(publisher, link, publisher->heartbeat_seconds);
}

static void welcome_subscribers(ng_publisher *publisher) {
    for (size_t n = 0; n < publisher->links_count; n++) welcome(publisher, &publisher->links[n]);
}

static ng_result hand_over(ng_publisher *publisher, const char *topic, const char *payload, size_t size) {
    if (publisher->closed) return refuse("this publisher is closed");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (now_ns - publisher->greeted_ns >= WELCOME_NS) { /* to look is a system call, and libzmq does not look more often */
        publisher->greeted_ns = now_ns;
        welcome_subscribers(publisher);
    }
    ng_topic *found = ng_topics_find(&publisher->topics, topic);
    if (!found) found = ng_topics_add(&publisher->topics, topic);
    if (!found) return refuse("%s: one topic too many, or no memory for it; a publisher numbers 100,000 of them", topic);
    found->sequence++;
    uint8_t envelope[NG_ENVELOPE_BYTES];
    ng_pack(envelope, publisher->heartbeat_seconds > 0, publisher->incarnation, found->sequence, now_ns);
    if (publisher->topics.messages_max) ng_topics_keep(&publisher->topics, found, payload, size, envelope);
    bool is_sent = true;
    for (size_t n = 0; n < publisher->links_count; n++) {
        is_sent &= send_frames(publisher->links[n].socket, 3, (const void *[]){topic, payload, envelope},
                               (size_t[]){strlen(topic), size, NG_ENVELOPE_BYTES});
    }
    ++*(is_sent ? &publisher->counts.published : &publisher->counts.dropped);
    return is_sent ? NG_SENT : NG_DROPPED;
}

/* -- publishing ------------------------------------------------------------------------------- */

ng_result ng_publish(ng_publisher *publisher, const char *topic, const char *json) {
    if (!ng_is_topic(topic)) {
        return refuse("\"%.200s\" is not a topic: segments of [A-Za-z0-9_-] joined by dots, at most 128 bytes", topic);
    }
    size_t size = strlen(json);
    if (size > publisher->payload_bytes_max) {
        return refuse("%s: %zu bytes of JSON exceed %zu: publish less at once, or raise payload_bytes_max here and "
                      "ingest.payload_bytes_max at the gateway", topic, size, publisher->payload_bytes_max);
    }
    if (!ng_is_json(json)) return refuse("%s: this is no JSON: %.100s", topic, json);
    pthread_mutex_lock(&publisher->lock);
    ng_result result = hand_over(publisher, topic, json, size);
    pthread_mutex_unlock(&publisher->lock);
    return result;
}

static size_t characters(const char *text) {
    size_t count = 0;
    for (; *text; text++) count += ((uint8_t)*text & 0xC0) != 0x80;
    return count;
}

static void append_now(ng_fields *to) {
    char now[40];
    struct timespec moment;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &moment);
    size_t length = strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%S", gmtime_r(&moment.tv_sec, &parts));
    snprintf(now + length, sizeof now - length, ".%06ldZ", moment.tv_nsec / 1000);
    ng_add_string(to, "timestamp", now);
}

ng_result ng_publish_event(ng_publisher *publisher, const char *topic, const char *event_type, const char *data,
                           const char *timestamp) {
    if (!*event_type || characters(event_type) > 128) {
        return refuse("event_type: \"%.200s\" is not text of 1 to 128 characters", event_type);
    }
    if (!ng_is_json(data)) return refuse("%.200s: this is no JSON: %.100s", topic, data);
    ng_fields event = {0};
    ng_add_string(&event, "event_type", event_type);
    if (timestamp) ng_add_string(&event, "timestamp", timestamp);
    else append_now(&event);
    ng_add_json(&event, "data", data);
    append_text(&event, "}");
    ng_result result = event.failed ? refuse("%s: no memory", topic) : ng_publish(publisher, topic, event.text);
    free(event.text);
    return result;
}

static void append_base64(ng_fields *to, const uint8_t *bytes, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t at = 0; at < size; at += 3) {
        size_t left = size - at;
        uint32_t number = (uint32_t)bytes[at] << 16 | (left > 1 ? (uint32_t)bytes[at + 1] << 8 : 0) | (left > 2 ? bytes[at + 2] : 0);
        char four[] = {digits[number >> 18], digits[number >> 12 & 63], left > 1 ? digits[number >> 6 & 63] : '=',
                       left > 2 ? digits[number & 63] : '='};
        append(to, four, sizeof four);
    }
}

ng_result ng_publish_bytes(ng_publisher *publisher, const char *topic, const void *bytes, size_t size, const char *content_type) {
    if (ng_is_standard(topic)) return refuse("%s: a standard channel has typed JSON; publish bytes on another topic", topic);
    ng_fields event = {0};
    append_now(&event);
    if (content_type) ng_add_string(&event, "content_type", content_type);
    append_name(&event, "data_base64");
    append_text(&event, "\"");
    append_base64(&event, bytes, size);
    append_text(&event, "\"}");
    ng_result result = event.failed ? refuse("%.200s: no memory", topic) : ng_publish(publisher, topic, event.text);
    free(event.text);
    return result;
}

static ng_result publish_fields(ng_publisher *publisher, const char *topic, const char *prefix, const char *kind,
                                ng_fields *own, ng_fields *fields) {
    char event_type[256];
    snprintf(event_type, sizeof event_type, "%s%s", prefix, kind);
    bool failed = own->failed || (fields && fields->failed);
    if (fields && fields->length) {
        append_text(own, own->length ? "," : "{");
        append_text(own, fields->text + 1);
    }
    append_text(own, own->length ? "}" : "{}");
    ng_result result = failed || own->failed ? refuse("%s: a field is a number that is not finite, or there is no memory", topic)
                                             : ng_publish_event(publisher, topic, event_type, own->text, NULL);
    free(own->text);
    if (fields) {
        free(fields->text);
        *fields = (ng_fields){0};
    }
    return result;
}

ng_result ng_metrics(ng_publisher *publisher, ng_fields *fields) {
    ng_fields own = {0};
    return publish_fields(publisher, "metrics", "system_metrics", "", &own, fields);
}

ng_result ng_signal(ng_publisher *publisher, const char *kind, ng_fields *fields) {
    ng_fields own = {0};
    char event_type[256];
    snprintf(event_type, sizeof event_type, "signal.%s", kind);
    ng_add_string(&own, "event_type", event_type);
    return publish_fields(publisher, "signals", "signal.", kind, &own, fields);
}

ng_result ng_action(ng_publisher *publisher, const char *kind, ng_fields *fields) {
    ng_fields own = {0};
    ng_add_string(&own, "action_type", kind);
    return publish_fields(publisher, "actions", "action.", "executed", &own, fields);
}

ng_result ng_log(ng_publisher *publisher, const char *level, const char *message, ng_fields *fields) {
    ng_fields own = {0};
    char lower[129] = "";
    for (size_t n = 0; level[n] && n < 128; n++) lower[n] = level[n] >= 'A' && level[n] <= 'Z' ? level[n] + 32 : level[n];
    ng_add_string(&own, "level", level);
    ng_add_string(&own, "message", message);
    return publish_fields(publisher, "logs", "log.", lower, &own, fields);
}

ng_result ng_status(ng_publisher *publisher, const char *state, ng_fields *fields) {
    ng_fields own = {0};
    ng_add_string(&own, "status", state);
    return publish_fields(publisher, "status", "status.", state, &own, fields);
}

ng_result ng_connection(ng_publisher *publisher, const char *change, const char *client_id, ng_fields *fields) {
    ng_fields own = {0};
    ng_add_string(&own, "client_id", client_id);
    return publish_fields(publisher, "connections", "client.", change, &own, fields);
}

bool ng_wait_for_subscriber(ng_publisher *publisher, double seconds) {
    double deadline = seconds_now() + seconds;
    for (;;) {
        pthread_mutex_lock(&publisher->lock);
        if (!publisher->closed) welcome_subscribers(publisher);
        bool is_there = true;
        for (size_t n = 0; n < publisher->links_count; n++) is_there = is_there && publisher->links[n].subscribed_count > 0;
        pthread_mutex_unlock(&publisher->lock);
        if (is_there || seconds_now() >= deadline) return is_there;
        usleep(5000);
    }
}

ng_counts ng_count(ng_publisher *publisher) {
    pthread_mutex_lock(&publisher->lock);
    ng_counts counts = publisher->counts;
    pthread_mutex_unlock(&publisher->lock);
    return counts;
}

const char *ng_incarnation(const ng_publisher *publisher) { return publisher->hex; }
const char *ng_endpoint(const ng_publisher *publisher) { return publisher->endpoint; }
const char *ng_replay(const ng_publisher *publisher) { return publisher->router ? publisher->replay : NULL; }

/* -- the thread: heartbeats, replay, CURVE ----------------------------------------------------- */

static bool receive_part(void *socket, zmq_msg_t *part) {
    zmq_msg_init(part);
    if (zmq_msg_recv(part, socket, ZMQ_DONTWAIT) >= 0) return true;
    zmq_msg_close(part);
    return false;
}

/* Read a message's first parts, and discard further ones; return the number of parts, 0 if there is no message. */
static size_t receive(void *socket, zmq_msg_t parts[], size_t room) {
    size_t count = 0;
    bool is_more = true;
    while (is_more) {
        zmq_msg_t part;
        if (!receive_part(socket, &part)) break;
        is_more = zmq_msg_more(&part);
        if (count < room) parts[count] = part;
        else zmq_msg_close(&part);
        count++;
    }
    return count;
}

static void close_parts(zmq_msg_t parts[], size_t count) {
    for (size_t n = 0; n < count; n++) zmq_msg_close(&parts[n]);
}

/* Answer a request; frames are collected under the lock, so that publishing waits only for that. */
static void answer(ng_publisher *publisher, const zmq_msg_t *asker, const ng_request *request) {
    uint8_t number[8], incarnation[8];
    ng_put_u64(number, request->number);
    ng_put_u64(incarnation, publisher->incarnation);
    const void *head[] = {zmq_msg_data((zmq_msg_t *)asker), "NGR1", number, incarnation};
    size_t sizes[] = {zmq_msg_size(asker), 4, 8, 8};
    zmq_msg_t pairs[2 * PAIRS_PER_REPLY];
    size_t count = 0;
    pthread_mutex_lock(&publisher->lock);
    const ng_topic *topic = ng_topics_find(&publisher->topics, request->topic);
    if (topic && topic->count) {
        uint64_t oldest = topic->sequence - topic->count + 1, left = REPLY_BYTES;
        uint64_t first = request->first > oldest ? request->first : oldest;
        uint64_t last = request->last < topic->sequence ? request->last : topic->sequence;
        for (uint64_t n = first; n <= last && count < 2 * PAIRS_PER_REPLY; n++) {
            const ng_message *message = ng_topic_get(topic, n);
            if (count && message->size > left) break;
            left -= message->size < left ? message->size : left;
            if (zmq_msg_init_size(&pairs[count], message->size)) break;
            memcpy(zmq_msg_data(&pairs[count++]), message->payload, message->size);
            zmq_msg_init_size(&pairs[count], NG_ENVELOPE_BYTES);
            memcpy(zmq_msg_data(&pairs[count++]), message->envelope, NG_ENVELOPE_BYTES);
        }
    }
    publisher->counts.replayed++;
    pthread_mutex_unlock(&publisher->lock);
    size_t sent = 0;
    bool is_going = true;
    for (size_t n = 0; n < 4 && is_going; n++) {
        int flags = ZMQ_DONTWAIT | (n < 3 || count ? ZMQ_SNDMORE : 0);
        is_going = zmq_send(publisher->router, head[n], sizes[n], flags) >= 0; /* the asker is gone, or does not read */
    }
    while (is_going && sent < count) {
        int flags = ZMQ_DONTWAIT | (sent + 1 < count ? ZMQ_SNDMORE : 0);
        if (zmq_msg_send(&pairs[sent], publisher->router, flags) < 0) break;
        sent++;
    }
    close_parts(pairs + sent, count - sent);
}

static void serve_router(ng_publisher *publisher) {
    zmq_msg_t parts[5];
    size_t count;
    while ((count = receive(publisher->router, parts, 5))) {
        const uint8_t *frames[4];
        size_t sizes[4];
        size_t known = count < 5 ? count : 5;
        for (size_t n = 1; n < known; n++) {
            frames[n - 1] = zmq_msg_data(&parts[n]);
            sizes[n - 1] = zmq_msg_size(&parts[n]);
        }
        ng_request request;
        if (ng_parse_request(&request, count - 1, frames, sizes)) answer(publisher, &parts[0], &request);
        close_parts(parts, known);
    }
}

/* Answer ZeroMQ's requests whether a gateway may connect (ZAP, ZeroMQ RFC 27): the ninth frame is its key. */
static void serve_guard(ng_publisher *publisher) {
    zmq_msg_t parts[9];
    size_t count;
    while ((count = receive(publisher->guard, parts, 9))) {
        char key[41] = "";
        bool is_known = false;
        if (count == 9 && zmq_msg_size(&parts[8]) == 32) zmq_z85_encode(key, zmq_msg_data(&parts[8]), 32);
        for (size_t n = 0; n < publisher->gateways_count; n++) is_known = is_known || !strcmp(key, publisher->gateways[n]);
        for (size_t n = 0; n < 4 && count >= 4; n++) zmq_send(publisher->guard, zmq_msg_data(&parts[n]), zmq_msg_size(&parts[n]), ZMQ_SNDMORE);
        zmq_send(publisher->guard, is_known ? "200" : "400", 3, ZMQ_SNDMORE);
        zmq_send(publisher->guard, is_known ? "OK" : "unknown key", is_known ? 2 : 11, ZMQ_SNDMORE);
        zmq_send(publisher->guard, "", 0, ZMQ_SNDMORE);
        zmq_send(publisher->guard, "", 0, 0);
        if (!is_known) {
            pthread_mutex_lock(&publisher->lock);
            publisher->counts.refused++;
            pthread_mutex_unlock(&publisher->lock);
        }
        close_parts(parts, count < 9 ? count : 9);
    }
}

static void read_monitor(ng_publisher *publisher, ng_link *link) {
    zmq_msg_t parts[2];
    size_t count;
    while ((count = receive(link->monitor, parts, 2))) {
        uint16_t event = 0;
        if (zmq_msg_size(&parts[0]) >= sizeof event) memcpy(&event, zmq_msg_data(&parts[0]), sizeof event);
        close_parts(parts, count < 2 ? count : 2);
        if (event & FAILED_EVENTS) publisher->counts.refused++;
        link->given_up = event == ZMQ_EVENT_DISCONNECTED ? seconds_now() : 0;
        if (event == ZMQ_EVENT_CONNECTED || event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) link->speaks_zmtp = event != ZMQ_EVENT_CONNECTED;
    }
}

/* Connect again if libzmq has stopped trying, as it does when the other end refuses a handshake; under the lock. */
static void mend(ng_publisher *publisher, ng_link *link) {
    read_monitor(publisher, link);
    if (link->given_up && seconds_now() - link->given_up >= 1) {
        link->given_up = 0;
        zmq_disconnect(link->socket, link->asked);
        zmq_connect(link->socket, link->asked);
    }
}

static void *attend(void *argument) {
    ng_publisher *publisher = argument;
    zmq_pollitem_t items[3 + LINKS_MAX] = {{.fd = publisher->wake[0], .events = ZMQ_POLLIN}};
    int count = 1;
    /* Other threads use the XPUBs: this one waits for their descriptors. Sending a message can reset a descriptor
     * unnoticed; so the next call, or this loop within a second, checks the socket itself. */
    for (size_t n = 0; n < publisher->links_count; n++) items[count++] = (zmq_pollitem_t){.fd = publisher->links[n].fd, .events = ZMQ_POLLIN};
    if (publisher->router) items[count++] = (zmq_pollitem_t){.socket = publisher->router, .events = ZMQ_POLLIN};
    if (publisher->guard) items[count++] = (zmq_pollitem_t){.socket = publisher->guard, .events = ZMQ_POLLIN};
    double interval = publisher->heartbeat_seconds ? publisher->heartbeat_seconds : 1e9;
    double due = seconds_now() + interval;
    for (;;) {
        double wait = fmin(fmax(due - seconds_now(), 0), 1);
        zmq_poll(items, count, (long)ceil(wait * 1000));
        if (publisher->guard) serve_guard(publisher);
        pthread_mutex_lock(&publisher->lock);
        if (publisher->closed) break;
        welcome_subscribers(publisher);
        for (size_t n = 0; n < publisher->links_count; n++) {
            if (publisher->links[n].monitor) mend(publisher, &publisher->links[n]);
        }
        if (seconds_now() >= due) {
            send_all_heartbeats(publisher, interval);
            due = fmax(due + interval, seconds_now());
        }
        pthread_mutex_unlock(&publisher->lock);
        if (publisher->router) serve_router(publisher);
    }
    pthread_mutex_unlock(&publisher->lock);
    return NULL;
}

/* -- opening and closing ------------------------------------------------------------------------ */

static void set(void *socket, int option, int value) { zmq_setsockopt(socket, option, &value, sizeof value); }

static bool serve_curve(void *socket, const ng_curve *curve) {
    set(socket, ZMQ_CURVE_SERVER, 1);
    return !zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, "bus", 3) &&
           !zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, curve->secret_key, 41);
}

static bool approach_curve(void *socket, const ng_curve *curve) {
    return curve->gateways_count == 1 && !zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, curve->gateways[0], 41) &&
           !zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, curve->public_key, 41) &&
           !zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, curve->secret_key, 41);
}

static bool open_curve(ng_publisher *publisher, const ng_curve *curve) {
    publisher->gateways = calloc(curve->gateways_count + 1, sizeof *publisher->gateways);
    publisher->guard = zmq_socket(publisher->context, ZMQ_ROUTER);
    if (!publisher->gateways || !publisher->guard) return false;
    for (; publisher->gateways_count < curve->gateways_count; publisher->gateways_count++) {
        snprintf(publisher->gateways[publisher->gateways_count], 41, "%s", curve->gateways[publisher->gateways_count]);
    }
    snprintf(publisher->public_key, 41, "%s", curve->public_key);
    set(publisher->guard, ZMQ_LINGER, 0);
    return !zmq_bind(publisher->guard, "inproc://zeromq.zap.01");
}

static bool open_router(ng_publisher *publisher, const ng_options *options, int linger) {
    size_t size = sizeof publisher->replay;
    publisher->router = zmq_socket(publisher->context, ZMQ_ROUTER);
    if (!publisher->router) return false;
    int64_t request_bytes_max = 65536;
    zmq_setsockopt(publisher->router, ZMQ_MAXMSGSIZE, &request_bytes_max, sizeof request_bytes_max);
    set(publisher->router, ZMQ_LINGER, linger);
    set(publisher->router, ZMQ_SNDHWM, 32);
    set(publisher->router, ZMQ_ROUTER_MANDATORY, 1); /* otherwise a reply that cannot be queued is dropped silently */
    if (options->curve && !serve_curve(publisher->router, options->curve)) return false;
    if (zmq_bind(publisher->router, options->replay_endpoint)) return false;
    zmq_getsockopt(publisher->router, ZMQ_LAST_ENDPOINT, publisher->replay, &size);
    if (options->replay_address) snprintf(publisher->replay, sizeof publisher->replay, "%s", options->replay_address);
    return true;
}

static bool open_link(ng_publisher *publisher, const ng_options *options, const char *address, int linger) {
    ng_link *link = &publisher->links[publisher->links_count++];
    char monitor[32];
    snprintf(monitor, sizeof monitor, "inproc://monitor-%zu", publisher->links_count);
    snprintf(link->asked, sizeof link->asked, "%s", address);
    link->socket = zmq_socket(publisher->context, ZMQ_XPUB);
    if (!link->socket) return false;
    set(link->socket, ZMQ_SNDHWM, options->high_water_mark);
    set(link->socket, ZMQ_LINGER, linger);
    /* Without NODROP a socket at its high-water mark drops messages silently; without VERBOSE a second subscriber to the
     * same topics, or one that subscribes again, is not noticed. */
    set(link->socket, ZMQ_XPUB_NODROP, 1);
    set(link->socket, ZMQ_XPUB_VERBOSE, 1);
    /* With a domain, libzmq refuses what does not speak ZMTP 2 or later. Otherwise it assumes ZMTP 1, which has no
     * subscriptions, and makes one; it aborts the process if the socket is just being closed. */
    zmq_setsockopt(link->socket, ZMQ_ZAP_DOMAIN, "bus", 3);
    if (options->curve && !(options->bind ? serve_curve : approach_curve)(link->socket, options->curve)) return false;
    if (options->connect) {
        int events = FAILED_EVENTS | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_CONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
        link->monitor = zmq_socket(publisher->context, ZMQ_PAIR);
        if (!link->monitor || zmq_socket_monitor(link->socket, monitor, events)) return false;
        if (zmq_connect(link->monitor, monitor)) return false;
    }
    if ((options->connect ? zmq_connect : zmq_bind)(link->socket, address)) return false;
    size_t fd_size = sizeof link->fd;
    return !zmq_getsockopt(link->socket, ZMQ_FD, &link->fd, &fd_size);
}

static bool open_links(ng_publisher *publisher, const ng_options *options, int linger) {
    publisher->links = calloc(1 + options->also_connect_count, sizeof *publisher->links);
    if (!publisher->links || !open_link(publisher, options, options->connect ? options->connect : options->bind, linger)) return false;
    size_t size = sizeof publisher->endpoint;
    zmq_getsockopt(publisher->links[0].socket, ZMQ_LAST_ENDPOINT, publisher->endpoint, &size);
    for (size_t n = 0; n < options->also_connect_count; n++) {
        if (!open_link(publisher, options, options->also_connect[n], linger)) return false;
    }
    return true;
}

ng_options ng_defaults(void) {
    return (ng_options){
        .high_water_mark = 100000,
        .payload_bytes_max = 1048576,
        .linger_seconds = 1,
        .heartbeat_seconds = 1,
        .replay_endpoint = "tcp://127.0.0.1:*",
    };
}

static const char *given_twice(const ng_options *options) {
    for (size_t n = 0; n < options->also_connect_count; n++) {
        bool is_first = options->connect && !strcmp(options->also_connect[n], options->connect);
        for (size_t before = 0; before < n; before++) is_first = is_first || !strcmp(options->also_connect[n], options->also_connect[before]);
        if (is_first) return options->also_connect[n];
    }
    return NULL;
}

static bool check(const ng_options *options) {
    const char *twice = given_twice(options);
    if (!options->connect == !options->bind) refuse("give either connect or bind");
    else if (options->bind && options->also_connect_count) refuse("also_connect: further gateways go with connect, not with bind");
    else if (options->also_connect_count >= LINKS_MAX) refuse("also_connect: %zu gateways are more than %d", options->also_connect_count, LINKS_MAX - 1);
    else if (twice) refuse("also_connect: %s is given twice; its gateway would get each event twice", twice);
    else if (!(options->heartbeat_seconds >= 0 && options->heartbeat_seconds <= 3600)) refuse("heartbeat_seconds: %g is not within 0 to 3600", options->heartbeat_seconds);
    else if (!(options->linger_seconds >= 0 && options->linger_seconds <= 3600)) refuse("linger_seconds: %g is not within 0 to 3600", options->linger_seconds);
    else if (options->replay && !options->heartbeat_seconds) refuse("replay: heartbeats say where to ask; heartbeat_seconds is 0");
    else if (options->name && (characters(options->name) > NAME_MAX_BYTES || !*options->name)) refuse("name: \"%s\" is not 1 to 64 characters", options->name);
    else return true;
    return false;
}

ng_publisher *ng_open(const ng_options *options) {
    if (!check(options)) return NULL;
    ng_publisher *publisher = calloc(1, sizeof *publisher);
    if (!publisher || getrandom(&publisher->incarnation, 8, 0) != 8) {
        free(publisher);
        refuse("no memory, or no random numbers");
        return NULL;
    }
    char host[48] = "";
    gethostname(host, sizeof host - 1);
    pthread_mutex_init(&publisher->lock, NULL);
    publisher->wake[0] = publisher->wake[1] = -1;
    publisher->heartbeat_seconds = options->heartbeat_seconds;
    publisher->payload_bytes_max = options->payload_bytes_max;
    publisher->topics.messages_max = options->replay;
    snprintf(publisher->hex, sizeof publisher->hex, "%016llx", (unsigned long long)publisher->incarnation);
    if (options->name) snprintf(publisher->name, sizeof publisher->name, "%s", options->name);
    else snprintf(publisher->name, sizeof publisher->name, "%s:%d", host, (int)getpid());
    publisher->context = zmq_ctx_new();
    int linger = (int)round(options->linger_seconds * 1000);
    if ((options->curve && !open_curve(publisher, options->curve)) || (options->replay && !open_router(publisher, options, linger)) ||
        !open_links(publisher, options, linger) || pipe2(publisher->wake, O_CLOEXEC) ||
        pthread_create(&publisher->thread, NULL, attend, publisher)) {
        const char *address = options->connect ? options->connect : options->bind;
        if (publisher->links_count) address = publisher->links[publisher->links_count - 1].asked;
        refuse("%s: %s", address, zmq_strerror(errno));
        ng_close(publisher);
        return NULL;
    }
    publisher->has_thread = true;
    return publisher;
}

static void close_link(ng_publisher *publisher, ng_link *link) {
    if (link->monitor) {
        /* Send nothing if the other end does not speak ZMTP: libzmq must not connect to it again to send messages. */
        read_monitor(publisher, link);
        if (!link->speaks_zmtp) set(link->socket, ZMQ_LINGER, 0);
        zmq_socket_monitor(link->socket, NULL, 0);
        set(link->monitor, ZMQ_LINGER, 0);
        zmq_close(link->monitor);
    }
    if (link->socket) zmq_close(link->socket);
    while (link->subscribed_count) free(link->subscribed[--link->subscribed_count]);
    free(link->subscribed);
}

void ng_close(ng_publisher *publisher) {
    pthread_mutex_lock(&publisher->lock);
    if (publisher->has_thread) {
        welcome_subscribers(publisher);
        send_all_heartbeats(publisher, 0);
    }
    publisher->closed = true;
    pthread_mutex_unlock(&publisher->lock);
    if (publisher->has_thread) {
        while (write(publisher->wake[1], "", 1) < 0 && errno == EINTR) continue;
        pthread_join(publisher->thread, NULL);
    }
    for (size_t n = 0; n < publisher->links_count; n++) close_link(publisher, &publisher->links[n]);
    free(publisher->links);
    if (publisher->router) zmq_close(publisher->router);
    if (publisher->guard) zmq_close(publisher->guard);
    while (zmq_ctx_term(publisher->context) && errno == EINTR) continue;
    for (size_t n = 0; n < 2; n++) {
        if (publisher->wake[n] >= 0) close(publisher->wake[n]);
    }
    free(publisher->gateways);
    ng_topics_free(&publisher->topics);
    pthread_mutex_destroy(&publisher->lock);
    free(publisher);
}

static bool find_key(const char *line, const char *name, char key[41]) {
    const char *at = strstr(line, name);
    const char *begin = at ? strchr(at, '"') : NULL;
    if (!begin || strlen(begin) < 42 || begin[41] != '"') return false;
    memcpy(key, begin + 1, 40);
    key[40] = 0;
    return true;
}

bool ng_read_keys(const char *path, char public_key[41], char secret_key[41]) {
    char line[512];
    FILE *file = fopen(path, "r");
    *public_key = *secret_key = 0;
    while (file && fgets(line, sizeof line, file)) {
        if (strspn(line, " \t") < strcspn(line, "#")) {
            find_key(line, "public-key", public_key);
            find_key(line, "secret-key", secret_key);
        }
    }
    if (file) fclose(file);
    if (!*public_key) refuse("%s holds no CURVE key", path);
    return *public_key;
}
