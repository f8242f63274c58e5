package org.neurograph.publisher;

import java.time.Duration;
import java.util.Map;

/** Publish a few events: Example [tcp://127.0.0.1:5556] */
public final class Example {
    public static void main(String[] arguments) throws InterruptedException {
        String endpoint = arguments.length > 0 ? arguments[0] : "tcp://127.0.0.1:5556";
        try (Publisher publisher = new Publisher(Options.connect(endpoint).replay(1000))) {
            if (!publisher.waitForSubscriber(Duration.ofSeconds(5))) {
                System.err.println("no gateway yet: what is published now reaches nobody");
            }
            publisher.metrics(Map.of("cpu_percent", 12.5, "memory_mb", 2048));
            publisher.log("info", "started", Map.of("service", "example"));
            publisher.publish("robots.r2", Map.of("x", 1.5));
            System.out.println(publisher.counts());
        }
    }
}
