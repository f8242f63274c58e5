package org.neurograph.publisher;

import java.security.SecureRandom;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.zeromq.SocketType;
import org.zeromq.ZMQ;
import org.zeromq.ZMQException;

/**
 * Publishes events on a bus, from any thread. Only {@link #waitForSubscriber} and {@link #close} wait.
 *
 * <p>What publishes returns false if a subscriber is at the high-water mark: the message is dropped and counted, and its
 * number stays used, so that the gateway notices the loss. What the gateway would reject throws {@link PublisherException}.
 */
public final class Publisher implements AutoCloseable {
    private static final int TOPICS_MAX = 100_000;
    private static final int REQUEST_BYTES_MAX = 64 * 1024;
    private static final int REPLIES_QUEUED_MAX = 32;
    private static final long LOOK_MS = 1000;
    private static final long GREET_NS = 1_000_000;
    private static final int HANDSHAKE_MS = 3000;

    /** How many messages were dropped and requests answered; {@code refused} counts gateways with unknown keys. */
    public record Counts(long published, long dropped, long replayed, long refused) {}

    private final Options options;
    private final ZMQ.Context context = ZMQ.context(1);
    private final Wire.About about;
    private final String endpoint;
    private final Thread thread;
    private final ZMQ.Socket woken;
    // Used by the thread alone.
    private final ZMQ.Socket router;
    private final ZMQ.Socket guard;
    // Under this object's lock: ZeroMQ's sockets are not thread-safe.
    private final List<Link> links = new ArrayList<>();
    private final ZMQ.Socket waker;
    private final Map<String, Long> sequences = new HashMap<>();
    private final Store store;
    private long greetedNs = System.nanoTime() - GREET_NS;
    private boolean closed;
    private long published;
    private long dropped;
    private long replayed;
    private long refused;

    public Publisher(Options options) {
        options.check();
        this.options = options;
        List<ZMQ.Socket> opened = new ArrayList<>();
        try {
            guard = options.curve == null ? null : openGuard(opened);
            router = options.replay == 0 ? null : openRouter(opened);
            store = new Store(options.replay);
            for (String address : options.endpoints) {
                openLink(address, opened);
            }
            woken = open(SocketType.PAIR, opened);
            waker = open(SocketType.PAIR, opened);
            woken.bind("inproc://wake");
            waker.connect("inproc://wake");
        } catch (ZMQException | IllegalArgumentException | PublisherException error) {
            opened.forEach(one -> {
                one.setLinger(0);
                one.close();
            });
            context.term();
            throw new PublisherException(String.join(", ", options.endpoints) + ": " + error.getMessage(), error);
        }
        endpoint = options.bind ? links.get(0).socket.getLastEndpoint() : options.endpoints.get(0);
        String replay = router == null ? null : options.replayAddress;
        about = new Wire.About(
                new SecureRandom().nextLong(),
                options.name,
                router == null || replay != null ? replay : router.getLastEndpoint(),
                router == null || options.curve == null ? null : options.curve.publicKey());
        thread = new Thread(this::attend, "neurograph-publisher");
        thread.setDaemon(true);
        thread.start();
    }

    /** 16 hexadecimal digits. */
    public String incarnation() {
        return about.hex();
    }

    /** The (first) endpoint, with its actual port in place of {@code *}. */
    public String endpoint() {
        return endpoint;
    }

    /** The address for replay requests; null without replay. */
    public String replayAddress() {
        return about.replay();
    }

    public synchronized Counts counts() {
        return new Counts(published, dropped, replayed, refused);
    }

    /** Publish data as JSON: maps, lists, records, text, numbers, Gson's JsonElement. */
    public boolean publish(String topic, Object data) {
        Wire.checkTopic(topic);
        return send(topic, Wire.encode(topic, data));
    }

    /** Publish JSON text: it is checked, and sent unchanged. */
    public boolean publishJson(String topic, String text) {
        Wire.checkTopic(topic);
        Wire.checkJson(topic, text);
        return send(topic, Wire.bytes(text));
    }

    /** Publish an event of a type that happens now. */
    public boolean publishEvent(String topic, String eventType, Object data) {
        return publishEvent(topic, eventType, data, Instant.now());
    }

    public boolean publishEvent(String topic, String eventType, Object data, Instant timestamp) {
        Wire.checkEventType(eventType);
        Map<String, Object> event = new LinkedHashMap<>();
        event.put("event_type", eventType);
        event.put("timestamp", timestamp.toString());
        event.put("data", data);
        return publish(topic, event);
    }

    /**
     * Publish bytes, such as an image; the content type may be null. On the bus they are base64: the gateway's limit counts 4
     * for 3 bytes.
     */
    public boolean publishBytes(String topic, byte[] bytes, String contentType) {
        Wire.checkTopic(topic);
        Wire.checkNotStandard(topic);
        Map<String, Object> event = new LinkedHashMap<>();
        event.put("timestamp", Instant.now().toString());
        if (contentType != null) {
            event.put("content_type", contentType);
        }
        event.put("data_base64", Base64.getEncoder().encodeToString(bytes));
        return publish(topic, event);
    }

    /** Publish figures of a system. For its fields and those below see docs/protocol.md. */
    public boolean metrics(Map<String, ?> fields) {
        return publishEvent("metrics", "system_metrics", fields);
    }

    public boolean signal(String kind, Map<String, ?> fields) {
        return publishEvent("signals", "signal." + kind, with(fields, "event_type", "signal." + kind));
    }

    public boolean action(String kind, Map<String, ?> fields) {
        return publishEvent("actions", "action.executed", with(fields, "action_type", kind));
    }

    public boolean log(String level, String message, Map<String, ?> fields) {
        String eventType = "log." + level.toLowerCase(Locale.ROOT);
        return publishEvent("logs", eventType, with(with(fields, "message", message), "level", level));
    }

    public boolean status(String state, Map<String, ?> fields) {
        return publishEvent("status", "status." + state, with(fields, "status", state));
    }

    public boolean connection(String change, String clientId, Map<String, ?> fields) {
        return publishEvent("connections", "client." + change, with(fields, "client_id", clientId));
    }

    /** Wait until each endpoint that is connected to has a subscriber; events published before that reach nobody. */
    public boolean waitForSubscriber(Duration timeout) throws InterruptedException {
        long deadline = System.nanoTime() + timeout.toNanos();
        while (true) {
            synchronized (this) {
                greet();
                if (links.stream().allMatch(Link::isSubscribed)) {
                    return true;
                }
            }
            if (System.nanoTime() - deadline >= 0) {
                return false;
            }
            Thread.sleep(5);
        }
    }

    /** Send a farewell and queued messages, for at most the linger time; a second call does nothing. */
    @Override
    public void close() {
        synchronized (this) {
            if (closed) {
                return;
            }
            greet();
            links.forEach(link -> beat(link, 0));
            closed = true;
            waker.send("closed");
        }
        boolean isInterrupted = false;
        while (thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException interrupted) {
                isInterrupted = true;
            }
        }
        if (isInterrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private static Map<String, Object> with(Map<String, ?> fields, String name, Object value) {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put(name, value);
        all.putAll(fields);
        return all;
    }

    private synchronized boolean send(String topic, byte[] payload) {
        if (payload.length > options.payloadBytesMax) {
            throw new PublisherException(topic + ": " + payload.length + " bytes of JSON exceed " + options.payloadBytesMax
                    + ": publish less at once, or raise payloadBytesMax here and ingest.payload_bytes_max at the gateway");
        }
        if (closed) {
            throw new PublisherException("this publisher is closed");
        }
        long lookNs = System.nanoTime();
        if (lookNs - greetedNs >= GREET_NS) { // to look is a system call, and sending does not look more often
            greetedNs = lookNs;
            greet();
        }
        long sequence = sequences.getOrDefault(topic, 0L) + 1;
        if (sequence == 1 && sequences.size() >= TOPICS_MAX) {
            throw new PublisherException(topic + ": one topic too many; a publisher numbers " + TOPICS_MAX + " of them");
        }
        sequences.put(topic, sequence);
        Instant now = Instant.now();
        byte[] envelope = Wire.packEnvelope(
                options.heartbeat.isZero() ? 0 : 1,
                about.incarnation(),
                sequence,
                now.getEpochSecond() * 1_000_000_000 + now.getNano());
        if (options.replay > 0) {
            store.append(topic, sequence, payload, envelope);
        }
        List<byte[]> frames = List.of(Wire.bytes(topic), payload, envelope);
        boolean isSent = true;
        for (Link link : links) {
            isSent &= link.send(frames);
        }
        if (isSent) {
            published++;
        } else {
            dropped++;
        }
        return isSent;
    }

    /** Read subscriptions, and send new subscribers a heartbeat before the next event. */
    private void greet() {
        for (Link link : links) {
            if (!closed && link.readSubscriptions()) {
                beat(link, options.heartbeat.toNanos() / 1e9);
            }
        }
    }

    private void beat(Link link, double interval) {
        if (closed || options.heartbeat.isZero()) {
            return;
        }
        for (byte[] payload : about.heartbeats(interval, sequences)) {
            if (!link.send(List.of(Wire.HEARTBEAT, payload))) {
                return; // at the high-water mark: the next heartbeat has the same numbers
            }
        }
    }

    /** The publisher's thread: sends heartbeats and answers replay requests until it is closed. */
    private void attend() {
        ZMQ.Poller poller = context.poller(3 + 2 * links.size());
        for (Link link : links) {
            // Other threads use the XPUB: this one waits for its descriptor. Sending a message can reset the descriptor
            // unnoticed; so the next call, or this loop within a second, checks the socket itself.
            poller.register(link.socket.getFD(), ZMQ.Poller.POLLIN);
            if (link.monitor != null) {
                poller.register(link.monitor, ZMQ.Poller.POLLIN);
            }
        }
        for (ZMQ.Socket one : new ZMQ.Socket[] {woken, router, guard}) {
            if (one != null) {
                poller.register(one, ZMQ.Poller.POLLIN);
            }
        }
        long intervalNs = options.heartbeat.toNanos();
        long due = System.nanoTime() + intervalNs;
        while (true) {
            long leftMs = intervalNs == 0 ? LOOK_MS : Math.max((due - System.nanoTime() + 999_999) / 1_000_000, 0);
            poller.poll(Math.min(leftMs, LOOK_MS));
            if (guard != null) {
                serveGuard();
            }
            synchronized (this) {
                if (closed) {
                    break;
                }
                greet();
                links.forEach(Link::mend);
                if (intervalNs > 0 && System.nanoTime() - due >= 0) {
                    for (Link link : links) {
                        beat(link, intervalNs / 1e9);
                    }
                    due = Math.max(due + intervalNs, System.nanoTime());
                }
            }
            if (router != null) {
                serveRouter();
            }
        }
        poller.close();
        for (Link link : links) {
            if (link.monitor != null) {
                link.monitor.close();
            }
            link.socket.close();
        }
        for (ZMQ.Socket one : new ZMQ.Socket[] {router, guard, woken, waker}) {
            if (one != null) {
                one.close();
            }
        }
        context.term();
    }

    /** Answer replay requests of gateways. */
    private void serveRouter() {
        for (List<byte[]> frames = receive(router); frames != null; frames = receive(router)) {
            Wire.Request request = Wire.Request.parse(frames.subList(1, frames.size()));
            if (request == null) {
                continue;
            }
            List<byte[]> reply = new ArrayList<>(List.of(frames.get(0)));
            synchronized (this) {
                List<byte[]> pairs = store.read(request.topic(), request.first(), request.last());
                reply.addAll(request.reply(about.incarnation(), pairs));
                replayed++;
            }
            try {
                Link.sendFrames(router, reply);
            } catch (ZMQException gone) {
                // The requester is gone; it will request again.
            }
        }
    }

    /** Answer ZeroMQ's requests whether a gateway may connect (ZAP, ZeroMQ RFC 27): the ninth frame is its key. */
    private void serveGuard() {
        for (List<byte[]> frames = receive(guard); frames != null; frames = receive(guard)) {
            boolean isKnown = frames.size() > 8 && options.curve.gateways().contains(ZMQ.Curve.z85Encode(frames.get(8)));
            List<byte[]> answer = new ArrayList<>(frames.subList(0, 4)); // the identity, an empty frame, the version, the request's number
            answer.add(Wire.bytes(isKnown ? "200" : "400"));
            answer.add(Wire.bytes(isKnown ? "OK" : "unknown key"));
            answer.add(new byte[0]);
            answer.add(new byte[0]);
            Link.sendFrames(guard, answer);
            if (!isKnown) {
                synchronized (this) {
                    refused++;
                }
            }
        }
    }

    private static List<byte[]> receive(ZMQ.Socket from) {
        byte[] frame = from.recv(ZMQ.DONTWAIT);
        if (frame == null) {
            return null;
        }
        List<byte[]> frames = new ArrayList<>();
        frames.add(frame);
        while (from.hasReceiveMore()) {
            frames.add(from.recv());
        }
        return frames;
    }

    private ZMQ.Socket open(SocketType type, List<ZMQ.Socket> opened) {
        ZMQ.Socket one = context.socket(type);
        one.setLinger(0);
        opened.add(one);
        return one;
    }

    private ZMQ.Socket openGuard(List<ZMQ.Socket> opened) {
        ZMQ.Socket one = open(SocketType.ROUTER, opened);
        one.bind("inproc://zeromq.zap.01");
        return one;
    }

    private ZMQ.Socket openRouter(List<ZMQ.Socket> opened) {
        ZMQ.Socket one = open(SocketType.ROUTER, opened);
        one.setLinger(options.linger.toMillis());
        one.setSndHWM(REPLIES_QUEUED_MAX);
        one.setMaxMsgSize(REQUEST_BYTES_MAX);
        one.setRouterMandatory(true); // otherwise a reply that cannot be queued is dropped silently
        if (options.curve != null) {
            options.curve.serve(one);
        }
        one.bind(options.replayEndpoint);
        return one;
    }

    private void openLink(String address, List<ZMQ.Socket> opened) {
        ZMQ.Socket socket = open(SocketType.XPUB, opened);
        socket.setLinger(options.linger.toMillis());
        socket.setSndHWM(options.highWaterMark);
        // Without the first a socket at its high-water mark drops messages silently; without the second another subscriber to
        // the same topics, or one that subscribes again, is not noticed.
        socket.setXpubNoDrop(true);
        socket.setXpubVerbose(true);
        // JeroMQ 0.6 sometimes does not poll a connection that it has just made (its pull request 1022): it notices neither
        // answer nor end. Its timer of the handshake then closes and reconnects, after 30 s by default. But bytes without
        // ZMTP's signature would stop that timer, for good: with a domain, JeroMQ refuses what does not speak ZMTP 3.
        socket.setHandshakeIvl(HANDSHAKE_MS);
        socket.setZapDomain("bus");
        if (options.bind) {
            if (options.curve != null) {
                options.curve.serve(socket);
            }
            socket.bind(address);
            links.add(new Link(address, socket, null));
            return;
        }
        if (options.curve != null) {
            options.curve.approach(socket);
        }
        String events = "inproc://monitor-" + links.size();
        ZMQ.Socket monitor = open(SocketType.PAIR, opened);
        socket.monitor(events, Link.TRIED | ZMQ.EVENT_DISCONNECTED);
        monitor.connect(events);
        socket.connect(address);
        links.add(new Link(address, socket, monitor));
    }
}
