"""WSGI applications that come with Portico."""
