"""
The whole of a backfill on a sample database and a private redis-server, compared independently.
"""
