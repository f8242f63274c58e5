package org.neurograph.publisher;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** Options of a publisher: {@code Options.connect("tcp://127.0.0.1:5556").replay(1000)}. */
public final class Options {
    final List<String> endpoints;
    final boolean bind;
    int highWaterMark = 100_000;
    int payloadBytesMax = 1_048_576;
    Duration linger = Duration.ofSeconds(1);
    Duration heartbeat = Duration.ofSeconds(1);
    String name = defaultName();
    int replay;
    String replayEndpoint = "tcp://127.0.0.1:*";
    String replayAddress;
    Curve curve;

    private Options(List<String> endpoints, boolean bind) {
        this.endpoints = endpoints;
        this.bind = bind;
    }

    /** Connect to the endpoint of a gateway, or of several: each gets all events, with the same numbers. */
    public static Options connect(String endpoint, String... others) {
        List<String> endpoints = new ArrayList<>(List.of(endpoint));
        endpoints.addAll(List.of(others));
        Set<String> seen = new HashSet<>();
        for (String one : endpoints) {
            if (!seen.add(one)) {
                throw new PublisherException("connect: " + one + " is given twice; its gateway would get each event twice");
            }
        }
        return new Options(List.copyOf(endpoints), false);
    }

    /** Bind an endpoint that gateways connect to. */
    public static Options bind(String endpoint) {
        return new Options(List.of(endpoint), true);
    }

    /** Messages queued for a subscriber before further ones are dropped and counted; 0 = no limit. */
    public Options highWaterMark(int messages) {
        highWaterMark = messages;
        return this;
    }

    /** Larger payloads are refused, as the gateway would reject them. */
    public Options payloadBytesMax(int bytes) {
        payloadBytesMax = bytes;
        return this;
    }

    /** How long closing waits until queued messages are sent. */
    public Options linger(Duration duration) {
        linger = duration;
        return this;
    }

    /** The interval of heartbeats; zero = none. */
    public Options heartbeat(Duration interval) {
        if (interval.isNegative() || interval.compareTo(Duration.ofHours(1)) > 0) {
            throw new PublisherException("heartbeat: " + interval + " is not within 0 to one hour");
        }
        heartbeat = interval;
        return this;
    }

    /** The publisher's name, to be shown; at most 64 characters. */
    public Options name(String text) {
        if (text.codePointCount(0, text.length()) > 64) {
            throw new PublisherException("name: " + text + " has more than 64 characters");
        }
        name = text;
        return this;
    }

    /** How many of the newest messages of each topic are kept for replay. */
    public Options replay(int messages) {
        replay = messages;
        return this;
    }

    /** The endpoint for replay requests, and the address by which gateways reach it, if that is not the endpoint bound (else null). */
    public Options replayAt(String endpoint, String address) {
        replayEndpoint = endpoint;
        replayAddress = address;
        return this;
    }

    public Options curve(Curve keys) {
        curve = keys;
        return this;
    }

    void check() {
        if (replay > 0 && heartbeat.isZero()) {
            throw new PublisherException("replay: heartbeats say where to ask, and there are none");
        }
    }

    private static String defaultName() {
        String host;
        try {
            host = InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException error) {
            host = "host";
        }
        return host.substring(0, Math.min(host.length(), 40)) + ":" + ProcessHandle.current().pid();
    }
}
