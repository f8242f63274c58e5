package org.neurograph.publisher;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.zeromq.ZMQ;

/**
 * Keys in Z85, as in the files that {@code gateway keys} makes. {@code gateways} has, to connect, the gateway's public
 * key; to bind, those of all gateways that may connect.
 */
public record Curve(String publicKey, String secretKey, List<String> gateways) {
    /** Read this publisher's key file, NAME.key_secret, and the gateways', NAME.key. */
    public static Curve fromFiles(Path own, Path... gateways) {
        return new Curve(
                read(own, "public-key"),
                read(own, "secret-key"),
                Arrays.stream(gateways).map(path -> read(path, "public-key")).toList());
    }

    private static String read(Path path, String name) {
        try {
            Matcher found = Pattern.compile("(?m)^\\s*" + name + "\\s*=\\s*\"(.{40})\"").matcher(Files.readString(path));
            if (found.find()) {
                return found.group(1);
            }
        } catch (IOException error) {
            throw new PublisherException(path + ": " + error.getMessage(), error);
        }
        throw new PublisherException(path + " holds no " + name);
    }

    void serve(ZMQ.Socket socket) {
        socket.setCurveServer(true);
        socket.setCurvePublicKey(ZMQ.Curve.z85Decode(publicKey));
        socket.setCurveSecretKey(ZMQ.Curve.z85Decode(secretKey));
        socket.setZapDomain("bus");
    }

    void approach(ZMQ.Socket socket) {
        if (gateways.size() != 1) {
            throw new PublisherException("curve: to connect, name one gateway's key, not " + gateways.size());
        }
        socket.setCurveServerKey(ZMQ.Curve.z85Decode(gateways.get(0)));
        socket.setCurvePublicKey(ZMQ.Curve.z85Decode(publicKey));
        socket.setCurveSecretKey(ZMQ.Curve.z85Decode(secretKey));
    }
}
