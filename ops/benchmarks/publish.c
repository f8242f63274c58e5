// The publisher: the same events to any server, at a given rate.
//
//   publish zmtp PORT [option …]      a ZeroMQ PUB that binds PORT
//   publish nats|mqtt|http PORT …     to a server's own port; http posts to --path
//
//   --topic NAME (metrics)   --topics N (1; above 1 they are NAME.0, NAME.1, … in turn)
//   --size BYTES (200)       --path /pub
//
// Commands on standard input: `run RATE COUNT` (events per second; one JSON line when done), `quit`.
// All due events are written at once. The time in an event is when it was due, not when it was sent: so a
// publisher that is late does not hide latency.
#define _GNU_SOURCE
#include "zmtp.h"

#include <endian.h>
#include <poll.h>
#include <sys/prctl.h>

enum { TOPICS_MAX = 1000, PEERS_MAX = 16, OUT_BYTES = 1 << 20, HTTP_PEERS = 8 };

typedef struct {
    int fd;
    uint8_t in[1024];
    size_t have, skip;
    int follows;
} Peer;

static const char *kind, *topic = "metrics", *path = "/pub";
static int topics = 1, size = 200, port, listener = -1, peers;
static Peer peer[PEERS_MAX];
static uint8_t *out;
static char *json, *pad;
static size_t pending, room;
static uint64_t numbers[TOPICS_MAX], number, incarnation;

// -- the event ---------------------------------------------------------------------------------

static size_t write_json(int64_t due) {
    static const char form[] =
        "{\"event_type\":\"system_metrics\",\"timestamp\":\"2026-01-01T00:00:00.000000Z\","
        "\"data\":{\"cpu_percent\":%d.0,\"memory_mb\":2048.5,\"pad\":\"%.*s\",\"t\":%lld,\"seq\":%lld}}";
    int odd = (number / topics) & 1, length = 0;
    for (int fill = 0, twice = 0; twice < 2; twice++) {
        length = sprintf(json, form, odd ? 75 : 25, fill, pad, (long long)(T_BASE + due),
                         (long long)(SEQ_BASE + number));
        fill = size > length ? size - length : 0;
    }
    return length;
}

static size_t write_zmtp(uint8_t *at, const char *name, size_t length, uint64_t nth) {
    uint8_t envelope[32] = "NGE1";
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t words[] = {htobe64(incarnation), htobe64(nth),
                        htobe64(t.tv_sec * 1000000000ull + t.tv_nsec)};
    memcpy(envelope + 8, words, sizeof words);
    size_t n = zmtp_write(at, ZMTP_MORE, name, strlen(name));
    n += zmtp_write(at + n, ZMTP_MORE, json, length);
    return n + zmtp_write(at + n, 0, envelope, sizeof envelope);
}

static size_t write_mqtt(uint8_t *at, const char *name, size_t length) {
    size_t named = strlen(name), left = 2 + named + length, n = 0;
    at[n++] = 0x30;
    do {
        at[n++] = (left & 127) | (left > 127 ? 128 : 0);
        left >>= 7;
    } while (left);
    at[n++] = named >> 8;
    at[n++] = named;
    memcpy(at + n, name, named);
    memcpy(at + n + named, json, length);
    return n + named + length;
}

static size_t write_event(uint8_t *at, int64_t due) {
    char name[160];
    int which = number % topics;
    if (topics > 1)
        snprintf(name, sizeof name, "%s.%d", topic, which);
    else
        snprintf(name, sizeof name, "%s", topic);
    number++;
    size_t length = write_json(due);
    uint64_t nth = ++numbers[which];
    switch (kind[0]) {
    case 'z': return write_zmtp(at, name, length, nth);
    case 'm': return write_mqtt(at, name, length);
    case 'n': return sprintf((char *)at, "PUB %s %zu\r\n%s\r\n", name, length, json);
    default:
        return sprintf((char *)at,
                       "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
                       "Content-Length: %zu\r\n\r\n%s", path, length, json);
    }
}

// -- connections -------------------------------------------------------------------------------

static void drop(int i) {
    close(peer[i].fd);
    peer[i] = peer[--peers];
}

// Reads a subscriber's greeting, subscriptions and pings. Returns 0 if it is gone.
static int hear(Peer *one) {
    ssize_t got = recv(one->fd, one->in + one->have, sizeof one->in - one->have, MSG_DONTWAIT);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    one->have += got;
    size_t at = one->have < one->skip ? one->have : one->skip, used;
    one->skip -= at;
    for (Frame frame; (used = zmtp_read(one->in + at, one->have - at, &frame)); at += used) {
        zmtp_pong(one->fd, &frame);
        if (!(frame.flags & ZMTP_COMMAND) && frame.size) one->follows = frame.body[0] == 1;
    }
    one->have -= at;
    memmove(one->in, one->in + at, one->have);
    return 1;
}

// Accepts and reads connections: once, or until there is a command.
static void attend(int milliseconds, int until_command) {
    int heard = kind[0] == 'h' ? 0 : peers;  // answers to posts are read where the next is sent
    for (;; heard = kind[0] == 'h' ? 0 : peers) {
        struct pollfd at[PEERS_MAX + 2] = {{until_command ? 0 : -1, POLLIN, 0}, {listener, POLLIN, 0}};
        for (int i = 0; i < heard; i++) at[i + 2] = (struct pollfd){peer[i].fd, POLLIN, 0};
        poll(at, heard + 2, milliseconds);
        for (int i = heard - 1; i >= 0; i--)
            if (at[i + 2].revents && !hear(&peer[i])) drop(i);
        if (at[1].revents && peers < PEERS_MAX) {
            int fd = accept(listener, NULL, NULL);
            no_delay(fd);
            peer[peers++] = (Peer){.fd = fd, .skip = ZMTP_GREETING};
            zmtp_greet(fd, "PUB");
        }
        if (!until_command || at[0].revents) return;
    }
}

static void flush(void) {
    for (int i = peers - 1; pending && i >= 0; i--)
        if (peer[i].follows && send_all(peer[i].fd, out, pending)) drop(i);
    pending = 0;
}

// One request at a time on each of several connections.
static void post(int64_t due) {
    static int next;
    static char answer[4096];
    Peer *one = &peer[next++ % HTTP_PEERS];
    if (one->have && recv(one->fd, answer, sizeof answer, 0) <= 0) die("post");
    if (one->have && strncmp(answer, "HTTP/1.1 20", 11)) die(answer);
    one->have = 1;
    if (send_all(one->fd, out, write_event(out, due))) die("post");
}

static void greet_server(void) {
    static const char nats[] = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
    static const uint8_t mqtt[] = "\x10\x0f\0\4MQTT\4\2\0\0\0\3pub";
    for (peers = 0; peers < (kind[0] == 'h' ? HTTP_PEERS : 1); peers++)
        peer[peers] = (Peer){.fd = dial(port), .follows = kind[0] != 'h'};
    if (kind[0] == 'n') send_all(peer[0].fd, nats, sizeof nats - 1);
    if (kind[0] == 'm') send_all(peer[0].fd, mqtt, sizeof mqtt - 1);
    if (kind[0] != 'h') peer[0].skip = SIZE_MAX;  // what these servers say is no ZMTP
}

// -- a run -------------------------------------------------------------------------------------

static void emit(int64_t due) {
    if (kind[0] == 'h') {
        post(due);
        return;
    }
    pending += write_event(out + pending, due);
    if (pending > OUT_BYTES) flush();
}

static void run(double rate, uint64_t count) {
    double cpu = cpu_seconds(), gap = 1e9 / rate;
    int64_t start = now_ns(), now = start, late = 0, heard = start;
    for (uint64_t i = 0; i < count; i++) {
        int64_t due = start + (int64_t)(i * gap);
        if (now < due) now = now_ns();
        if (now < due) {
            flush();
            struct timespec until = {due / 1000000000, due % 1000000000};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
            now = now_ns();
        }
        if (now - heard > 10000000 && kind[0] != 'h') {
            attend(0, 0);
            heard = now;
        }
        if (now - due > late) late = now - due;
        emit(due);
    }
    flush();
    double seconds = (now_ns() - start) / 1e9 + gap / 1e9;
    printf("{\"published\":%lu,\"rate\":%.1f,\"late_ms\":%.2f,\"cpu_s\":%.4f}\n", count,
           count / seconds, late / 1e6, cpu_seconds() - cpu);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 3 || argc % 2 == 0) return fprintf(stderr, "publish KIND PORT [option …]\n"), 2;
    kind = argv[1];
    port = atoi(argv[2]);
    for (int i = 3; i < argc; i += 2) {
        if (!strcmp(argv[i], "--topic")) topic = argv[i + 1];
        if (!strcmp(argv[i], "--topics")) topics = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--size")) size = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--path")) path = argv[i + 1];
    }
    prctl(PR_SET_TIMERSLACK, 1000);
    room = size + 1024;
    out = malloc(OUT_BYTES + room);
    json = malloc(room);
    pad = malloc(room);
    memset(pad, 'x', room);
    incarnation = now_ns();
    if (kind[0] == 'z')
        listener = listen_on(port);
    else
        greet_server();
    printf("{\"ready\":true}\n");
    fflush(stdout);
    setvbuf(stdin, NULL, _IONBF, 0);
    for (char line[256];;) {
        double rate;
        unsigned long count;
        attend(-1, 1);
        if (!fgets(line, sizeof line, stdin) || !strncmp(line, "quit", 4)) return 0;
        if (sscanf(line, "run %lf %lu", &rate, &count) == 2) run(rate, count);
    }
}
