"""The local ACME CA of tests and demo: start it, configure it, and show acmeistio with it.

Everything here is for work on one machine: loopback only, nothing of it is installed.
local_ca.py is for tests and scripts; run and demo are for people.
"""
