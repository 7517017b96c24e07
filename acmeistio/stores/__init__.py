"""What acmeistio keeps, as Kubernetes objects: written once, over the port Objects.

secrets.py holds the certificates that users see, accounts.py the keys of accounts, memory.py the
Ledger and the keys of open orders. They know objects and annotations; where the objects lie
(API server, folder) is behind the port, and what to write is decided elsewhere.
"""
