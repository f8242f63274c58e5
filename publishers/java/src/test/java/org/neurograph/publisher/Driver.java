package org.neurograph.publisher;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Stream;
import org.zeromq.SocketType;
import org.zeromq.ZMQ;

/** The Java publisher, with a driver that reads commands as lines of JSON: see publishers/conformance. */
public final class Driver {
    private static final Gson GSON = new GsonBuilder().serializeNulls().create();
    private Publisher publisher;
    private ZMQ.Socket bare;

    public static void main(String[] arguments) throws Exception {
        Driver driver = new Driver();
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Map<String, Object> answer = new LinkedHashMap<>();
            try {
                answer.put("ok", driver.carryOut(JsonParser.parseString(line).getAsJsonObject()));
            } catch (PublisherException error) {
                answer.put("error", error.getMessage());
            }
            out.println(GSON.toJson(answer));
        }
        if (driver.publisher != null) {
            driver.publisher.close();
        }
    }

    private Object carryOut(JsonObject c) throws Exception {
        String topic = text(c, "topic");
        switch (text(c, "do")) {
            case "open":
                return open(c);
            case "wait":
                return publisher.waitForSubscriber(Duration.ofNanos((long) (c.get("seconds").getAsDouble() * 1e9)));
            case "kind":
                return kind(text(c, "kind"), c.getAsJsonObject("fields"));
            case "publish":
                return c.has("event_type")
                        ? publisher.publishEvent(topic, text(c, "event_type"), c.get("data"))
                        : publisher.publish(topic, c.get("data"));
            case "raw":
                return publisher.publishJson(topic, text(c, "json"));
            case "bytes":
                return publisher.publishBytes(topic, HexFormat.of().parseHex(text(c, "hex")), text(c, "content_type"));
            case "unencodable":
                return publisher.publish(topic, Map.of("a", Double.NaN));
            case "burst":
                return burst(topic, c.get("count").getAsInt(), c.get("bytes").getAsInt());
            case "counts":
                return publisher.counts();
            case "pack":
                return HexFormat.of().formatHex(Wire.packEnvelope(
                        Integer.parseUnsignedInt(text(c, "flags")),
                        Long.parseUnsignedLong(text(c, "incarnation")),
                        Long.parseUnsignedLong(text(c, "sequence")),
                        Long.parseUnsignedLong(text(c, "time_ns"))));
            case "bench":
                return bench(topic, c.get("count").getAsInt(), JsonParser.parseString(text(c, "json")));
            case "bare_open":
                bare = ZMQ.context(1).socket(SocketType.PUB);
                bare.setSndHWM(0);
                bare.setLinger(0);
                return bare.connect(text(c, "endpoint"));
            case "bare":
                return bare(topic, c.get("count").getAsInt(), text(c, "json"));
            case "close":
                publisher.close();
                return true;
            default:
                throw new PublisherException("no such command: " + c);
        }
    }

    private static Options connect(JsonElement endpoints) {
        if (!endpoints.isJsonArray()) {
            return Options.connect(endpoints.getAsString());
        }
        String[] several = GSON.fromJson(endpoints, String[].class);
        return Options.connect(several[0], Arrays.copyOfRange(several, 1, several.length));
    }

    private Object open(JsonObject c) throws IOException {
        Options options = c.has("bind") ? Options.bind(text(c, "bind")) : connect(c.get("connect"));
        if (c.has("high_water_mark")) {
            options.highWaterMark(c.get("high_water_mark").getAsInt());
        }
        if (c.has("linger_seconds")) {
            options.linger(Duration.ofNanos((long) (c.get("linger_seconds").getAsDouble() * 1e9)));
        }
        if (c.has("heartbeat_seconds")) {
            options.heartbeat(Duration.ofNanos((long) (c.get("heartbeat_seconds").getAsDouble() * 1e9)));
        }
        if (c.has("name")) {
            options.name(text(c, "name"));
        }
        if (c.has("replay")) {
            options.replay(c.get("replay").getAsInt());
        }
        if (c.has("curve")) {
            JsonObject curve = c.getAsJsonObject("curve");
            Path gateways = Path.of(text(curve, "gateways_file"));
            Path[] files = {gateways};
            if (Files.isDirectory(gateways)) {
                try (Stream<Path> found = Files.list(gateways)) {
                    files = found.toArray(Path[]::new);
                }
            }
            options.curve(Curve.fromFiles(Path.of(text(curve, "key_file")), files));
        }
        publisher = new Publisher(options);
        Map<String, Object> opened = new LinkedHashMap<>();
        opened.put("incarnation", publisher.incarnation());
        opened.put("endpoint", publisher.endpoint());
        opened.put("replay", publisher.replayAddress());
        return opened;
    }

    private boolean kind(String kind, JsonObject given) {
        Map<String, JsonElement> fields = new LinkedHashMap<>(given.asMap());
        String[] positional = new String[6];
        String[] names = {"kind", "level", "message", "state", "change", "client_id"};
        for (int at = 0; at < names.length; at++) {
            JsonElement value = fields.remove(names[at]);
            positional[at] = value == null ? null : value.getAsString();
        }
        switch (kind) {
            case "metrics":
                return publisher.metrics(fields);
            case "signal":
                return publisher.signal(positional[0], fields);
            case "action":
                return publisher.action(positional[0], fields);
            case "log":
                return publisher.log(positional[1], positional[2], fields);
            case "status":
                return publisher.status(positional[3], fields);
            default:
                return publisher.connection(positional[4], positional[5], fields);
        }
    }

    private Object burst(String topic, int count, int bytes) {
        Publisher.Counts before = publisher.counts();
        for (int n = 0; n < count; n++) {
            int empty = ("{\"n\":" + n + ",\"fill\":\"\"}").length();
            Map<String, Object> data = new LinkedHashMap<>();
            data.put("n", n);
            data.put("fill", "x".repeat(Math.max(bytes - empty, 0)));
            publisher.publish(topic, data);
        }
        Publisher.Counts after = publisher.counts();
        return Map.of(
                "published", after.published() - before.published(), "dropped", after.dropped() - before.dropped());
    }

    private double bench(String topic, int count, JsonElement data) {
        long began = System.nanoTime();
        for (int n = 0; n < count; n++) {
            publisher.publish(topic, data);
        }
        return (System.nanoTime() - began) / 1e9;
    }

    private double bare(String topic, int count, String json) {
        byte[] name = Wire.bytes(topic);
        byte[] payload = Wire.bytes(json);
        byte[] envelope = new byte[32];
        long began = System.nanoTime();
        for (int n = 0; n < count; n++) {
            bare.send(name, ZMQ.SNDMORE);
            bare.send(payload, ZMQ.SNDMORE);
            bare.send(envelope, 0);
        }
        return (System.nanoTime() - began) / 1e9;
    }

    private static String text(JsonObject object, String name) {
        return object.has(name) ? object.get(name).getAsString() : null;
    }
}
