"""
The SQL side: connect, reflect, read pages of rows with their versions; nothing is written.
"""
