module neurograph/publisher/conformance

go 1.24.0

replace neurograph/publisher => ../

require (
	github.com/go-zeromq/zmq4 v0.17.0
	neurograph/publisher v0.0.0-00010101000000-000000000000
)

require (
	github.com/go-zeromq/goczmq/v4 v4.2.2 // indirect
	golang.org/x/crypto v0.43.0 // indirect
	golang.org/x/sync v0.17.0 // indirect
	golang.org/x/sys v0.37.0 // indirect
	golang.org/x/text v0.30.0 // indirect
)
