package org.neurograph.publisher;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The newest messages of each topic; beyond 10,000 topics or 128 MiB the least recently used topic is dropped. */
final class Store {
    private static final int MIB = 1024 * 1024;
    private static final int OVERHEAD_BYTES = 256; // the memory of a message besides its payload
    private static final int PAIRS_PER_REPLY = 256;

    private record Message(long sequence, byte[] payload, byte[] envelope) {
        int bytes() {
            return payload.length + OVERHEAD_BYTES;
        }
    }

    private static final class Topic {
        final ArrayDeque<Message> messages = new ArrayDeque<>();
        long bytes;
    }

    private final int messagesMax;
    private final Map<String, Topic> topics = new LinkedHashMap<>(16, 0.75f, true); // the least recently used first
    private long bytes;

    Store(int messagesMax) {
        this.messagesMax = messagesMax;
    }

    void append(String name, long sequence, byte[] payload, byte[] envelope) {
        Topic topic = topics.computeIfAbsent(name, unused -> new Topic());
        Message message = new Message(sequence, payload, envelope);
        topic.messages.add(message);
        count(topic, message.bytes());
        while (topic.messages.size() > messagesMax || topic.bytes > 16L * MIB) {
            count(topic, -topic.messages.remove().bytes());
        }
        Iterator<Topic> least = topics.values().iterator();
        while (topics.size() > 10_000 || bytes > 128L * MIB) {
            bytes -= least.next().bytes;
            least.remove();
        }
    }

    /** Return payload, envelope, payload, envelope… from first to last, unsigned: as much as fits into one reply. */
    List<byte[]> read(String name, long first, long last) {
        List<byte[]> pairs = new ArrayList<>();
        Topic topic = topics.get(name);
        if (topic == null) {
            return pairs;
        }
        long left = MIB;
        for (Message message : topic.messages) {
            if (Long.compareUnsigned(message.sequence, first) < 0) {
                continue;
            }
            left -= message.payload.length;
            boolean isFull = pairs.size() == 2 * PAIRS_PER_REPLY || (!pairs.isEmpty() && left < 0);
            if (isFull || Long.compareUnsigned(message.sequence, last) > 0) {
                break;
            }
            pairs.add(message.payload);
            pairs.add(message.envelope);
        }
        return pairs;
    }

    private void count(Topic topic, int more) {
        topic.bytes += more;
        bytes += more;
    }
}
