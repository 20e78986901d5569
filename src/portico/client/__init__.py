"""Talks to an application server as a web server would."""
