// Asks a gateway as Go's net/http does.
package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
)

func main() {
	base, body := os.Args[1], os.Args[2]
	for i := 3; i+1 < len(os.Args); i += 2 {
		answer, err := http.Get(base + os.Args[i+1])
		tell(os.Args[i], answer, err)
		answer.Body.Close()
	}
	answer, err := http.Post(base+"/api/v1/websocket/broadcast", "application/json", strings.NewReader(body))
	tell("POST", answer, err)

	answer, err = http.Get(base + "/events?channels=stack")
	if line, _ := bufio.NewReader(answer.Body).ReadString('\n'); line != "event: connected\n" {
		err = fmt.Errorf("%q", line)
	}
	tell("SSE", answer, err)

	request, _ := http.NewRequest("GET", base+"/ws", nil)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		request.Header.Set(name, value)
	}
	answer, err = http.DefaultClient.Do(request)
	tell("WebSocket", answer, err)
}

func tell(what string, answer *http.Response, err error) {
	if err != nil {
		fmt.Println(what, err)
		os.Exit(1)
	}
	fmt.Println(what, answer.StatusCode)
}
