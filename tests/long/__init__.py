"""
Tests that take minutes: a million rows, kills at random moments.
"""
