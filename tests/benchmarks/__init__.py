"""
How fast a backfill and a verification are, beside other ways to load the same records.

`make bench` runs it; no test asserts a time. How to read the figures is in `docs/speed.md`.
"""
