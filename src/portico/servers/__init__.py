"""Real web servers: their configuration, and starting one."""
