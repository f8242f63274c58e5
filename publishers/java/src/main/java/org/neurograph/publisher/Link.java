package org.neurograph.publisher;

import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.zeromq.ZMQ;

/** The XPUB of one endpoint, with its own queue: a gateway that does not read does not affect the others. */
final class Link {
    static final int TRIED = ZMQ.EVENT_CONNECTED | ZMQ.EVENT_CONNECT_RETRIED;
    private static final long MEND_NS = 1_000_000_000;

    final String address;
    /** Under the publisher's lock. */
    final ZMQ.Socket socket;
    /** Null if others connect here; used by the publisher's thread alone. */
    final ZMQ.Socket monitor;

    private final Set<String> subscribed = new HashSet<>();
    private long givenUpNs;

    Link(String address, ZMQ.Socket socket, ZMQ.Socket monitor) {
        this.address = address;
        this.socket = socket;
        this.monitor = monitor;
    }

    boolean isSubscribed() {
        return !subscribed.isEmpty();
    }

    /** Read subscriptions; return whether there is a new one. */
    boolean readSubscriptions() {
        boolean isNew = false;
        while ((socket.getEvents() & ZMQ.Poller.POLLIN) != 0) {
            byte[] message = socket.recv(ZMQ.DONTWAIT);
            if (message == null) {
                break;
            }
            if (message.length == 0) {
                continue; // not a subscription: the peer does not speak ZeroMQ
            }
            String prefix = new String(message, 1, message.length - 1, StandardCharsets.ISO_8859_1);
            if (message[0] == 1) {
                isNew = true;
                subscribed.add(prefix);
            } else if (message[0] == 0) {
                subscribed.remove(prefix);
            }
        }
        return isNew;
    }

    /** Connect again if the library has stopped trying, as it may when the other end refuses a handshake. */
    void mend() {
        if (monitor == null) {
            return;
        }
        for (ZMQ.Event event = ZMQ.Event.recv(monitor, ZMQ.DONTWAIT); event != null; event = ZMQ.Event.recv(monitor, ZMQ.DONTWAIT)) {
            givenUpNs = event.getEvent() == ZMQ.EVENT_DISCONNECTED ? System.nanoTime() : 0;
        }
        if (givenUpNs != 0 && System.nanoTime() - givenUpNs >= MEND_NS) {
            givenUpNs = 0;
            socket.disconnect(address);
            socket.connect(address);
        }
    }

    /** Send a message; return false if a subscriber is at the high-water mark. */
    boolean send(List<byte[]> frames) {
        return sendFrames(socket, frames);
    }

    static boolean sendFrames(ZMQ.Socket to, List<byte[]> frames) {
        for (int at = 0; at < frames.size(); at++) {
            int flags = ZMQ.DONTWAIT | (at + 1 < frames.size() ? ZMQ.SNDMORE : 0);
            if (!to.send(frames.get(at), flags)) {
                return false;
            }
        }
        return true;
    }
}
