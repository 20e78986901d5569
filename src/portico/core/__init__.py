"""PEP 3333, once for all protocols; knows no protocol and no socket."""
