"""The ACME protocol (RFC 8555) as a client: what to say to a CA and what its answers mean.

transport.py moves bytes, session.py speaks signed requests, account.py and order.py are the two
resources a certificate needs. It knows nothing of Secrets, targets or plans.
"""
