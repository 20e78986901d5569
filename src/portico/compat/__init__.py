"""The interfaces of others, over Portico's parts."""
