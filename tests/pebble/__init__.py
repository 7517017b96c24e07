"""The real program against a real CA, Pebble, and where a test says so behind a real Envoy."""
