"""The whole service on a virtual clock: the real controller between simulated ports."""
