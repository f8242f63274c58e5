package org.neurograph.publisher;

/** Something that a publisher cannot take; the message says why. Nothing was sent, and no number used. */
public final class PublisherException extends RuntimeException {
    private static final long serialVersionUID = 1;

    public PublisherException(String message) {
        super(message);
    }

    public PublisherException(String message, Throwable cause) {
        super(message, cause);
    }
}
