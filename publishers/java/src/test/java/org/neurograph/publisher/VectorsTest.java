package org.neurograph.publisher;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** The encoded bytes equal the shared vectors. */
class VectorsTest {
    private static JsonObject vectors(String name) throws IOException {
        return JsonParser.parseString(Files.readString(Path.of("../conformance/vectors/" + name + ".json")))
                .getAsJsonObject();
    }

    private static byte[] bytes(JsonElement hex) {
        return HexFormat.of().parseHex(hex.getAsString());
    }

    private static List<byte[]> frames(JsonArray list) {
        List<byte[]> frames = new ArrayList<>();
        list.forEach(frame -> frames.add(bytes(frame)));
        return frames;
    }

    private static String text(JsonObject object, String name) {
        return object.get(name).isJsonNull() ? null : object.get(name).getAsString();
    }

    @Test
    void envelopes() throws IOException {
        for (JsonElement one : vectors("envelope").getAsJsonArray("valid")) {
            JsonObject vector = one.getAsJsonObject();
            byte[] packed = Wire.packEnvelope(
                    Integer.parseUnsignedInt(text(vector, "flags")),
                    Long.parseUnsignedLong(text(vector, "incarnation")),
                    Long.parseUnsignedLong(text(vector, "sequence")),
                    Long.parseUnsignedLong(text(vector, "time_ns")));
            assertArrayEquals(bytes(vector.get("hex")), packed, text(vector, "name"));
        }
    }

    @Test
    void heartbeats() throws IOException {
        for (JsonElement one : vectors("heartbeat").getAsJsonArray("valid")) {
            JsonObject about = one.getAsJsonObject().getAsJsonObject("publisher");
            JsonArray messages = one.getAsJsonObject().getAsJsonArray("messages");
            Map<String, Long> sequences = new LinkedHashMap<>();
            about.getAsJsonObject("sequences").asMap().forEach((name, last) -> sequences.put(name, last.getAsLong()));
            List<byte[]> payloads = new Wire.About(
                            Long.parseUnsignedLong(text(about, "incarnation"), 16),
                            text(about, "name"),
                            text(about, "replay"),
                            text(about, "replay_key"))
                    .heartbeats(about.get("interval").getAsDouble(), sequences);
            assertEquals(messages.size(), payloads.size());
            for (int at = 0; at < payloads.size(); at++) {
                byte[] expected = bytes(messages.get(at).getAsJsonArray().get(1));
                assertEquals(
                        JsonParser.parseString(new String(expected, StandardCharsets.UTF_8)),
                        JsonParser.parseString(new String(payloads.get(at), StandardCharsets.UTF_8)));
            }
        }
    }

    @Test
    void replies() throws IOException {
        JsonObject vectors = vectors("replay");
        Store store = new Store(1000);
        for (JsonElement one : vectors.getAsJsonArray("messages")) {
            byte[] envelope = bytes(one.getAsJsonObject().get("envelope"));
            byte[] payload = bytes(one.getAsJsonObject().get("payload"));
            store.append("metrics", ByteBuffer.wrap(envelope).getLong(16), payload, envelope);
        }
        for (JsonElement one : vectors.getAsJsonArray("exchanges")) {
            JsonObject exchange = one.getAsJsonObject();
            Wire.Request request = Wire.Request.parse(frames(exchange.getAsJsonArray("request")));
            List<byte[]> reply = request.reply(
                    Long.parseUnsignedLong(text(vectors, "incarnation"), 16),
                    store.read(request.topic(), request.first(), request.last()));
            List<byte[]> expected = frames(exchange.getAsJsonArray("reply"));
            assertArrayEquals(expected.toArray(), reply.toArray(), text(exchange, "name"));
        }
        for (JsonElement one : vectors.getAsJsonArray("invalid")) {
            JsonObject invalid = one.getAsJsonObject();
            assertNull(Wire.Request.parse(frames(invalid.getAsJsonArray("request"))), text(invalid, "name"));
        }
    }

    @Test
    void topics() throws IOException {
        JsonObject vectors = vectors("topics");
        vectors.getAsJsonArray("valid").forEach(topic -> Wire.checkTopic(topic.getAsString()));
        for (JsonElement topic : vectors.getAsJsonArray("invalid")) {
            assertThrows(PublisherException.class, () -> Wire.checkTopic(topic.getAsString()), topic.getAsString());
        }
    }

    @Test
    void whatIsNoJsonIsRefused() {
        for (Object data : List.of(Double.NaN, Map.of("a", Float.POSITIVE_INFINITY))) {
            assertThrows(PublisherException.class, () -> Wire.encode("a", data));
        }
        for (String text : List.of("", "{", "NaN", "1 2", "{a:1}", "[1,]", "'a'", "tru")) {
            assertThrows(PublisherException.class, () -> Wire.checkJson("a", text), text);
        }
        Wire.checkJson("a", " {\"a\": [1.5e3, null, \"\\u00e4\"]} ");
    }
}
