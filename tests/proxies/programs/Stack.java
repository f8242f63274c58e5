// Asks a gateway as Java's own client does: with `Upgrade: h2c`, as it prefers HTTP/2.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;

class Stack {
    public static void main(String[] given) throws Exception {
        String base = given[0];
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 3; i < given.length; i += 2) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(base + given[i])).build();
            System.out.println(given[i - 1] + " " + client.send(request, BodyHandlers.ofString()).statusCode());
        }
        HttpRequest post = HttpRequest.newBuilder(URI.create(base + "/api/v1/websocket/broadcast"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(given[1]))
            .build();
        System.out.println("POST " + client.send(post, BodyHandlers.ofString()).statusCode());
        HttpRequest stream = HttpRequest.newBuilder(URI.create(base + "/events?channels=stack")).build();
        var answer = client.send(stream, BodyHandlers.ofInputStream());
        String line = new BufferedReader(new InputStreamReader(answer.body())).readLine();
        System.out.println("SSE " + (line.equals("event: connected") ? answer.statusCode() : line));
        CompletableFuture<String> first = new CompletableFuture<>();
        client.newWebSocketBuilder().buildAsync(URI.create(base.replace("http", "ws") + "/ws"), new WebSocket.Listener() {
            @Override
            public CompletionStage<?> onText(WebSocket socket, CharSequence text, boolean isLast) {
                first.complete(text.toString().contains("connected") ? "101" : text.toString());
                return null;
            }
        }).get();
        System.out.println("WebSocket " + first.get(30, TimeUnit.SECONDS));
        System.exit(0); // the stream is still open
    }
}
