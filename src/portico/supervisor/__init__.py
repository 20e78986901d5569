"""The processes of one service."""
