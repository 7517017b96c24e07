"""What to do now, and why. Pure: values in, values out, `now` passed in.

merge.py makes one spec per target out of many declarations, decide.py compares it with what is
stored, plan.py does both for all targets; renewal.py and backoff.py are their arithmetic,
ledger.py is what must survive a restart.
"""
