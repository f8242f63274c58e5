// The load: many WebSocket clients in one thread, far cheaper than any server.
//
//   load PORT [option …]
//
//   --path /ws      --protocol NAME (Sec-WebSocket-Protocol)
//   --text MESSAGE  sent after the upgrade; given N times, client i sends the one numbered i mod N
//   --hex BYTES     sent as one binary message instead
//   --extensions OFFER (Sec-WebSocket-Extensions); each compressed message counts as an event, and is not decoded
//   --inside        a message may hold several events, or more than an event's JSON
//   --partial       clients don't get every event: their sequence is not checked
//
// Commands on standard input, each answered with one JSON line:
//   connect N PARALLEL       open N more clients, so many at a time
//   nap MICROSECONDS         from now on sleep between rounds of reading: cheaper, that much later
//   reset                    count from 0
//   wait COUNT QUIET_MS MAX_MS     until every client has COUNT events, or none came for QUIET_MS
//   quit
//
// Of an event only the two numbers at its end are read (see common.h): its sequence always, its time of
// some. A client's sequence must grow by one with each event; what does not is a fault.
#define _GNU_SOURCE
#include "common.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

enum { READ_BYTES = 256 << 10, BUFFER_BYTES = 8 << 20, TEXTS_MAX = 1000, TRACKED = 8192, FINE = 64 };
typedef enum { NEW, CONNECTING, UPGRADING, OPEN, CLOSED } State;

typedef struct {
    int fd;
    State state;
    uint32_t kept_size, kept_room;
    uint8_t *kept;  // the part of a message that has arrived
    int64_t last, began;
    uint64_t events;
} Client;

typedef struct {
    uint64_t buckets[64 * FINE], count;
    int64_t max;
} Histogram;

static int port, epoll, inside, partial, text_count, count, opened, closed, failed, nap;
static const char *path = "/ws", *protocol, *extensions, *texts[TEXTS_MAX], *hex;
static Client *clients;
static uint8_t *buffer;
static Histogram latency, handshake;
static uint64_t events, bytes, reads, faults, others;
static int64_t first_at, last_at, base, tracked_last[TRACKED];
static uint32_t tracked_count[TRACKED];
static double cpu_before;

// -- latencies: FINE buckets to each power of two ----------------------------------------------

static void note(Histogram *of, int64_t ns) {
    uint64_t v = ns > FINE ? ns : FINE;
    int power = 63 - __builtin_clzll(v);
    of->buckets[power * FINE + ((v >> (power - 6)) & (FINE - 1))]++;
    of->count++;
    if (ns > of->max) of->max = ns;
}

static double quantile_ms(const Histogram *of, double q) {
    uint64_t wanted = of->count * q, seen = 0;
    for (int i = 0; of->count && i < 64 * FINE; i++)
        if ((seen += of->buckets[i]) > wanted)
            return (1ull << (i / FINE)) * (1 + (i % FINE + 0.5) / FINE) / 1e6;
    return of->max / 1e6;
}

// -- received messages -------------------------------------------------------------------------

static int64_t digits(const uint8_t *at, int n) {
    int64_t value = 0;
    while (n--) value = value * 10 + (*at++ - '0');
    return value;
}

// Counts the event whose sequence number begins at `at`.
static void take_event(Client *client, const uint8_t *at, int64_t now) {
    static uint32_t turn;
    int64_t seq = digits(at, SEQ_DIGITS), nth;
    if (!partial && client->last && seq != client->last + 1) faults++;
    client->last = seq;
    client->events++;
    if (!events++) first_at = now, base = seq;
    nth = seq - base;
    int tracked = nth >= 0 && nth < TRACKED;
    if (!tracked && ++turn % 7) return;
    int64_t late = now - (digits(at - 7 - T_DIGITS, T_DIGITS) - T_BASE);
    note(&latency, late);
    if (!tracked) return;
    tracked_count[nth]++;
    if (late > tracked_last[nth]) tracked_last[nth] = late;
}

static void take_compressed(Client *client, int64_t now) {
    client->events++;
    if (!events++) first_at = now;
}

static void take_message(Client *client, const uint8_t *at, size_t size, int64_t now) {
    static const char mark[] = "\"seq\":";
    const uint8_t *end = at + size, *found = end - 2 - SEQ_DIGITS - 6;
    if (!inside && size > 60 && !memcmp(found, mark, 6)) {
        take_event(client, found + 6, now);
        return;
    }
    others++;
    while (inside && (found = memmem(at, end - at, mark, 6))) {
        take_event(client, found + 6, now);
        at = found + 6;
    }
}

static void send_frame(int fd, int opcode, const void *payload, size_t size) {
    uint8_t frame[4096 + 8] = {0x80 | opcode, 0x80 | (size < 126 ? size : 126)};
    size_t head = size < 126 ? 2 : 4;
    if (size > 4096) exit(3);
    if (head == 4) frame[2] = size >> 8, frame[3] = size;
    memcpy(frame + head + 4, payload, size);  // behind a mask of 0
    send_all(fd, frame, head + 4 + size);
}

// Reads the messages that begin at `at`; returns the bytes that were whole.
static size_t take_messages(Client *client, const uint8_t *at, size_t have, int64_t now) {
    const uint8_t *start = at, *end = at + have;
    while (end - at >= 2) {
        size_t size = at[1] & 127, head = size < 126 ? 2 : size == 126 ? 4 : 10;
        if ((size_t)(end - at) < head) break;
        if (head > 2) {
            size = 0;
            for (size_t i = 2; i < head; i++) size = size << 8 | at[i];
        }
        if ((size_t)(end - at) < head + size) break;
        int opcode = at[0] & 15;
        if (opcode < 8 && at[0] & 0x40)
            take_compressed(client, now);
        else if (opcode < 8)
            take_message(client, at + head, size, now);
        if (opcode == 9) send_frame(client->fd, 10, at + head, size);
        at += head + size;
    }
    return at - start;
}

// -- clients -----------------------------------------------------------------------------------

static void lose(Client *client) {
    if (client->state == OPEN) {
        closed++;
        opened--;
    } else
        failed++;
    client->state = CLOSED;
    close(client->fd);
}

static void keep(Client *client, const uint8_t *at, size_t size) {
    if (size > client->kept_room) {
        client->kept_room = size + 512;
        client->kept = realloc(client->kept, client->kept_room);
    }
    memcpy(client->kept, at, size);
    client->kept_size = size;
}

static void begin(int i) {
    Client *client = &clients[i];
    struct sockaddr_in address = loopback(port);
    *client = (Client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .began = now_ns()};
    if (client->fd < 0) die("socket");
    if (connect(client->fd, (void *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    client->state = CONNECTING;
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = i};
    epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event);
}

static void upgrade(int i) {
    Client *client = &clients[i];
    char request[2048];
    int size = snprintf(request, 1024,
                        "GET %.500s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", path, port);
    if (protocol)
        size += sprintf(request + size, "Sec-WebSocket-Protocol: %.200s\r\n", protocol);
    if (extensions)
        size += sprintf(request + size, "Sec-WebSocket-Extensions: %.200s\r\n", extensions);
    size += sprintf(request + size, "\r\n");
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error || send_all(client->fd, request, size)) {
        lose(client);
        return;
    }
    no_delay(client->fd);
    client->state = UPGRADING;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
}

static void greet(int i) {
    if (hex) {
        uint8_t message[2048];
        size_t size = 0;
        for (const char *at = hex; at[0] && at[1] && size < sizeof message; at += 2)
            sscanf(at, "%2hhx", &message[size++]);
        send_frame(clients[i].fd, 2, message, size);
    } else if (text_count)
        send_frame(clients[i].fd, 1, texts[i % text_count], strlen(texts[i % text_count]));
}

static void hear(int i) {
    Client *client = &clients[i];
    size_t have = client->kept_size, used = 0;
    memcpy(buffer, client->kept, have);
    ssize_t got = recv(client->fd, buffer + have, READ_BYTES, MSG_DONTWAIT);
    if (got <= 0) {
        if (!got || errno != EAGAIN) lose(client);
        return;
    }
    int64_t now = now_ns();
    have += got;
    reads++;
    bytes += got;
    if (client->state == UPGRADING) {
        uint8_t *end = memmem(buffer, have, "\r\n\r\n", 4);
        if (end && memcmp(buffer, "HTTP/1.1 101", 12)) {
            if (!failed) fprintf(stderr, "%.*s\n", (int)have, buffer);
            lose(client);
            return;
        }
        if (end) {
            used = end + 4 - buffer;
            client->state = OPEN;
            opened++;
            note(&handshake, now - client->began);
            greet(i);
        }
    }
    uint64_t before = events;
    if (client->state == OPEN) used += take_messages(client, buffer + used, have - used, now);
    if (events != before) last_at = now;
    if (have - used > BUFFER_BYTES - READ_BYTES) exit(4);
    keep(client, buffer + used, have - used);
}

// Handles messages for some milliseconds; returns whether there is a command.
static int serve(int milliseconds) {
    struct epoll_event ready[1024];
    int n = epoll_wait(epoll, ready, 1024, milliseconds), command = 0;
    for (int k = 0; k < n; k++) {
        uint32_t i = ready[k].data.u32;
        if (i == UINT32_MAX)
            command = 1;
        else if (clients[i].state == CONNECTING)
            upgrade(i);
        else
            hear(i);
    }
    if (nap && n > 0) usleep(nap);
    return command;
}

// -- commands ----------------------------------------------------------------------------------

static void connect_clients(int more, int parallel) {
    int64_t start = now_ns(), moved = start;
    int wanted = count + more, before = -1, failed_before = failed;
    memset(&handshake, 0, sizeof handshake);
    clients = realloc(clients, wanted * sizeof *clients);
    while (opened + closed + failed < wanted && now_ns() - moved < 20000000000ll) {
        while (count < wanted && count - opened - closed - failed < parallel) begin(count++);
        serve(100);
        if (opened + failed != before) before = opened + failed, moved = now_ns();
    }
    printf("{\"open\":%d,\"failed\":%d,\"seconds\":%.4f,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n", opened,
           failed - failed_before, (now_ns() - start) / 1e9, quantile_ms(&handshake, 0.5),
           quantile_ms(&handshake, 0.99));
}

static void reset(void) {
    events = bytes = reads = faults = others = 0;
    memset(&latency, 0, sizeof latency);
    memset(tracked_last, 0, sizeof tracked_last);
    memset(tracked_count, 0, sizeof tracked_count);
    for (int i = 0; i < count; i++) clients[i].events = clients[i].last = 0;
    cpu_before = cpu_seconds();
    printf("{\"reset\":true}\n");
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// How long the events that all clients got took to the last of them: the median, in ms.
static double last_client_ms(void) {
    static int64_t whole[TRACKED];
    int n = 0;
    for (int i = 0; i < TRACKED; i++)
        if (opened && tracked_count[i] == (uint32_t)opened) whole[n++] = tracked_last[i];
    qsort(whole, n, sizeof *whole, ascending);
    return n ? whole[n / 2] / 1e6 : -1;
}

static void print_groups(void) {
    printf(",\"groups\":[");
    for (int g = 0; g < text_count; g++) {
        uint64_t least = UINT64_MAX, most = 0;
        for (int i = g; i < count; i += text_count) {
            if (clients[i].events < least) least = clients[i].events;
            if (clients[i].events > most) most = clients[i].events;
        }
        printf("%s[%lu,%lu]", g ? "," : "", most ? least : 0, most);
    }
    printf("]");
}

static void wait_for(uint64_t each, int quiet_ms, int max_ms) {
    int64_t start = now_ns();
    uint64_t wanted = each * opened;
    while (events < wanted || partial) {
        serve(20);
        int64_t now = now_ns(), since = events && last_at > start ? last_at : start;
        if (now - since > quiet_ms * 1000000ll || now - start > max_ms * 1000000ll) break;
    }
    printf("{\"clients\":%d,\"events\":%lu,\"missing\":%ld,\"faults\":%lu,\"closed\":%d,\"others\":%lu,"
           "\"bytes\":%lu,\"reads\":%lu,\"seconds\":%.4f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
           "\"max_ms\":%.3f,\"last_client_ms\":%.3f,\"cpu_s\":%.4f",
           opened, events, (long)(wanted - events), faults, closed, others, bytes, reads,
           events ? (last_at - first_at) / 1e9 : 0.0, quantile_ms(&latency, 0.5),
           quantile_ms(&latency, 0.99), latency.max / 1e6, last_client_ms(),
           cpu_seconds() - cpu_before);
    if (partial) print_groups();
    printf("}\n");
}

static int obey(const char *line) {
    int a, b, c;
    if (!strncmp(line, "quit", 4)) return 0;
    if (sscanf(line, "connect %d %d", &a, &b) == 2)
        connect_clients(a, b);
    else if (sscanf(line, "nap %d", &a) == 1)
        nap = a, printf("{\"nap\":%d}\n", a);
    else if (sscanf(line, "wait %d %d %d", &a, &b, &c) == 3)
        wait_for(a, b, c);
    else
        reset();
    fflush(stdout);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "load PORT [option …]\n"), 2;
    port = atoi(argv[1]);
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--inside"))
            inside = 1;
        else if (!strcmp(argv[i], "--partial"))
            partial = 1;
        else if (i + 1 == argc)
            return fprintf(stderr, "%s needs a value\n", argv[i]), 2;
        else if (!strcmp(argv[i], "--path"))
            path = argv[++i];
        else if (!strcmp(argv[i], "--protocol"))
            protocol = argv[++i];
        else if (!strcmp(argv[i], "--extensions"))
            extensions = argv[++i];
        else if (!strcmp(argv[i], "--hex"))
            hex = argv[++i];
        else if (!strcmp(argv[i], "--text") && text_count < TEXTS_MAX)
            texts[text_count++] = argv[++i];
    }
    allow_many_files();
    prctl(PR_SET_TIMERSLACK, 1000);
    buffer = malloc(BUFFER_BYTES);
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
    setvbuf(stdin, NULL, _IONBF, 0);
    printf("{\"ready\":true}\n");
    fflush(stdout);
    for (char line[256];;)
        if (serve(-1) && (!fgets(line, sizeof line, stdin) || !obey(line))) return 0;
}
