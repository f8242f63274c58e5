/* The format of messages on the bus, and the checks of what is published (docs/protocol.md, part 1). Internal. */
#ifndef NEUROGRAPH_WIRE_H
#define NEUROGRAPH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NG_ENVELOPE_BYTES = 32, NG_TOPIC_BYTES_MAX = 128 };

typedef struct {
    uint64_t number, first, last;
    char topic[NG_TOPIC_BYTES_MAX + 1];
} ng_request;

bool ng_is_standard(const char *topic); /* one of the six standard channels */
bool ng_is_topic(const char *text);
/* The end of the JSON value that begins here, or NULL if it is none; white space before it is skipped. */
const char *ng_json_end(const char *text);
bool ng_is_json(const char *text); /* one value and nothing else, in UTF-8 */
void ng_put_u64(uint8_t *at, uint64_t value);
uint64_t ng_get_u64(const uint8_t *at);
void ng_pack(uint8_t frame[NG_ENVELOPE_BYTES], uint32_t flags, uint64_t incarnation, uint64_t sequence, uint64_t time_ns);
/* Read a request from the frames behind the identity. */
bool ng_parse_request(ng_request *, size_t count, const uint8_t *const frames[], const size_t sizes[]);

#endif
