// As much of ZMTP 3.0 (rfc.zeromq.org/spec/23) as PUB and SUB need over TCP without security.
#ifndef ZMTP_H
#define ZMTP_H
#include "common.h"

enum { ZMTP_MORE = 1, ZMTP_LONG = 2, ZMTP_COMMAND = 4, ZMTP_GREETING = 64 };

typedef struct {
    int flags;
    const uint8_t *body;
    size_t size;
} Frame;

// Reads the frame that begins at `at`; returns its size in bytes, 0 if it is incomplete.
static inline size_t zmtp_read(const uint8_t *at, size_t have, Frame *frame) {
    size_t head = have && at[0] & ZMTP_LONG ? 9 : 2, size = 0;
    if (have < head) return 0;
    for (size_t i = 1; i < head; i++) size = size << 8 | at[i];
    if (have < head + size) return 0;
    *frame = (Frame){at[0], at + head, size};
    return head + size;
}

// Writes a frame; returns how many bytes it took.
static inline size_t zmtp_write(uint8_t *at, int flags, const void *body, size_t size) {
    size_t head = size < 256 ? 2 : 9;
    at[0] = flags | (size < 256 ? 0 : ZMTP_LONG);
    for (size_t i = head - 1, left = size; i; i--, left >>= 8) at[i] = left;
    memcpy(at + head, body, size);
    return head + size;
}

// Sends the beginning of every connection: the greeting, and READY with the socket type.
static inline int zmtp_greet(int fd, const char *type) {
    uint8_t out[256] = {0xff, [9] = 0x7f, [10] = 3, [12] = 'N', 'U', 'L', 'L'};
    uint8_t ready[32] = "\5READY\13Socket-Type\0\0\0\3";
    memcpy(ready + 22, type, 3);
    size_t size = ZMTP_GREETING + zmtp_write(out + ZMTP_GREETING, ZMTP_COMMAND, ready, 25);
    return send_all(fd, out, size);
}

// Answers a PING, if it is one, with its own context.
static inline void zmtp_pong(int fd, const Frame *frame) {
    if (!(frame->flags & ZMTP_COMMAND) || frame->size < 7 || memcmp(frame->body, "\4PING", 5)) return;
    uint8_t body[64] = "\4PONG", out[80];
    size_t context = frame->size - 7 < 16 ? frame->size - 7 : 16;
    memcpy(body + 5, frame->body + 7, context);
    send_all(fd, out, zmtp_write(out, ZMTP_COMMAND, body, 5 + context));
}
#endif
