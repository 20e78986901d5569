"""flup's clients: WSGI applications that ask a FastCGI or SCGI server."""
