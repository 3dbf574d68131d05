"""
Files, environment and flags become one frozen value.

Connects to nothing: whether a server answers is asked by `doctor`.
"""
