"""
The Redis side: connect and detect, compare-and-set scripts, fence, health.

Moves batches of records and reads what a server says of itself; knows nothing of SQL or of files.
"""
