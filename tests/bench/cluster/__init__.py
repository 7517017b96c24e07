"""How quick acmeistio is in a cluster, and what it costs there; the bed is that of the tests.

served.py: from `kubectl apply` to the gateway. many.py: 200 certificates, memory, requests.
declared.py: 2,620 objects (crowd.py) of which few ask: a change, a start, memory, requests.
gateway_cost.py: what the permanent routes cost everybody else.
"""
