package org.neurograph.publisher;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonParseException;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.IOException;
import java.io.StringReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/** The format of messages on the bus, and the checks of what is published (docs/protocol.md, part 1). */
final class Wire {
    static final byte[] HEARTBEAT = bytes("$heartbeat");
    private static final int TOPICS_PER_HEARTBEAT = 1000;
    private static final byte[] REPLAY = bytes("NGR1");
    private static final Set<String> STANDARD =
            Set.of("metrics", "signals", "actions", "logs", "status", "connections");
    private static final Pattern TOPIC = Pattern.compile("[A-Za-z0-9_-]+(?:\\.[A-Za-z0-9_-]+)*");
    private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    private Wire() {}

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void checkTopic(String topic) {
        if (topic == null || topic.length() > 128 || !TOPIC.matcher(topic).matches()) {
            throw new PublisherException(
                    "\"" + topic + "\" is not a topic: segments of [A-Za-z0-9_-] joined by dots, at most 128 bytes");
        }
    }

    static void checkNotStandard(String topic) {
        if (STANDARD.contains(topic)) {
            throw new PublisherException(topic + ": a standard channel has typed JSON; publish bytes on another topic");
        }
    }

    static void checkEventType(String eventType) {
        if (eventType == null || eventType.isEmpty() || eventType.codePointCount(0, eventType.length()) > 128) {
            throw new PublisherException("event_type: \"" + eventType + "\" is not text of 1 to 128 characters");
        }
    }

    /** JSON of data; what has none, as NaN, is refused. */
    static byte[] encode(String topic, Object data) {
        try {
            return bytes(GSON.toJson(data));
        } catch (IllegalArgumentException | UnsupportedOperationException | JsonParseException error) {
            throw new PublisherException(topic + ": " + error.getMessage(), error);
        }
    }

    static void checkJson(String topic, String text) {
        try (JsonReader reader = new JsonReader(new StringReader(text))) {
            reader.setStrictness(Strictness.STRICT);
            reader.skipValue();
            if (reader.peek() != JsonToken.END_DOCUMENT) {
                throw new IOException("more than one value");
            }
        } catch (IOException | IllegalStateException error) {
            throw new PublisherException(topic + ": this is no JSON: " + error.getMessage(), error);
        }
    }

    /** Return the 32 bytes of an envelope; all numbers are unsigned. */
    static byte[] packEnvelope(int flags, long incarnation, long sequence, long timeNs) {
        ByteBuffer frame = ByteBuffer.allocate(32);
        return frame.put(bytes("NGE1")).putInt(flags).putLong(incarnation).putLong(sequence).putLong(timeNs).array();
    }

    /** The content of heartbeats. */
    record About(long incarnation, String name, String replay, String replayKey) {
        /** Return the second frames of one heartbeat: one message for every 1,000 topics. */
        List<byte[]> heartbeats(double interval, Map<String, Long> sequences) {
            List<Map.Entry<String, Long>> topics = new ArrayList<>(sequences.entrySet());
            List<byte[]> payloads = new ArrayList<>();
            for (int at = 0; at == 0 || at < topics.size(); at += TOPICS_PER_HEARTBEAT) {
                int end = Math.min(at + TOPICS_PER_HEARTBEAT, topics.size());
                Map<String, Long> part = new LinkedHashMap<>();
                topics.subList(at, end).forEach(topic -> part.put(topic.getKey(), topic.getValue()));
                Map<String, Object> beat = new LinkedHashMap<>();
                beat.put("incarnation", hex());
                beat.put("name", name);
                beat.put("interval", interval);
                beat.put("replay", replay);
                if (replayKey != null) {
                    beat.put("replay_key", replayKey);
                }
                beat.put("sequences", part);
                if (end < topics.size()) {
                    beat.put("more", true);
                }
                payloads.add(encode("heartbeat", beat));
            }
            return payloads;
        }

        String hex() {
            return String.format("%016x", incarnation);
        }
    }

    /** A replay request; {@code number} identifies it for the gateway, {@code first} and {@code last} are unsigned. */
    record Request(byte[] number, String topic, long first, long last) {
        /** Read a request from the frames behind the identity; null if they are none. */
        static Request parse(List<byte[]> frames) {
            if (frames.size() != 4 || !Arrays.equals(frames.get(0), REPLAY)) {
                return null;
            }
            if (frames.get(1).length != 8 || frames.get(3).length != 16) {
                return null;
            }
            ByteBuffer range = ByteBuffer.wrap(frames.get(3));
            return new Request(
                    frames.get(1), new String(frames.get(2), StandardCharsets.UTF_8), range.getLong(), range.getLong());
        }

        List<byte[]> reply(long incarnation, List<byte[]> pairs) {
            List<byte[]> frames = new ArrayList<>();
            frames.add(REPLAY);
            frames.add(number);
            frames.add(ByteBuffer.allocate(8).putLong(incarnation).array());
            frames.addAll(pairs);
            return frames;
        }
    }
}
