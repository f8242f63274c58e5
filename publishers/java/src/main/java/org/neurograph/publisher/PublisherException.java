package org.neurograph.publisher;

/** An invalid argument or event; the message says why. Nothing was sent, and no number was used. */
public final class PublisherException extends RuntimeException {
    private static final long serialVersionUID = 1;

    public PublisherException(String message) {
        super(message);
    }

    public PublisherException(String message, Throwable cause) {
        super(message, cause);
    }
}
