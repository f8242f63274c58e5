package org.neurograph.publisher;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import org.junit.jupiter.api.Test;

/** JeroMQ may hang in a connection whose other end does not speak ZMTP 3: a publisher leaves such connections. */
class ForeignPeerTest {
    private static ServerSocket listen() throws IOException {
        return new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    }

    private static Publisher connect(ServerSocket server) {
        return new Publisher(Options.connect("tcp://127.0.0.1:" + server.getLocalPort()));
    }

    @Test
    void silenceIsLeftBeforeAUserGivesUp() throws IOException {
        try (ServerSocket server = listen(); Publisher publisher = connect(server)) {
            server.accept();
            server.setSoTimeout(20_000); // JeroMQ's own limit is 30 s
            server.accept().close();
        }
    }

    @Test
    void theOldestZmtpIsLeft() throws IOException {
        try (ServerSocket server = listen(); Publisher publisher = connect(server); Socket peer = server.accept()) {
            peer.setSoTimeout(60_000);
            peer.getOutputStream().write(new byte[] {1, 0}); // ZMTP 1: no identity
            peer.getInputStream().readNBytes(10); // the publisher's signature
            assertEquals(-1, peer.getInputStream().read());
        }
    }
}
