"""The world in memory: implementations of the ports that run on a virtual clock."""
