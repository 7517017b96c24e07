"""Objects in a cluster: the port Objects over the Kubernetes API, and Events.

    connection    where the API server is, and who we are        resources   where a kind is served
    client        one request, or one stream; refusals its errors
    following     the states of a list-watch (pure)               follower    what carries them out
    stream        the lines of a watch as happenings (pure)
    groups        which groups of the API are served
    collection    what is known of some objects, our own writes among it (pure)
    objects       the port                                    events      on users' objects
    leadership    for one replica

Only here the Kubernetes library is known, and of it only what it says about configuration and
connections: its typed API costs memory for nothing that is needed, and its watch stays silent
about changes after 410 and never ends when nothing comes.
"""
