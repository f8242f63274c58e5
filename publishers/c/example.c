/* Publish a few events: build/example [tcp://127.0.0.1:5556] */
#include <stdio.h>

#include "src/neurograph_publisher.h"

int main(int count, char **arguments) {
    ng_options options = ng_defaults();
    options.connect = count > 1 ? arguments[1] : "tcp://127.0.0.1:5556";
    options.replay = 1000;
    ng_publisher *publisher = ng_open(&options);
    if (!publisher) {
        fprintf(stderr, "%s\n", ng_error());
        return 1;
    }
    if (!ng_wait_for_subscriber(publisher, 5)) fprintf(stderr, "no gateway yet: what is published now reaches nobody\n");
    ng_fields fields = {0};
    ng_add_number(&fields, "cpu_percent", 12.5);
    ng_add_integer(&fields, "memory_mb", 2048);
    ng_metrics(publisher, &fields);
    ng_add_string(&fields, "service", "example");
    ng_log(publisher, "info", "started", &fields);
    ng_publish(publisher, "robots.r2", "{\"x\": 1.5}");
    ng_counts counts = ng_count(publisher);
    ng_close(publisher);
    printf("published %llu, dropped %llu\n", (unsigned long long)counts.published, (unsigned long long)counts.dropped);
    return 0;
}
