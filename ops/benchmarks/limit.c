// The limit: a WebSocket server that only sends. Events arrive from a publisher over ZMTP.
//
//   limit PORT PUBLISHER_PORT event|tick
//
// event: one send per event and client. tick: all events that have arrived are joined, one send per client.
// Frames are built once; nothing is parsed, numbered or kept; every client gets every event.
// The load always sends the same Sec-WebSocket-Key (that of RFC 6455), so its answer is known.
#define _GNU_SOURCE
#include "zmtp.h"

#include <sys/epoll.h>

#define FILES_MAX 65536
#define BATCH_BYTES (256 << 10)
#define EVENT_BYTES_MAX (1 << 20)

static const char UPGRADED[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static int clients[FILES_MAX], places[FILES_MAX], count, epoll, per_event;
static uint8_t batch[BATCH_BYTES + EVENT_BYTES_MAX], incoming[BATCH_BYTES + EVENT_BYTES_MAX];
static size_t batched, unread = 0;

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void add(int fd) {
    send_all(fd, UPGRADED, sizeof UPGRADED - 1);
    places[fd] = count;
    clients[count++] = fd;
}

static void drop(int fd) {
    if (places[fd] >= 0) {
        int last = clients[--count];
        clients[places[fd]] = last;
        places[last] = places[fd];
        places[fd] = -1;
    }
    close(fd);
}

static void flush(void) {
    for (int i = 0; i < count; i++) send_all(clients[i], batch, batched);
    batched = 0;
}

static void add_event(const Frame *payload) {
    size_t size = payload->size, head = size < 126 ? 2 : size < 65536 ? 4 : 10;
    uint8_t *at = batch + batched;
    at[0] = 0x81;
    at[1] = head == 2 ? size : head == 4 ? 126 : 127;
    for (size_t i = head - 1, left = size; i > 1; i--, left >>= 8) at[i] = left;
    memcpy(at + head, payload->body, size);
    batched += head + size;
    if (per_event || batched > BATCH_BYTES) flush();
}

// Reads from the publisher: messages of topic, payload and envelope.
static void drain(int bus) {
    static size_t skip = ZMTP_GREETING;
    static int part;
    ssize_t got;
    while ((got = recv(bus, incoming + unread, BATCH_BYTES, MSG_DONTWAIT)) > 0) {
        size_t have = unread + got, at = have < skip ? have : skip, used;
        skip -= at;
        for (Frame frame; (used = zmtp_read(incoming + at, have - at, &frame)); at += used) {
            if (frame.flags & ZMTP_COMMAND) continue;
            if (part++ == 1) add_event(&frame);
            if (!(frame.flags & ZMTP_MORE)) part = 0;
        }
        unread = have - at;
        memmove(incoming, incoming + at, unread);
    }
    if (!got) exit(0);
    if (batched) flush();
}

static void accept_all(int listener) {
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) {
        if (fd >= FILES_MAX) exit(1);
        no_delay(fd);
        places[fd] = -1;
        watch(fd);
    }
}

static void hear(int fd) {
    static uint8_t scratch[65536];
    ssize_t got = recv(fd, scratch, sizeof scratch, MSG_DONTWAIT);
    if (!got || (got < 0 && errno != EAGAIN))
        drop(fd);
    else if (got > 0 && places[fd] < 0)
        add(fd);
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "limit PORT PUBLISHER_PORT event|tick\n"), 2;
    allow_many_files();
    per_event = !strcmp(argv[3], "event");
    epoll = epoll_create1(0);
    int listener = listen_on(atoi(argv[1])), bus = dial(atoi(argv[2]));
    uint8_t all[2] = {1};
    uint8_t out[8];
    zmtp_greet(bus, "SUB");
    send_all(bus, out, zmtp_write(out, 0, all, 1));
    watch(listener);
    watch(bus);
    for (struct epoll_event ready[256];;) {
        int n = epoll_wait(epoll, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == bus)
                drain(bus);
            else if (fd == listener)
                accept_all(listener);
            else
                hear(fd);
        }
    }
}
