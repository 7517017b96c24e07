"""The program in a cluster: real etcd, API server, istiod, Envoy and Pebble, without containers."""
