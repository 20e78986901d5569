"""Where bytes come from; knows no protocol."""
