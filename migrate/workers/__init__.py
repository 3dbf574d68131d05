"""
Executors: who runs the partitions of a run. Today processes of this machine.
"""
