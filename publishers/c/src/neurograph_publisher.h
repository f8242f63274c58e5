/* Publish events to a NeuroGraph gateway over ZeroMQ. Needs libzmq 4.2 or later and POSIX threads.
 *
 *     ng_options options = ng_defaults();
 *     options.connect = "tcp://127.0.0.1:5556";
 *     ng_publisher *publisher = ng_open(&options);
 *     ng_wait_for_subscriber(publisher, 5);
 *     ng_publish(publisher, "robots.r2", "{\"x\": 1.5}");
 *     ng_close(publisher);
 *
 * Any thread may publish. Only ng_wait_for_subscriber and ng_close wait. */
#ifndef NEUROGRAPH_PUBLISHER_H
#define NEUROGRAPH_PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ng_publisher ng_publisher;

/* Keys in Z85, 40 characters. To connect, name the one gateway's public key; to bind, those of all that may connect. */
typedef struct {
    const char *public_key;
    const char *secret_key;
    const char *const *gateways;
    size_t gateways_count;
} ng_curve;

typedef struct {
    const char *connect; /* either this, the gateway's endpoint ... */
    const char *bind;    /* ... or this, an endpoint that gateways connect to */
    const char *const *also_connect; /* further gateways' endpoints: each gets all events, with the same numbers */
    size_t also_connect_count;       /* at most 127 */
    int high_water_mark; /* messages queued for a subscriber before further ones are dropped; 0 = no limit */
    size_t payload_bytes_max; /* larger ones are refused, as the gateway would reject them */
    double linger_seconds;    /* how long closing waits until queued messages are sent */
    double heartbeat_seconds; /* 0 = no heartbeats */
    const char *name;         /* the publisher's name, to be shown; NULL = host and process */
    size_t replay;            /* how many of the newest messages of each topic are kept for replay */
    const char *replay_endpoint; /* the endpoint for replay requests */
    const char *replay_address;  /* the address by which gateways reach it; NULL = the endpoint bound */
    const ng_curve *curve;       /* NULL = not encrypted */
} ng_options;

typedef struct {
    uint64_t published;
    uint64_t dropped;  /* a subscriber was at the high-water mark */
    uint64_t replayed; /* requests for missed messages that were answered */
    uint64_t refused;  /* handshakes that failed */
} ng_counts;

/* What a call that publishes returns. A dropped message's number stays used: the gateway notices the loss. A refused one
 * was not sent and used no number; ng_error says why. */
typedef enum { NG_REFUSED = -1, NG_DROPPED = 0, NG_SENT = 1 } ng_result;

ng_options ng_defaults(void);
ng_publisher *ng_open(const ng_options *options); /* NULL: see ng_error */
const char *ng_error(void);                       /* of this thread's last call that failed */

/* Wait up to this many seconds until each endpoint that is connected to has a subscriber; return whether it has one; events published before that reach nobody. */
bool ng_wait_for_subscriber(ng_publisher *, double seconds);

/* Publish JSON text: as it is, or as the data of an event; timestamp is RFC 3339, NULL = now. */
ng_result ng_publish(ng_publisher *, const char *topic, const char *json);
ng_result ng_publish_event(ng_publisher *, const char *topic, const char *event_type, const char *data,
                           const char *timestamp);

/* Publish bytes, such as an image; content_type may be NULL. On the bus they are base64: the gateway's limit counts 4 for
 * 3 bytes. */
ng_result ng_publish_bytes(ng_publisher *, const char *topic, const void *bytes, size_t size, const char *content_type);

/* The members of a JSON object, for the calls below: ng_fields f = {0}; ng_add_number(&f, "cpu_percent", 12.5); */
typedef struct {
    char *text;
    size_t length, room;
    bool failed; /* a number that is not finite, text that is not UTF-8, or no memory: refused when published */
} ng_fields;

void ng_add_string(ng_fields *, const char *name, const char *value);
void ng_add_number(ng_fields *, const char *name, double value);
void ng_add_integer(ng_fields *, const char *name, int64_t value);
void ng_add_boolean(ng_fields *, const char *name, bool value);
void ng_add_json(ng_fields *, const char *name, const char *json);

/* The six standard channels; `fields` may be NULL. They are freed, and empty again. */
ng_result ng_metrics(ng_publisher *, ng_fields *fields);
ng_result ng_signal(ng_publisher *, const char *kind, ng_fields *fields);
ng_result ng_action(ng_publisher *, const char *kind, ng_fields *fields);
ng_result ng_log(ng_publisher *, const char *level, const char *message, ng_fields *fields);
ng_result ng_status(ng_publisher *, const char *state, ng_fields *fields);
ng_result ng_connection(ng_publisher *, const char *change, const char *client_id, ng_fields *fields);

ng_counts ng_count(ng_publisher *);
const char *ng_incarnation(const ng_publisher *); /* 16 hexadecimal digits */
const char *ng_endpoint(const ng_publisher *);    /* the first one, with its real port */
const char *ng_replay(const ng_publisher *);      /* NULL without replay */

/* Read a key file as `gateway keys` makes it; secret_key is empty if it has none. */
bool ng_read_keys(const char *path, char public_key[41], char secret_key[41]);

/* Send a farewell and queued messages, for at most the linger time, and free the publisher. */
void ng_close(ng_publisher *);

#endif
