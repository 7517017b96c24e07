"""The ports that others connect to: the challenge port, and health for the cluster."""
