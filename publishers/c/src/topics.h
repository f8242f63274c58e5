/* Each topic's newest number, and its newest messages for replay. Internal; not thread-safe. */
#ifndef NEUROGRAPH_TOPICS_H
#define NEUROGRAPH_TOPICS_H

#include "wire.h"

typedef struct {
    char *payload;
    size_t size;
    uint8_t envelope[NG_ENVELOPE_BYTES];
} ng_message;

typedef struct ng_topic {
    struct ng_topic *next;            /* of the same bucket */
    struct ng_topic *fresher, *older; /* by when it was published on */
    uint64_t sequence;                /* the newest number */
    ng_message *ring;                 /* message n is at n % room */
    size_t room, count, bytes;        /* of the newest messages: their numbers end at `sequence` */
    char name[];
} ng_topic;

typedef struct {
    ng_topic **buckets;
    size_t buckets_count, count, kept_count, kept_bytes, messages_max;
    ng_topic *freshest, *oldest; /* of those that keep messages */
} ng_topics;

ng_topic *ng_topics_find(const ng_topics *, const char *name);
ng_topic *ng_topics_add(ng_topics *, const char *name); /* NULL: one too many, or no memory */
/* Keep a message that has just used the topic's newest number; without memory, nothing of the topic is kept. */
void ng_topics_keep(ng_topics *, ng_topic *, const char *payload, size_t size, const uint8_t *envelope);
/* The kept message with a number, or NULL. */
const ng_message *ng_topic_get(const ng_topic *, uint64_t sequence);
void ng_topics_free(ng_topics *);

#endif
