#include "topics.h"

#include <stdlib.h>
#include <string.h>

enum { TOPICS_MAX = 100000, KEPT_TOPICS_MAX = 10000, OVERHEAD_BYTES = 256, MIB = 1024 * 1024 };

static size_t hash(const char *name) { /* FNV-1a */
    uint64_t value = 14695981039346656037u;
    for (; *name; name++) value = (value ^ (uint8_t)*name) * 1099511628211u;
    return (size_t)(value ^ value >> 32);
}

ng_topic *ng_topics_find(const ng_topics *topics, const char *name) {
    if (!topics->buckets_count) return NULL;
    ng_topic *topic = topics->buckets[hash(name) % topics->buckets_count];
    while (topic && strcmp(topic->name, name)) topic = topic->next;
    return topic;
}

static void grow(ng_topics *topics) {
    size_t count = topics->buckets_count ? topics->buckets_count * 2 : 64;
    ng_topic **buckets = calloc(count, sizeof *buckets);
    if (!buckets) return; /* longer chains will do */
    for (size_t n = 0; n < topics->buckets_count; n++) {
        for (ng_topic *topic = topics->buckets[n], *next; topic; topic = next) {
            next = topic->next;
            ng_topic **bucket = &buckets[hash(topic->name) % count];
            topic->next = *bucket;
            *bucket = topic;
        }
    }
    free(topics->buckets);
    topics->buckets = buckets;
    topics->buckets_count = count;
}

ng_topic *ng_topics_add(ng_topics *topics, const char *name) {
    if (topics->count >= TOPICS_MAX) return NULL;
    if (topics->count >= topics->buckets_count) grow(topics);
    ng_topic *topic = topics->buckets_count ? calloc(1, sizeof *topic + strlen(name) + 1) : NULL;
    if (!topic) return NULL;
    strcpy(topic->name, name);
    ng_topic **bucket = &topics->buckets[hash(name) % topics->buckets_count];
    topic->next = *bucket;
    *bucket = topic;
    topics->count++;
    return topic;
}

static void unlink_topic(ng_topics *topics, ng_topic *topic) {
    *(topic->fresher ? &topic->fresher->older : &topics->freshest) = topic->older;
    *(topic->older ? &topic->older->fresher : &topics->oldest) = topic->fresher;
    topic->fresher = topic->older = NULL;
    topics->kept_count--;
}

static void link_freshest(ng_topics *topics, ng_topic *topic) {
    topic->older = topics->freshest;
    *(topic->older ? &topic->older->fresher : &topics->oldest) = topic;
    topics->freshest = topic;
    topics->kept_count++;
}

static void drop_oldest(ng_topics *topics, ng_topic *topic) {
    ng_message *message = &topic->ring[(topic->sequence - topic->count + 1) % topic->room];
    topic->count--;
    topic->bytes -= message->size + OVERHEAD_BYTES;
    topics->kept_bytes -= message->size + OVERHEAD_BYTES;
    free(message->payload);
}

static void drop_all(ng_topics *topics, ng_topic *topic) {
    if (!topic->room) return;
    while (topic->count) drop_oldest(topics, topic);
    unlink_topic(topics, topic);
    free(topic->ring);
    topic->ring = NULL;
    topic->room = 0;
}

/* Make room for another message; the topic's newest number is already its number. */
static bool make_room(ng_topics *topics, ng_topic *topic) {
    if (topic->count < topic->room) return true;
    size_t room = topic->room ? topic->room * 2 : 16;
    if (room > topics->messages_max) room = topics->messages_max;
    ng_message *ring = malloc(room * sizeof *ring);
    if (!ring) return false;
    for (uint64_t n = topic->sequence - topic->count; n < topic->sequence; n++) ring[n % room] = topic->ring[n % topic->room];
    free(topic->ring);
    if (!topic->room) link_freshest(topics, topic);
    topic->ring = ring;
    topic->room = room;
    return true;
}

void ng_topics_keep(ng_topics *topics, ng_topic *topic, const char *payload, size_t size, const uint8_t *envelope) {
    topic->sequence--; /* what is kept ends before the one to come */
    while (topic->count && (topic->count >= topics->messages_max || topic->bytes + size + OVERHEAD_BYTES > 16u * MIB)) {
        drop_oldest(topics, topic);
    }
    topic->sequence++;
    char *copy = malloc(size ? size : 1);
    if (!copy || !make_room(topics, topic)) {
        free(copy);
        topic->sequence--;
        drop_all(topics, topic);
        topic->sequence++;
        return;
    }
    ng_message *message = &topic->ring[topic->sequence % topic->room];
    memcpy(copy, payload, size);
    message->payload = copy;
    message->size = size;
    memcpy(message->envelope, envelope, NG_ENVELOPE_BYTES);
    topic->count++;
    topic->bytes += size + OVERHEAD_BYTES;
    topics->kept_bytes += size + OVERHEAD_BYTES;
    unlink_topic(topics, topic);
    link_freshest(topics, topic);
    while (topics->kept_count > KEPT_TOPICS_MAX || topics->kept_bytes > 128u * MIB) drop_all(topics, topics->oldest);
}

const ng_message *ng_topic_get(const ng_topic *topic, uint64_t sequence) {
    bool is_kept = sequence <= topic->sequence && sequence > topic->sequence - topic->count;
    return is_kept ? &topic->ring[sequence % topic->room] : NULL;
}

void ng_topics_free(ng_topics *topics) {
    for (size_t n = 0; n < topics->buckets_count; n++) {
        for (ng_topic *topic = topics->buckets[n], *next; topic; topic = next) {
            next = topic->next;
            drop_all(topics, topic);
            free(topic);
        }
    }
    free(topics->buckets);
}
