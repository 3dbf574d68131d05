"""
Files that people write, read strictly: YAML with positions, and models that say where they fail.
"""
