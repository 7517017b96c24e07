"""The embedded default: the ports over folders, without a cluster.

manifests.py reads what users declare, state.py keeps what acmeistio writes, outputs.py turns
Secrets into PEM pairs and Envoy SDS files, folder.py joins them as the port Objects, lock.py is
Leadership for one process per folder.
"""
