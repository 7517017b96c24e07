"""acmeistio's own challenge URL, asked through a gateway: whether a CA would get the answer.

hops goes the way and is the only module here that speaks HTTP; verdict says what it means, owners
which object of a user the host belongs to. Whether an order waits for a verdict is not decided
here.
"""
