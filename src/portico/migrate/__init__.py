"""Reads the configuration of other servers, and says what it is in Portico's terms.

What is read is data: nothing of it is executed, imported or expanded.
"""
